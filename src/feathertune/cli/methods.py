"""``feathertune methods``: list all methods, or show one on a base model."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated

import typer

from feathertune.baselines import BASELINES
from feathertune.cli import options as opt
from feathertune.methods import METHODS, one_method
from feathertune.methods.describe import traits


def list_methods(json: opt.Json = False) -> None:
    """List all methods and baselines, with sources."""
    if json:
        rows = [vars(traits(method)) for method in METHODS]
        rows += [{"name": b.name, "kind": b.kind, "summary": b.summary, "source": b.source} for b in BASELINES]
        sys.stdout.write(jsonlib.dumps(rows, indent=1) + "\n")
        return
    from feathertune.cli.output.method_tables import methods_text

    sys.stdout.write(methods_text())


def methods(context: typer.Context, json: opt.Json = False) -> None:
    """List all methods and baselines, with sources; `methods show NAME` describes one."""
    if context.invoked_subcommand is None:
        list_methods(json)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Method from `feathertune methods`, e.g. lora.")],
    base: opt.Base = None,
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    top_layers: opt.TopLayers = None,
    match_parameters: opt.MatchParameters = None,
    max_length: opt.MaxLength = None,
    labels: Annotated[int, typer.Option("--labels", min=2, help="Number of classes, which sets the head's size.")] = 2,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Describe a method: its options, the modules it adapts, and its number of trained parameters.

    Nothing is trained and no data is read.
    """
    given = locals()
    method = one_method(name)  # refuse an unknown method before loading torch
    settings = opt.settings({**given, "methods": name})
    base_model = settings.one_base()
    from feathertune.cli.output.method_tables import description_text
    from feathertune.encoders import load_encoder
    from feathertune.methods.describe import describe
    from feathertune.study.observe import Silent
    from feathertune.study.planning.method_sizing import fit_methods
    from feathertune.study.planning.resolve import settle

    settled = settle(settings)
    settings = settled.config
    encoder = load_encoder(
        base_model.id,
        labels=tuple(f"label {number}" for number in range(labels)),
        seed=0,
        revision=base_model.revision,
    )
    (fitted,) = fit_methods(settings, settled.methods, encoder, Silent()).methods
    described = describe(method, fitted.options, encoder, max_length=settings.data.max_length)
    if json:
        both = {**vars(traits(method)), "on": {**described.as_json(), "notes": list(fitted.notes)}}
        sys.stdout.write(jsonlib.dumps(both, indent=1) + "\n")
        return
    sys.stdout.write(description_text(traits(method), described, fitted.notes))
