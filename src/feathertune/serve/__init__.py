"""Bundles behind HTTP: one encoder in memory, the texts of all clients in common passes.

Needs the extra ``serve``. `models` holds bundles that share an encoder, `batcher` decides whose texts go into the next
pass, `app` speaks HTTP, `server` listens and stops. Not for one program that labels its own texts:
`feathertune.load(bundle).predict` does that with less.
"""
