"""Records that a verdict rests on, made by hand, and the verdict on them."""

from __future__ import annotations

from feathertune.records import BaseRecord, DataRecord, Metrics, PairRecord, RunRecord, Seconds, SummaryRow, Verdict
from feathertune.report.context import Context
from feathertune.report.wording import in_words
from feathertune.study.verdict.evidence import Evidence
from feathertune.study.verdict.verdict import judge
from feathertune.tasks import SINGLE_LABEL

BALANCED = SINGLE_LABEL.ranked_by("balanced_accuracy")
KINDS = {
    "majority": "baseline",
    "foundation": "baseline",
    "tfidf": "baseline",
    "probe": "probe",
    "full": "full",
}
TRAINED = {"majority": 0, "foundation": 0, "tfidf": 5000, "probe": 800, "full": 100_000}


def make_row(method, score, *, half=0.02, p=None, delta_half=0.02, **changes):
    values = {
        "method": method,
        "kind": KINDS.get(method, "peft"),
        "n_seeds": 3,
        "score_mean": score,
        "score_sd": 0.004,
        "score_low": score - half,
        "score_high": score + half,
        "seconds_mean": 10.0,
        "memory_mean_bytes": 1e9,
        "trainable_parameters": TRAINED.get(method, 900),
        "adapter_bytes": 1,
    }
    if p is not None:
        values |= {
            "delta_vs_full": 0.0,
            "delta_low": -delta_half,
            "delta_high": delta_half,
            "p_vs_full_holm": p,
        }
    return SummaryRow(**{**values, **changes})


BASE = (make_row("majority", 0.5), make_row("foundation", 0.503, n_seeds=5))
FULL = make_row("full", 0.859)


def make_data(**changes):
    values = {
        "source": "toy",
        "fingerprint": "0",
        "labels": ["neg", "pos"],
        "n_train": 1000,
        "n_validation": 100,
        "n_test": 1000,
        "class_counts": {"test": [500, 500]},
        "max_length": 128,
        "duplicates_removed": 0,
        "overlap_removed": 0,
    }
    return DataRecord(**{**values, **changes})


def make_base(**changes):
    values = {
        "id": "sample:minilm",
        "name": "minilm",
        "fingerprint": "0",
        "model_type": "bert",
        "n_parameters": 100_900,
        "n_layers": 6,
        "hidden_size": 384,
        "truncated_fraction": 0.1,
    }
    return BaseRecord(**{**values, **changes})


def spam(train=(930, 70), test=(760, 40), **changes):
    """Data with a frequent class and a rare one."""
    counts = {"train": list(train), "test": list(test)}
    return make_data(**{"labels": ["ham", "spam"], "class_counts": counts, "n_test": sum(test), **changes})


def make_run(method, seed=0, *, accuracy=0.85, mcc=0.7, epochs=5, best_epoch=3, **changes):
    values = {
        "id": f"{method}-{seed}",
        "method": method,
        "kind": KINDS.get(method, "peft"),
        "seed": seed,
        "status": "complete",
        "test": Metrics(accuracy=accuracy, macro_f1=0.8, mcc=mcc, log_loss=0.4, ece=0.05, n=1000),
        "total_parameters": 100_900,
        "seconds": Seconds(total=1.0),
        "epochs": epochs,
        "best_epoch": best_epoch,
        "hyperparameters": {"epochs": 5},
    }
    return RunRecord(**{**values, **changes})


def make_pair(a, b, *, delta=0.0, half=0.02, rows_half=None, p=0.13, p_holm=0.4):
    rows_half = half if rows_half is None else rows_half
    return PairRecord(
        a=a,
        b=b,
        delta=delta,
        low=delta - half,
        high=delta + half,
        rows_low=delta - rows_half,
        rows_high=delta + rows_half,
        p=p,
        p_holm=p_holm,
    )


def judged(*rows, task=SINGLE_LABEL, data=None, runs=(), pairs=(), margin=0.01, n_mislabelled=0, bases=()) -> Verdict:
    """The verdict; all of it can be put into words."""
    evidence = Evidence(task, data or make_data(), rows, runs, pairs, margin, n_mislabelled, bases or [make_base()])
    verdict, context = judge(evidence), Context(task, evidence.data)
    for stated in (*verdict.reasons, *verdict.caveats):
        assert in_words(stated, context)
    return verdict


def codes(statements):
    """Codes of reasons or caveats, in their order."""
    return [one.code for one in statements]


def parameters(statements, code):
    """Parameters of the only reason or caveat with a code; None if there is none."""
    found = [one.parameters for one in statements if one.code == code]
    assert len(found) <= 1, "a code is stated once"
    return found[0] if found else None
