"""``feathertune inspect``."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated

import typer

from feathertune.cli import options as opt
from feathertune.methods import choose_methods
from feathertune.prices import Price


def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As in `feathertune compare`.")],
    config: opt.ConfigFile = None,
    assignments: opt.Assignments = None,
    base: opt.Base = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Measure what a study of these would cost, too; see compare.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Of that study.")] = None,
    test: opt.TestData = None,
    text_column: opt.TextColumn = None,
    label_column: opt.LabelColumn = None,
    label_separator: opt.LabelSeparator = None,
    split_column: opt.SplitColumn = None,
    train_size: opt.TrainSize = None,
    validation_size: opt.ValidationSize = None,
    test_size: opt.TestSize = None,
    max_length: opt.MaxLength = None,
    epochs: opt.Epochs = None,
    top_layers: opt.TopLayers = None,
    match_parameters: opt.MatchParameters = None,
    train_sizes: opt.TrainSizes = None,
    seed: opt.Seed = None,
    drop_invalid: opt.DropInvalid = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Say what is in the data: classes, repeated texts, how many tokens, what would be cut off, what looks wrong.

    With --methods also what their study would cost on this machine. Nothing is written.
    """
    given = locals()
    settings = opt.settings(given)
    if methods is not None:
        # An unknown one is told before anything is read.
        choose_methods(settings.study.methods, settings.method, learning_rate=None)
    from feathertune.cli.inspection import inspection_text
    from feathertune.cli.plans import price_lines
    from feathertune.cli.progress import observe
    from feathertune.cli.tables import render
    from feathertune.study.compare import prepare
    from feathertune.study.estimate import estimate
    from feathertune.study.inspection import inspect_data

    price: Price | None = None
    with observe(quiet=quiet or json) as observer:
        found = inspect_data(settings, observer)
        if methods is not None and found.refused is None:
            prepared = prepare(settings, observer)
            price = estimate(prepared.bench, prepared.plan, observer)
    if json:
        priced = {} if price is None else {"price": price.model_dump(mode="json")}
        sys.stdout.write(jsonlib.dumps({**found.model_dump(mode="json"), **priced}, indent=1) + "\n")
        return
    sys.stdout.write(inspection_text(found, settings))
    if price is not None:
        sys.stdout.write(render("", *price_lines(price)))
