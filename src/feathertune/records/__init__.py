"""Files of a study: the schema of ``study.json`` and of the files next to it. Loads without torch.

Layout of a study folder::

    study.json                          StudyRecord
    plan.json                           what was planned, before the first run started
    cost_estimate.json                  `feathertune.records.cost_estimate`, written by --dry-run
    config.yaml                         every setting; reproduces the study as it is
    test.parquet                        row, text, label: the test rows, in order (texts clipped)
    mislabelled.csv                     test rows that look mislabelled
    report.html
    search/<id>.json                    SearchRecord, if options were searched; <id>.db has the search's state
    runs/<id>/run.json                  RunRecord, written when the run ended
    runs/<id>/predictions.parquet       row, label, predicted, probabilities (none for numbers)
    runs/<id>/metrics.jsonl             one object per step, and one per epoch
    runs/<id>/bundle/                   what `feathertune predict` loads
"""

from __future__ import annotations

from feathertune.records.comparing import comparable, differences, first_differences, flat
from feathertune.records.files import (
    CONFIG_FILE,
    METRICS_FILE,
    MISLABELLED_FILE,
    PREDICTIONS_FILE,
    STUDY_FILE,
    TEST_FILE,
    load_study,
    save_study,
)
from feathertune.records.study import (
    SCHEMA_VERSION,
    BaseRecord,
    Caveat,
    DataRecord,
    LengthBucket,
    MoreLabels,
    PairRecord,
    Reason,
    RunRecord,
    ScoreOfBucket,
    SearchRecord,
    StudyRecord,
    SummaryRow,
    TrialRecord,
    Verdict,
    at_largest_size,
)
from feathertune.records.values import (
    HEAD,
    TRAINED_KINDS,
    Calibration,
    Kind,
    LabelSummary,
    Long,
    Metrics,
    MultiLabelMetrics,
    NumberMetrics,
    Reading,
    Record,
    Scores,
    Seconds,
    Status,
    TaskName,
)

__all__ = [
    "CONFIG_FILE",
    "HEAD",
    "METRICS_FILE",
    "MISLABELLED_FILE",
    "PREDICTIONS_FILE",
    "SCHEMA_VERSION",
    "STUDY_FILE",
    "TEST_FILE",
    "TRAINED_KINDS",
    "BaseRecord",
    "Calibration",
    "Caveat",
    "DataRecord",
    "Kind",
    "LabelSummary",
    "LengthBucket",
    "Long",
    "Metrics",
    "MoreLabels",
    "MultiLabelMetrics",
    "NumberMetrics",
    "PairRecord",
    "Reading",
    "Reason",
    "Record",
    "RunRecord",
    "ScoreOfBucket",
    "Scores",
    "SearchRecord",
    "Seconds",
    "Status",
    "StudyRecord",
    "SummaryRow",
    "TaskName",
    "TrialRecord",
    "Verdict",
    "at_largest_size",
    "comparable",
    "differences",
    "first_differences",
    "flat",
    "load_study",
    "save_study",
]
