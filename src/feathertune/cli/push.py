"""``feathertune push``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.predict import BaseOption, BundleArgument


def push(
    bundle: BundleArgument,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="Repository, OWNER/NAME; created if missing.")],
    revision: Annotated[str, typer.Option("--revision", help="Branch; created if missing.")] = "main",
    public: Annotated[bool, typer.Option("--public", help="Create a public repository; private by default.")] = False,
    message: Annotated[str | None, typer.Option("--message", help="Commit message.")] = None,
    base: BaseOption = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Upload a bundle to the hub as one commit, after loading it as a check.

    Uses the token of `hf auth login`, or HF_TOKEN. Replaces an older bundle in the repository, and refuses a repository
    that holds anything else.
    """
    from feathertune.bundle.push import push_bundle

    pushed = push_bundle(bundle, repo_id, revision=revision, public=public, message=message, base=base)
    for note in pushed.notes:
        sys.stderr.write(f"{note}\n")
    if json:
        import dataclasses
        import json as jsonlib

        sys.stdout.write(jsonlib.dumps(dataclasses.asdict(pushed), indent=1) + "\n")
        return
    sys.stdout.write(f"{pushed.files} files at {pushed.url}, {pushed.revision}, commit {pushed.commit}\n")
    sys.stdout.write(f"Download: hf download {repo_id} --revision {pushed.commit} --local-dir FOLDER\n")
