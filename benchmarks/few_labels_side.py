"""feathertune's side of `bench_few_labels.py`: draws of a study with few labels, and its runs one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.config import load_config
from feathertune.data.reading.texts import Text
from feathertune.encoders.files import find_encoder
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.run_spec import run_id
from feathertune.study.running.run_files import read_predictions
from feathertune.study.running.runs import execute


@dataclass(frozen=True)
class Draw:
    """Rows of each class, and the test rows; labels are class indices."""

    seed: int
    texts: list[Text]
    labels: np.ndarray
    test_texts: list[Text]
    test_labels: np.ndarray


class Study:
    """The runs of ``feathertune compare --shots K``, one by one.

    Args:
        source: Data source.
        base: Base model.
        shots: Training rows per class.
        test_rows: Number of test rows.
        methods: Methods to run in addition to the baselines.
        max_length: Maximum tokens per text.
        folder: Output folder of the runs.
    """

    def __init__(
        self, source: str, base: str, shots: int, test_rows: int, methods: list[str], max_length: int, folder: Path
    ) -> None:
        options: dict[str, Any] = {
            "data.source": source,
            "base.id": base,
            "data.shots": shots,
            "data.test_size": test_rows,
            "data.max_length": max_length,
            "study.methods": methods,
        }
        self.shots, self.encoder_folder = shots, find_encoder(base).folder
        self._prepared = prepare(load_config(options=options), Silent())
        self._bench = self._prepared.bench
        self._n_rows = shots * len(self._bench.splits.labels)
        self._folder = folder
        self._bench.features("test", lambda _: None)  # shared by all draws, and not part of any training

    def draw(self, seed: int) -> Draw:
        """Return a seed's rows."""
        train, test = self._prepared.with_rows(self._n_rows, seed).bench.splits["train"], self._bench.splits["test"]
        return Draw(seed, list(train.texts), train.labels, list(test.texts), test.labels)

    def trainer(self, method: str) -> Callable[[Draw], dict[str, Any]]:
        """Return a function that trains a method on a draw and returns class indices."""
        spec = next(run for run in self._prepared.plan.runs if run.method == method)

        def train(draw: Draw) -> dict[str, Any]:
            run = spec.model_copy(update={"seed": draw.seed, "id": run_id(method, None, draw.seed)})
            # Each method computes its own frozen features, as if it ran alone.
            prepared = self._prepared.with_rows(self._n_rows, draw.seed)
            record = execute(run, prepared, self._folder, Silent())
            if record.status == "failed":
                raise SystemExit(f"{method} failed: {record.error}")
            saved = read_predictions(self._folder / str(record.predictions))
            took = record.seconds
            parts = took.tokenize + took.cache + took.head + took.train
            return {
                "seconds": took.total - took.evaluate,
                "loading_seconds": took.total - took.evaluate - parts,
                "answering_seconds": took.evaluate,
                "answers": saved.predicted.tolist(),
                "steps": record.steps,
                "hyperparameters": record.hyperparameters,
            }

        return train
