"""Names of a study's files, and reading and writing its record."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from feathertune.errors import DataError
from feathertune.records.study import SCHEMA_VERSION, StudyRecord
from feathertune.storage import write_atomic

STUDY_FILE = "study.json"
CONFIG_FILE = "config.yaml"
TEST_FILE = "test.parquet"
MISLABELLED_FILE = "mislabelled.csv"
PREDICTIONS_FILE = "predictions.parquet"
METRICS_FILE = "metrics.jsonl"


def save_study(study: StudyRecord, folder: Path) -> None:
    """Write ``study.json``, whole or not at all."""
    write_atomic(folder / STUDY_FILE, study.model_dump_json(indent=1) + "\n")


def load_study(folder: Path) -> StudyRecord:
    """Read the record of a study folder; raise a `DataError` if its ``study.json`` is missing or broken."""
    path = folder / STUDY_FILE
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{folder} is not a study folder: {path.name} cannot be read ({error.strerror}). "
            "Expected the --out of `feathertune compare`."
        ) from error
    try:
        return StudyRecord.model_validate_json(content)
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path} is not a study record of schema {SCHEMA_VERSION}: {where}: {first['msg']}.") from error
