"""Serve bundles over HTTP: one encoder in memory, the texts of all clients in common passes.

Needs the extra ``serve``. `models` holds bundles that share an encoder, `batcher` chooses the texts of the next pass,
`app` speaks HTTP, `server` listens and stops.
"""
