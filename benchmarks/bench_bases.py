"""Rank base models by scores that need no training, and compare the rankings with LoRA's test accuracy.

``--make FOLDER`` first writes base models derived from `sample:minilm`: truncated to its first layers, with its last
layers reinitialised, with noise added to its matrices, and trained further on another sample (`tuned-*`, used only with
the other data set). ``--bases A,B,... --data DATA`` then accepts any ids or folders:

* Scores use only `--rows` training rows: LogME (You et al. 2021, arXiv:2102.11005), H-score with shrunk covariance (Bao
  et al. 2019; Ibrahim et al. 2022, arXiv:2110.06893), and linear probes, by cross-validated logistic regression and
  leave-one-out ridge regression. Each uses the mean over tokens of the last layer, the best layer, all layers
  concatenated, the head's input, and mixtures; `mean` averages the scores of all layers.
* The ground truth is `lora` trained on `--train-rows` rows with the first of `--seeds` seeds. Base models within
  `--near` points of the best are trained with all seeds.

Results are saved after each base model in ``results/bases-<data>.json``: the same command resumes, further base models
are added, and the final table covers all of them. A score's seconds include its forward pass.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

RESULTS = Path(__file__).with_name("results")
BASE = "sample:minilm"
FOLDS = 5
MOST_DIMENSIONS = 1200
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
PENALTIES = np.logspace(-6, 3, 19)  # for rows with a squared length of about 1
TUNED_ON = {"imdb": "sample:imdb", "rt": "sample:rotten-tomatoes"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path, metavar="FOLDER")
    parser.add_argument("--bases", default="")
    parser.add_argument("--data", default="sample:rotten-tomatoes")
    parser.add_argument("--rows", type=int, default=500, help="training rows used by the scores")
    parser.add_argument("--train-rows", type=int, default=800)
    parser.add_argument("--test-rows", type=int, default=None)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--near", type=float, default=3.0, help="train all seeds for base models within N points of the best"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-bases"), help="folder for cached features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.make is not None:
        make_bases(args.make)
    settings = {
        "data": args.data,
        "rows": args.rows,
        "train_rows": args.train_rows,
        "test_rows": args.test_rows,
        "max_length": args.max_length,
        "epochs": args.epochs,
    }
    path = RESULTS / f"bases-{args.data.rpartition(':')[2]}.json"
    record = json.loads(path.read_text()) if path.exists() else {"settings": settings, "bases": {}}
    if record["settings"] != settings:
        parser.error(f"{path} was made with {record['settings']}; delete it, or pass the same settings")
    ids = [base for base in args.bases.split(",") if base]
    entries = {base: record["bases"].setdefault(Path(base).name, {}) for base in ids}
    for base, entry in entries.items():
        score(entry, base, args)
        keep(path, record)
        print(f"{base}: {json.dumps(entry['scores'])}", flush=True)
    for base, entry in entries.items():
        train(entry, base, args, [0])
        keep(path, record)
        print(f"{base}: {json.dumps(entry['test'])}", flush=True)
    best = max((entry["test"]["0"] for entry in entries.values()), default=0.0)
    for base, entry in entries.items():
        if entry["test"]["0"] >= best - args.near / 100:
            train(entry, base, args, range(args.seeds))
            keep(path, record)
    if ids:
        record["rankings"] = rankings(record["bases"])
        keep(path, record)
        print(table(record))


def keep(path: Path, record: dict[str, Any]) -> None:
    from feathertune.config import EngineConfig
    from feathertune.runtime import choose_runtime, hardware, versions

    record.update(hardware=hardware(choose_runtime(EngineConfig())), versions=versions())
    path.write_text(json.dumps(record, indent=1) + "\n")


# --- bases


def make_bases(folder: Path) -> None:
    """Write the missing damaged and further trained copies of `BASE`."""
    for layers in (1, 2, 3, 4):
        write(folder / f"cut-{layers}", lambda model, n=layers: cut(model, n))
    for layers in (1, 2, 3):
        write(folder / f"redrawn-{layers}", lambda model, n=layers: redraw(model, n))
    for share in (0.3, 0.6):
        write(folder / f"noise-{share}", lambda model, s=share: disturb(model, s))
    for name, data in TUNED_ON.items():
        if not (folder / f"tuned-{name}").exists():
            with tempfile.TemporaryDirectory() as scratch:
                write(folder / f"tuned-{name}", lambda model: None, source=tuned(data, Path(scratch)))
        write(folder / f"tuned-{name}-cut-4", lambda model: cut(model, 4), source=folder / f"tuned-{name}")


def write(folder: Path, change: Callable[[Any], None], source: Path | None = None) -> None:
    from transformers import AutoModel, AutoTokenizer

    from feathertune.encoders.files import find_encoder

    if folder.exists():
        return
    torch.manual_seed(0)
    place = find_encoder(BASE).folder if source is None else source
    model = AutoModel.from_pretrained(place)
    change(model)
    partial = folder.with_name(f".{folder.name}")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(find_encoder(BASE).folder).save_pretrained(partial)
    partial.rename(folder)


def cut(model: Any, n_layers: int) -> None:
    model.encoder.layer = model.encoder.layer[:n_layers]
    model.config.num_hidden_layers = n_layers


def redraw(model: Any, n_layers: int) -> None:
    for layer in model.encoder.layer[-n_layers:]:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=model.config.initializer_range)
                torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()


def disturb(model: Any, share: float) -> None:
    """Add noise to each matrix, scaled to a share of its standard deviation."""
    with torch.no_grad():
        for parameter in model.encoder.layer.parameters():
            if parameter.dim() == 2:
                parameter += share * parameter.std() * torch.randn_like(parameter)


def tuned(data: str, scratch: Path) -> Path:
    """Fine-tune all of `BASE` for one epoch on 2,000 rows; return the merged model's folder."""
    import feathertune

    options = {"data.source": data, "data.train_size": 2000, "data.max_length": 128, "train.epochs": 1}
    feathertune.finetune(feathertune.load_config(options=options), scratch / "bundle", method="full")
    feathertune.export_model(scratch / "bundle", scratch / "merged")
    return scratch / "merged"


# --- ground truth


def prepared_for(base: str, args: argparse.Namespace) -> Any:
    from feathertune.config import load_config
    from feathertune.study.compare import prepare
    from feathertune.study.observe import Silent

    options = {
        "data.source": args.data,
        "data.train_size": args.train_rows,
        "data.validation_size": 200,
        "data.test_size": args.test_rows,
        "data.max_length": args.max_length,
        "train.epochs": args.epochs,
        "study.methods": ["lora"],
        "study.seeds": args.seeds,
        "base.id": base,
    }
    return prepare(load_config(options=options), Silent())


def train(entry: dict[str, Any], base: str, args: argparse.Namespace, seeds: Sequence[int]) -> None:
    """Add `lora`'s test accuracy by seed, and the seconds of each training without testing."""
    from feathertune.runtime import seed_everything
    from feathertune.study.observe import Silent
    from feathertune.study.running.training import Outputs, train_and_test

    test, seconds = entry.setdefault("test", {}), entry.setdefault("training_seconds", {})
    missing = [seed for seed in seeds if str(seed) not in test]
    if not missing:
        return
    prepared = prepared_for(base, args)
    with tempfile.TemporaryDirectory() as scratch:
        for spec in prepared.plan.runs:
            if spec.method == "lora" and spec.seed in missing:
                seed_everything(spec.seed)
                result = train_and_test(spec, prepared, Silent(), Outputs(Path(scratch, f"{spec.seed}.jsonl"), None))
                test[str(spec.seed)] = prepared.study.task.primary.of(result.scores.test)
                seconds[str(spec.seed)] = result.seconds.total - result.seconds.evaluate
    shutil.rmtree(scratch, ignore_errors=True)


# --- scores


def score(entry: dict[str, Any], base: str, args: argparse.Namespace) -> None:
    """Add a base model's missing scores, their seconds, and the seconds of the shared forward pass."""
    missing = [(name, read) for name in SCORES for read in READ if f"{name} {read}" not in entry.get("scores", {})]
    if not missing:
        return
    path = args.folder / args.data.rpartition(":")[2] / f"{Path(base).name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **features(base, args))
    found = dict(np.load(path))
    entry.update(parameters=int(found["parameters"]), pass_seconds=float(found["pass_seconds"]))
    scores, seconds = entry.setdefault("scores", {}), entry.setdefault("score_seconds", {})
    layers, read, labels = list(found["layers"]), found["read"], found["labels"]
    for name, how in missing:
        start = time.perf_counter()
        value = READ[how](partial(SCORES[name], labels=labels), layers, read)
        scores[f"{name} {how}"] = None if np.isnan(value) else value
        seconds[f"{name} {how}"] = time.perf_counter() - start


def features(base: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the mean over tokens after each block, ``(L, N, D)``, the head's input, ``(N, D)``, and the labels."""
    from feathertune.data.splitting.pool import nested_rows
    from feathertune.engine.predict import run_passes
    from feathertune.engine.training.head import extract_features

    bench = prepared_for(base, args).bench
    train = bench.splits.train
    rows = nested_rows(bench.splits.kind, train.labels, args.rows, seed=0)
    texts = bench.encoded["train"].take(rows)
    start = time.perf_counter()
    bench.pretrained.features(texts, lambda _: None)
    pass_s = time.perf_counter() - start
    encoder = bench.pretrained.load(0)
    encoder.model.eval()

    def forward(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        states = encoder.backbone(**batch, output_hidden_states=True).hidden_states[1:]
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).unsqueeze(-1).float()
        means = [(state.float() * mask).sum(1) / mask.sum(1) for state in states]
        return (*means, extract_features(encoder, batch).read)

    *layers, read = run_passes(forward, texts, token_budget=4096, runtime=bench.runtime)
    return {
        "layers": np.stack(layers).astype(np.float64),
        "read": read.astype(np.float64),
        "labels": train.labels[rows],
        "pass_seconds": pass_s,
        "parameters": encoder.n_parameters,
    }


# Inputs of a score, and how several are combined: the last layer's mean over tokens, the head's input, ...
READ: dict[str, Callable[[Callable[[np.ndarray], float], list[np.ndarray], np.ndarray], float]] = {
    "last": lambda score, layers, read: score(layers[-1]),
    "read": lambda score, layers, read: score(read),
    "best": lambda score, layers, read: max(map(score, layers)),
    "mean": lambda score, layers, read: float(np.mean([*map(score, layers)])),
    "all": lambda score, layers, read: score(np.hstack(layers)),
    "last and read": lambda score, layers, read: score(np.hstack([layers[-1], read])),
    "all and read": lambda score, layers, read: score(np.hstack([*layers, read])),
}


def logme(values: np.ndarray, labels: np.ndarray) -> float:
    """Return a Bayesian linear model's evidence per row, a mean over targets. Source: You et al. 2021, algorithm 1."""
    if values.shape[1] > MOST_DIMENSIONS:  # minutes
        return float("nan")
    (n, d), targets = values.shape, np.eye(labels.max() + 1)[labels]
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    sigma, found = s**2, []
    for y in targets.T:
        projected = (u.T @ y) ** 2
        outside = float(y @ y - projected.sum())
        alpha = beta = 1.0
        for _ in range(100):
            ratio = alpha / beta
            gamma = (sigma / (sigma + ratio)).sum()
            m2 = (sigma * projected / (sigma + ratio) ** 2).sum()
            residual = (projected * (ratio / (sigma + ratio)) ** 2).sum() + outside
            alpha, beta = gamma / (m2 + 1e-9), (n - gamma) / (residual + 1e-9)
            if abs(alpha / beta - ratio) < 1e-3 * ratio:
                break
        evidence = n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
        evidence -= beta / 2 * residual + alpha / 2 * m2
        evidence -= (np.log(alpha + beta * sigma).sum() + (d - len(sigma)) * np.log(alpha)) / 2
        found.append(evidence / n)
    return float(np.mean(found))


def h_score(values: np.ndarray, labels: np.ndarray) -> float:
    """Return between-class over shrunk total covariance. Source: Bao et al. 2019; Ibrahim et al. 2022 (Ledoit-Wolf)."""
    from sklearn.covariance import ledoit_wolf

    if values.shape[1] > MOST_DIMENSIONS:  # minutes
        return float("nan")
    centred = values - values.mean(0)
    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    classes, of_row = np.unique(labels, return_inverse=True)
    means = np.stack([centred[of_row == index].mean(0) for index in range(len(classes))])[of_row]
    return float((1 - shrinkage) * np.trace(np.linalg.solve(covariance, means.T @ means / len(values))))


def logistic(values: np.ndarray, labels: np.ndarray) -> float:
    """Return logistic regression's accuracy: each fold is scored by a model fitted to three, tuned on the fifth."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    values = (values - values.mean(0)) / (values.std(0) + 1e-6)
    of_row = np.empty(len(labels), int)
    for fold, (_, rows) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(values, labels)):
        of_row[rows] = fold
    right = 0
    for fold in range(FOLDS):
        held, chooses = of_row == fold, of_row == (fold + 1) % FOLDS
        rest = ~(held | chooses)
        models = [LogisticRegression(C=c, max_iter=2000).fit(values[rest], labels[rest]) for c in STRENGTHS]
        best = max(models, key=lambda model: model.score(values[chooses], labels[chooses]))
        right += int((best.predict(values[held]) == labels[held]).sum())
    return right / len(labels)


def ridge(values: np.ndarray, labels: np.ndarray) -> float:
    """Return ridge regression's leave-one-out accuracy, at the penalty with the lowest leave-one-out error."""
    predicted, _ = left_out(values, np.eye(labels.max() + 1)[labels])
    return float((predicted.argmax(1) == labels).mean())


def ridge_r2(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the targets' variance explained by leave-one-out ridge regression."""
    targets = np.eye(labels.max() + 1)[labels]
    _, error = left_out(values, targets)
    return float(1 - error / ((targets - targets.mean(0)) ** 2).mean())


def floored_r2(values: np.ndarray, labels: np.ndarray) -> float:
    """Return `ridge_r2` without centring and with no penalty below 0.01, as in `feathertune bases`."""
    from feathertune.baselines.leave_one_out import leave_one_out

    targets = np.eye(labels.max() + 1)[labels]
    return float(
        1 - ((leave_one_out(values, targets) - targets) ** 2).mean() / ((targets - targets.mean(0)) ** 2).mean()
    )


def left_out(values: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Return leave-one-out ridge predictions and their penalty. Source: Allen 1974, Technometrics 16 (PRESS)."""
    values = values - values.mean(0)
    values = values / np.sqrt((values**2).sum(1).mean())
    centred, best = targets - targets.mean(0), None
    variances, u = np.linalg.eigh(values @ values.T)
    variances = np.maximum(variances, 0)
    for penalty in PENALTIES:
        shrunk = u * (variances / (variances + penalty))
        hat = (shrunk * u).sum(1) + 1 / len(values)
        predicted = centred - (centred - shrunk @ (u.T @ centred)) / (1 - np.minimum(hat, 1 - 1e-9))[:, None]
        error = float(((predicted - centred) ** 2).mean())
        if best is None or error < best[1]:
            best = predicted, error
    assert best is not None
    return best


SCORES: dict[str, Callable[..., float]] = {
    "LogME": logme,
    "H-score": h_score,
    "logistic": logistic,
    "ridge": ridge,
    "ridge R2": ridge_r2,
    "floored R2": floored_r2,
}


# --- comparison


def rankings(bases: dict[str, Any]) -> dict[str, Any]:
    """Return each score's choice of base model, the points lost to the best, and the rank correlation."""
    names = list(bases)
    truth = np.array([np.mean(list(bases[name]["test"].values())) for name in names])
    training_s = sum(bases[name]["training_seconds"]["0"] for name in names)
    found = {}
    shared = [s for s in bases[names[0]]["scores"] if all(bases[n]["scores"][s] is not None for n in names)]
    for score in [*shared, "parameters"]:
        values = np.array(
            [bases[n]["parameters"] if score == "parameters" else bases[n]["scores"][score] for n in names]
        )
        seconds = sum(bases[n]["pass_seconds"] + bases[n]["score_seconds"].get(score, 0.0) for n in names)
        taken = int(values.argmax())
        found[score] = {
            "takes": names[taken],
            "points_lost": 100 * float(truth.max() - truth[taken]),
            "kendall": float(stats.kendalltau(values, truth).statistic),
            "cost": seconds / training_s,
        }
    return found


def table(record: dict[str, Any]) -> str:
    lines = [f"{'score':22s} takes                points lost  Kendall  cost"]
    by_kendall = sorted(record["rankings"].items(), key=lambda item: -item[1]["kendall"])
    lines += [
        f"{name:22s} {row['takes']:20s} {row['points_lost']:8.1f} {row['kendall']:11.2f} {row['cost']:7.1%}"
        for name, row in by_kendall
    ]
    truth = {name: 100 * np.mean(list(base["test"].values())) for name, base in record["bases"].items()}
    lines += [
        f"{name:22s} {value:5.1f} ({len(record['bases'][name]['test'])} seeds)"
        for name, value in sorted(truth.items(), key=lambda x: -x[1])
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
