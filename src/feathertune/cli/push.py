"""``feathertune push``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.cli.predict import BaseOption, BundleArgument


def push(
    bundle: BundleArgument,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME; made where it does not exist.")],
    revision: Annotated[str, typer.Option("--revision", help="The branch; made where it does not exist.")] = "main",
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone see a repository that is made by this; else it is private.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
    base: BaseOption = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Upload a bundle to the hub, as one commit, after it was loaded as a check.

    The token is that of `hf auth login`, or HF_TOKEN. Files of an older bundle in the repository are replaced; one that
    holds anything else is left alone.
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
    sys.stdout.write(f"Fetch it: hf download {repo_id} --revision {pushed.commit} --local-dir FOLDER\n")
