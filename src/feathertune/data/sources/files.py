"""Sources on disk: a file with a text and a label column, or a folder with one subfolder of texts per label."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from feathertune.data.reading import rows
from feathertune.data.reading.columns import Columns, find_column
from feathertune.data.reading.texts import MOST_CHARACTERS
from feathertune.data.sources.collector import Collector, RawDataset, ReadOptions, as_split, split_name
from feathertune.errors import DataError

_SHOWN = 5
_UNLABELLED = "unsup"  # aclImdb's folder of unlabelled reviews


def load_file(name: str, options: ReadOptions) -> RawDataset:
    """Read a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file."""
    path = Path(name)
    columns, split = file_columns(path, options)
    wanted = (*columns.read, *(() if split is None else (split,)))
    collector = Collector(name, drop_invalid=options.drop_invalid, labels=options.labels)
    for values, where in rows.read_rows(path, only=wanted):
        part = split_name(values.get(split), where) if split is not None else None
        collector.add(columns.text_of(values), values.get(columns.label), part, where)
    return collector.finish(columns=columns)


def file_columns(path: Path, options: ReadOptions) -> tuple[Columns, str | None]:
    """Return a file's columns, and its split column if the options name one."""
    names = rows.columns(path)
    columns, split = options.columns(names, path.name), None
    if options.split_column is not None:
        split = find_column(names, options.split_column, (), "split", path.name)
    return replace(columns, others=tuple(name for name in columns.others if name != split)), split


def load_folder(name: str, options: ReadOptions) -> RawDataset:
    """Read label folders of ``.txt`` files, optionally inside ``train/`` and ``test/``; skip aclImdb's ``unsup``."""
    options.refuse_columns(name)
    root = Path(name)
    collector = Collector(name, drop_invalid=options.drop_invalid, labels=options.labels)
    folders, notes = _layout(root)
    nested: list[str] = []
    for split, folder in folders:
        for label in _subfolders(folder):
            texts = [e for e in _entries(label) if e.suffix.lower() == ".txt" and e.is_file()]
            shown = label.relative_to(root).as_posix()
            if label.name == _UNLABELLED:
                notes.append(f"{len(texts):,} texts of {shown} were left out: they have no label.")
                continue
            nested += [entry.relative_to(root).as_posix() for entry in _subfolders(label)]
            if not texts:
                raise DataError(f"The label folder {label} contains no .txt files. Expected one file per text.")
            for text in texts:
                where = text.relative_to(root).as_posix()
                collector.add(_content(text, where), label.name, split, where)
    if nested:
        shown = ", ".join(nested[:_SHOWN]) + (", ..." if len(nested) > _SHOWN else "")
        notes.append(f"{len(nested):,} folders inside label folders were left out, with their texts: {shown}.")
    return collector.finish(notes=notes)


def _layout(root: Path) -> tuple[list[tuple[str | None, Path]], list[str]]:
    """Return the folders that contain label folders, each with its split, and notes on other folders."""
    inside = _subfolders(root)
    if not inside:
        raise DataError(
            f"{root} contains no folders. Expected one subfolder of .txt files per label, or train/ and test/ "
            "with such subfolders. To read a single file, pass its path."
        )
    # A label may be named "train": the folder is a split only if it holds folders.
    splits = [(as_split(folder.name), folder) for folder in inside if _subfolders(folder)]
    if not any(split == "train" for split, _ in splits):
        return [(None, root)], []
    used: list[tuple[str | None, Path]] = [(split, folder) for split, folder in splits if split is not None]
    left = [folder for folder in inside if folder not in {folder for _, folder in used}]
    return used, [f"The folder {folder.name} was left out: it is not a split with label folders." for folder in left]


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _content(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(4 * MOST_CHARACTERS + 1)
        if len(content) > 4 * MOST_CHARACTERS:
            raise DataError(f"{where} has more than {MOST_CHARACTERS:,} characters. Split the text.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte {error.start + 1} (0x{error.object[error.start]:02X}) is not UTF-8. Save the file as UTF-8."
        ) from error
