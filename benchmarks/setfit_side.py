"""SetFit's side of `bench_few_labels.py`, run by a Python with setfit installed: one JSON line in, one out.

It does not import feathertune. The settings are the defaults of `setfit.TrainingArguments`, except that progress bars,
checkpoints and reporting are off, which only makes SetFit faster.
"""

import contextlib
import importlib.metadata
import json
import sys
import time

import numpy as np
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main() -> None:
    encoder, scratch = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # setfit prints to stdout
    names = ("setfit", "sentence-transformers", "transformers", "torch", "scikit-learn", "datasets")
    print(json.dumps({name: importlib.metadata.version(name) for name in names}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answered(json.loads(line), encoder, scratch)), file=out, flush=True)


def answered(told: dict, encoder: str, scratch: str) -> dict:
    start = time.perf_counter()
    model = SetFitModel.from_pretrained(encoder)
    loaded = time.perf_counter()
    settings = TrainingArguments(
        output_dir=scratch, seed=told["seed"], report_to="none", save_strategy="no", show_progress_bar=False
    )
    rows = Dataset.from_dict({"text": told["texts"], "label": told["labels"]})
    trainer = Trainer(model=model, args=settings, train_dataset=rows)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    trained = time.perf_counter()
    answers = np.asarray(model.predict(told["test"], show_progress_bar=False)).tolist()
    return {
        "seconds": trained - start,
        "loading_seconds": loaded - start,
        "answering_seconds": time.perf_counter() - trained,
        "answers": answers,
    }


if __name__ == "__main__":
    main()
