"""transformers' `Trainer` as a contestant, with the same initial weights and the same rows as feathertune.

To favour the Trainer, everything optional is off: no progress bar, no reports, no checkpoints, and a plain list of rows
instead of a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from children import FEATHERTUNES_OWN, Problem, Rows, Spec, peak_memory_bytes, reset_peak_memory
from contestants import BATCH_SIZE, LORA_ALPHA, RATES, WARMUP_RATIO, WEIGHT_DECAY, Contestant, R
from operations import Sizes, Work, step_operations
from passes import NO_MOVE, Passes, first_loss
from torch import nn
from torch.utils.data import Sampler
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices

from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import turn_off_dropout

_TUTORIAL_LORA_DROPOUT = 0.1
# From 3,200 rows on, a tuned Trainer sorts the rows of this many batches by length, and of fewer with fewer rows. These
# short epochs represent long ones, so they use the long epochs' grouping.
_GROUPED_BATCHES = 50
_EVALUATION_BATCH = {False: BATCH_SIZE, True: 2 * BATCH_SIZE}


def prepare(spec: Spec, contestant: Contestant, labels: tuple[str, ...]) -> tuple[LoadedEncoder, nn.Module]:
    """Return the encoder with an untrained head, and the model to pass to a Trainer."""
    assert FEATHERTUNES_OWN not in os.environ, "feathertune's settings of oneDNN must not help a Trainer"
    set_seed(spec.seed)
    encoder = load_encoder(spec.base, labels=labels, seed=spec.seed, attention="sdpa")
    if not contestant.dropout:
        turn_off_dropout(encoder.backbone)
    if contestant.method == "full":
        return encoder, encoder.model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="SEQ_CLS",
        r=R,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0 if contestant.tuned else _TUTORIAL_LORA_DROPOUT,
        target_modules=list(encoder.query_value_names()),
        modules_to_save=list(encoder.head_modules),
    )
    return encoder, get_peft_model(encoder.model, config)


def measure(spec: Spec, contestant: Contestant, problem: Problem) -> dict[str, Any]:
    """Measure the seconds of one epoch of training steps, after a warm-up that changes no weight."""
    encoder, model = prepare(spec, contestant, problem.labels)
    bf16 = contestant.tuned and spec.bf16
    found: dict[str, Any] = {"first_loss": first_loss(model, problem, bf16=bf16)}
    make_trainer(spec, contestant, encoder, model, problem.warm_up(BATCH_SIZE), learning_rate=NO_MOVE).train()
    # Remove accelerate's wrapper around the model's forward; the next Trainer would add another one.
    for name in ("forward", "_original_forward"):
        model.__dict__.pop(name, None)
    set_seed(spec.seed)
    watch, passes = _Watch(), Passes(encoder.backbone)
    reset_peak_memory()
    start = time.perf_counter()
    trainer = make_trainer(
        spec, contestant, encoder, model, problem.train, kind=_Grouping if contestant.tuned else Trainer
    )
    trainer.add_callback(watch)
    loss = trainer.train().training_loss
    sizes, last = Sizes.of(encoder), encoder.n_layers - 1
    names = [name for name in encoder.query_value_names() if name.startswith(f"{encoder.spec.blocks}.{last}.")]
    adapted = tuple(tuple(encoder.model.get_submodule(name).weight.shape[::-1]) for name in names)
    work = Work(True) if contestant.method == "full" else Work(False, R, adapted, adapted)
    return found | {
        "seconds": [watch.end - watch.begin],
        "prepare_seconds": watch.begin - start,
        "cache_seconds": 0.0,
        "losses": [loss],
        "peak_memory_bytes": peak_memory_bytes(),
        "operations": step_operations(passes.training, sizes, work),
        "padded_tokens": passes.padded_tokens,
        "dtype": "bf16" if bf16 else "fp32",
        "parts": [trainer.args.optim, trainer.args.train_sampling_strategy, encoder.model.config._attn_implementation],
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
    }


def curve(spec: Spec, contestant: Contestant, problem: Problem) -> dict[str, Any]:
    """Measure validation accuracy after each quarter of an epoch, and the seconds until then."""
    encoder, model = prepare(spec, contestant, problem.labels)
    quarters = _Quarters(-(-len(problem.train) // BATCH_SIZE), spec.epochs)
    start = time.perf_counter()
    trainer = make_trainer(
        spec, contestant, encoder, model, problem.train, epochs=spec.epochs, validation=problem.validation
    )
    trainer.add_callback(quarters)
    trainer.train()
    return {
        "curve": [{**point, "seconds": point["seconds"] - start} for point in quarters.points],
        "seconds": time.perf_counter() - start,
        "cache_seconds": 0.0,
    }


def make_trainer(
    spec: Spec,
    contestant: Contestant,
    encoder: LoadedEncoder,
    model: nn.Module,
    rows: Rows,
    *,
    learning_rate: float | None = None,
    epochs: int = 1,
    validation: Rows | None = None,
    kind: type[Trainer] = Trainer,
) -> Trainer:
    """Return a Trainer over some rows."""
    settings: dict[str, Any] = {
        "output_dir": spec.scratch,
        "seed": spec.seed,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": _EVALUATION_BATCH[contestant.tuned],
        "learning_rate": learning_rate or spec.rate_scale * RATES[contestant.method],
        "weight_decay": WEIGHT_DECAY,
        "warmup_steps": WARMUP_RATIO,
        "use_cpu": spec.device == "cpu",
        "dataloader_pin_memory": spec.device != "cpu",
        "torch_compile": contestant.compiled,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if contestant.tuned:
        settings |= {
            "bf16": spec.bf16,
            "optim": "adamw_torch_fused",
            "train_sampling_strategy": "group_by_length",
        }
    elif spec.tutorial_optim is not None:
        settings["optim"] = spec.tutorial_optim
    trainer = kind(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=_examples(rows),
        eval_dataset=None if validation is None else _examples(validation),
        data_collator=DataCollatorWithPadding(encoder.tokenizer),
        processing_class=encoder.tokenizer,
        compute_metrics=_accuracy,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _examples(rows: Rows) -> list[dict[str, Any]]:
    found = []
    for i, label in enumerate(rows.labels):
        ids = rows.ids[rows.offsets[i] : rows.offsets[i + 1]].tolist()
        found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)})
    return found


def _accuracy(predicted: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(predicted.predictions.argmax(-1) == predicted.label_ids))}


class _Grouping(Trainer):
    """Trainer that groups rows by length as it would with many rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return _Grouped([len(row["input_ids"]) for row in rows])


class _Grouped(Sampler[int]):
    """`transformers.trainer_pt_utils.LengthGroupedSampler` with a fixed number of batches to sort by length."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self._lengths, BATCH_SIZE, mega_batch_mult=_GROUPED_BATCHES))


class _Watch(TrainerCallback):
    """Timer from drawing the first batch to the end of the last step."""

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the timer, before the order is drawn."""
        self.begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Record the time after the optimizer's step."""
        self.end = time.perf_counter()


class _Quarters(TrainerCallback):
    """Callback that requests an evaluation after each quarter of an epoch, and records when it ended."""

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        self.points: list[dict[str, float]] = []
        self._steps = quarter_steps(steps_per_epoch, epochs)

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **__: Any) -> None:
        """Ask."""
        control.should_evaluate = state.global_step in self._steps

    def on_evaluate(self, _arguments: Any, state: Any, _control: Any, metrics: Any, **__: Any) -> None:
        """Note."""
        self.points.append(
            {"step": state.global_step, "seconds": time.perf_counter(), "accuracy": metrics["eval_accuracy"]}
        )


def quarter_steps(steps_per_epoch: int, epochs: int) -> set[int]:
    """Return the steps after which an evaluation is due, the same for both sides."""
    return {round(quarter * steps_per_epoch / 4) for quarter in range(1, 4 * epochs + 1)} - {0}
