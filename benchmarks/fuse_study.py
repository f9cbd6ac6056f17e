"""Fuse a finished study's trained runs with a word model, like ``METHOD+tfidf``, without training them again.

Run: ``python benchmarks/fuse_study.py runs/imdb --out benchmarks/results/imdb-fused.json``.

Each run's bundle predicts the validation rows again; the test logits are derived from the study's predictions. The
study's own tests then compare all rows. The study folder is copied, not changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

import feathertune
from feathertune.bundle import load_bundle
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits
from feathertune.methods import FUSED
from feathertune.records import RunRecord, load_study
from feathertune.records.row_names import row_name
from feathertune.runtime import hardware, versions
from feathertune.storage import sha256_of
from feathertune.study.compare import assemble, prepare
from feathertune.study.observe import Silent
from feathertune.study.running.fuse import fuse_words, fused_probabilities
from feathertune.study.running.run_files import read_predictions, write_predictions
from feathertune.study.running.run_result import score_rows
from feathertune.study.running.workbench import Prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    before = load_study(args.study)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"
        shutil.copytree(args.study, folder)
        prepared = prepare(feathertune.load_config(folder / "config.yaml"), Silent())
        fused = [fused_run(run, prepared, folder) for run in before.runs if run.kind == "peft" and run.bundle]
        after = assemble(prepared, [*before.runs, *fused], folder, before.created, before.command)
        added = {run.method for run in fused}
        record = {
            "study": args.study.name,
            "runs": [
                run.model_dump(include={"method", "seed", "test", "validation", "hyperparameters"}) for run in fused
            ],
            "summary": [row.model_dump() for row in after.summary if row.method in {*added, "tfidf"}],
            "pairs": [pair.model_dump() for pair in after.pairs if added & {pair.a, pair.b}],
            "hardware": hardware(prepared.bench.runtime),
            "versions": versions(),
        }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["pairs"], indent=1))


def fused_run(run: RunRecord, prepared: Prepared, folder: Path) -> RunRecord:
    """Fuse a run's model with words, write its predictions, and return its record."""
    bench, task = prepared.bench, prepared.study.task
    bundle = load_bundle(folder / str(run.bundle), base=bench.pretrained.base.id, attention=bench.runtime.attention)

    def logits_of(texts):
        return predict_logits(bundle.model, texts, token_budget=4_096, runtime=bench.runtime)

    with fast_parts(bundle.base, prepared.study.config.engine, bench.runtime):
        held_out = logits_of(bench.encoded["validation"])
        fused = fuse_words(prepared, logits_of, task.probabilities(held_out))
    saved = read_predictions(folder / str(run.predictions))
    tested = task.likelihood.logits(saved.probabilities.astype(np.float64))
    validation = fused_probabilities(prepared, fused, "validation", held_out)
    test = fused_probabilities(prepared, fused, "test", tested)
    scores = score_rows(task, bench, test, validation)
    place = folder / "runs" / f"{run.id}-tfidf.parquet"
    write_predictions(place, saved.labels, task.decide(test, scores.thresholds), test)
    return run.model_copy(
        update={
            "id": f"{run.id}-tfidf",
            "method": row_name(f"{run.method}{FUSED}", None),
            "test": scores.test,
            "validation": scores.validation,
            "predictions": place.relative_to(folder).as_posix(),
            "predictions_sha256": sha256_of(place),
            "hyperparameters": {**run.hyperparameters, "fusion": vars(fused.fusion)},
            "bundle": None,
        }
    )


if __name__ == "__main__":
    main()
