"""``feathertune evaluate`` and ``feathertune predict``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feathertune.cli import options as opt
from feathertune.data.reading.texts import Pair, check_length
from feathertune.data.reading.texts import Text as TextOrPair
from feathertune.errors import ConfigError, DataError, is_whole, shown

if TYPE_CHECKING:
    import pyarrow as pa

    from feathertune.predictor import Predictor

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder written by `feathertune train`.")]
BaseOption = Annotated[str | None, typer.Option("--base", help="Path of the base model, if it moved.")]
STDIN = "-"


def evaluate(
    bundle: BundleArgument,
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Labelled data, as in `feathertune compare`; its test split if present."),
    ],
    text_column: opt.TextColumn = None,
    label_column: opt.LabelColumn = None,
    base: BaseOption = None,
    assignments: opt.EngineAssignments = None,
    drop_invalid: opt.DropInvalid = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Score a bundle on labelled data."""
    engine = opt.settings({"assignments": assignments}).engine
    from feathertune.cli.output.tables import metrics_text
    from feathertune.data.sources.collector import ReadOptions
    from feathertune.predictor import evaluate as score_on
    from feathertune.predictor import load

    options = ReadOptions(text_column=text_column, label_column=label_column, drop_invalid=drop_invalid)
    metrics = score_on(load(bundle, base=base, engine=engine), data, options)
    sys.stdout.write(metrics.model_dump_json(indent=1) + "\n" if json else metrics_text({data: metrics}))


def predict(
    bundle: BundleArgument,
    text: Annotated[list[str] | None, typer.Option("--text", help="Text to label; repeatable.")] = None,
    text_pair: Annotated[
        list[str] | None, typer.Option("--text-pair", help="Second text for each --text, if the bundle reads pairs.")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", help="Input file: .csv .tsv .jsonl .parquet .txt, or - for stdin lines.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Output file: .jsonl .csv .tsv or .parquet; default stdout.")
    ] = None,
    text_column: opt.TextColumn = None,
    base: BaseOption = None,
    assignments: opt.EngineAssignments = None,
    overwrite: opt.Overwrite = False,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option(
            "--spreadsheet-safe", help="Prefix .csv and .tsv cells that a spreadsheet would execute with an apostrophe."
        ),
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Label texts from the command line, a file of any size, or stdin.

    Each output row holds the input's columns, then the label and the probabilities, in input order. An input column
    with one of these names becomes input_NAME. A terminal shows a table; a pipe gets JSON lines.
    """
    if text and input is not None:
        raise ConfigError("Both --text and --input were given. Expected only one.")
    if text_pair and len(text_pair) != len(text or ()):
        raise ConfigError(
            f"--text-pair was given {len(text_pair)} times, --text {len(text or ())} times. Expected one --text-pair "
            "for each --text, in the same order."
        )
    if not text and input is None:
        if sys.stdin.isatty():
            raise ConfigError('Nothing to predict. Pass --text "..." or --input FILE, or pipe lines to stdin.')
        input = STDIN
    engine = opt.settings({"assignments": assignments}).engine
    from feathertune.cli.output.tables import predictions_text
    from feathertune.data.reading.outputs import JsonLines, free_names, open_output, schema_of, spread
    from feathertune.predictor import load

    predictor = load(bundle, base=base, engine=engine)
    ending = "" if output is None else output.suffix.lower()
    columns, schema, rows = _rows(text, text_pair, input, text_column, predictor, typed=ending == ".parquet")
    answer = schema_of([spread(predictor.fields)])
    renamed = free_names(schema.names, {*predictor.fields, *answer.names})
    predicted = _predicted(predictor, rows, columns, renamed)
    columns = tuple(renamed.get(name, name) for name in columns)
    if output is not None:
        for field in reversed(schema):
            answer = answer.insert(0, field.with_name(renamed.get(field.name, field.name)))
        n = 0
        with open_output(output, answer, overwrite=overwrite, spreadsheet_safe=spreadsheet_safe) as writer:
            for n, row in enumerate(predicted, start=1):  # noqa: B007
                writer.write(row)
        sys.stderr.write(f"Wrote {n:,} rows to {output}\n")
    elif sys.stdout.isatty() and not json:
        sys.stdout.write(predictions_text(predicted, columns))
    else:
        lines = JsonLines(sys.stdout)
        for row in predicted:
            lines.write(row)


def _rows(
    texts: list[str] | None,
    seconds: list[str] | None,
    source: str | None,
    text_column: str | None,
    predictor: Predictor,
    *,
    typed: bool,
) -> tuple[tuple[str, ...], pa.Schema, Iterator[tuple[Mapping[str, Any], str]]]:
    """Return the text columns, all columns, and the input's rows, each with its location for messages."""
    import pyarrow as pa

    names = Pair._fields if predictor.reads_pairs else Pair._fields[:1]
    if texts:
        if predictor.reads_pairs != bool(seconds):
            expected = (
                "pairs. Pass a --text-pair for each --text" if predictor.reads_pairs else "single texts, not pairs"
            )
            raise ConfigError(f"The bundle {predictor.bundle.folder} reads {expected}.")
        schema = pa.schema([(name, pa.string()) for name in names])
        values = zip(*filter(None, (texts, seconds)), strict=True)
        return (
            names,
            schema,
            ((dict(zip(names, row, strict=True)), f"--text number {i}") for i, row in enumerate(values, start=1)),
        )
    if source == STDIN:
        if predictor.reads_pairs:
            raise ConfigError(
                f"The bundle {predictor.bundle.folder} reads pairs of texts, but a line of stdin is a single text. "
                "Pass --input FILE with two columns, or --text A --text-pair B."
            )
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        lines = enumerate(sys.stdin, start=1)
        schema = pa.schema([("text", pa.string())])
        return names, schema, (({"text": line.rstrip("\r\n")}, f"stdin, line {i}") for i, line in lines)
    from feathertune.data.reading.columns import find_text_columns
    from feathertune.data.reading.outputs import schema_of_file
    from feathertune.data.reading.rows import columns, read_rows

    assert source is not None, "checked by the caller"
    path = Path(source)
    usual = predictor.bundle.info.text_columns
    found = find_text_columns(columns(path), text_column, path.name, usual=usual)
    return found, schema_of_file(path, typed=typed), iter(read_rows(path))


def _predicted(
    predictor: Predictor,
    rows: Iterable[tuple[Mapping[str, Any], str]],
    columns: tuple[str, ...],
    renamed: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Yield each row with its prediction; rows are queued while their texts are predicted."""
    from feathertune.predictor import as_fields

    held: deque[Mapping[str, Any]] = deque()

    def texts() -> Iterator[TextOrPair]:
        for values, where in rows:
            held.append(values)
            checked = [_checked(values.get(column), where) for column in columns]
            yield Pair(*checked) if len(checked) == 2 else checked[0]

    for answer in predictor.predict(texts()):
        values = held.popleft()
        yield {**{renamed.get(key, key): value for key, value in values.items()}, **as_fields(answer)}


def _checked(text: object, where: str) -> str:
    """Return a usable text; raise a `DataError` that names the row otherwise."""
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the text is {shown(text) if text else 'missing or empty'}. Expected a text.")
    check_length(text, where)
    if "\0" in text:
        raise DataError(f"{where}: the text contains a null byte. Remove it, or save the file as UTF-8.")
    if not is_whole(text):
        raise DataError(f"{where}: the text contains a broken character (half a surrogate pair, or not UTF-8).")
    return text
