"""Fine-tune with transformers' Trainer, alone or with PEFT: the script that a tutorial leads to. No feathertune here.

Run: ``python benchmarks/trainer_script.py DATA.csv --base FOLDER --out MODEL --lora --tuned``. The CSV has the columns
text, label and split. Prints the accuracies as JSON. `bench_end_to_end.py` times the whole process.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from contestants import BATCH_SIZE, LORA_ALPHA, RATES, WARMUP_RATIO, WEIGHT_DECAY, R
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


class Rows(Dataset):  # type: ignore[type-arg]
    """Tokenized texts and labels of one split."""

    def __init__(self, rows: list[dict[str, str]], labels: list[str], tokenizer: Any, max_length: int) -> None:
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
        classes = [labels.index(row["label"]) for row in rows]
        self._rows = [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], classes, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--tuned", action="store_true", help="batches by length, fused AdamW; bf16 with --bf16")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rate", type=float, help="peak learning rate, in place of the usual one")
    parser.add_argument("--all-linear", action="store_true", help="LoRA in all linear layers, not in query and value")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    set_seed(args.seed)
    csv.field_size_limit(2**30)
    with args.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = AutoModelForSequenceClassification.from_pretrained(args.base, num_labels=len(labels))
    if args.lora:
        model = _with_lora(model, args)
    train, validation, test = (
        Rows([row for row in rows if row["split"] == name], labels, tokenizer, args.max_length)
        for name in ("train", "validation", "test")
    )
    trainer = Trainer(
        model=model,
        args=_settings(args),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda found: {"accuracy": float(np.mean(found.predictions.argmax(-1) == found.label_ids))},
    )
    trainer.train()
    found = {
        "validation": trainer.evaluate(validation)["eval_accuracy"],
        "test": trainer.evaluate(test)["eval_accuracy"],
    }
    trainer.save_model(str(args.out / "model"))
    print(json.dumps(found))


def _with_lora(model: Any, args: argparse.Namespace) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="SEQ_CLS",
        r=R,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0 if args.tuned else 0.1,
        target_modules="all-linear" if args.all_linear else ["query", "value"],
        modules_to_save=["classifier"],
    )
    return get_peft_model(model, config)


def _settings(args: argparse.Namespace) -> TrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": str(args.out / "checkpoints"),
        "seed": args.seed,
        "num_train_epochs": args.epochs,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": 2 * BATCH_SIZE if args.tuned else BATCH_SIZE,
        "learning_rate": args.rate or RATES["lora" if args.lora else "full"],
        "weight_decay": WEIGHT_DECAY,
        "warmup_steps": WARMUP_RATIO,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }
    if args.tuned:
        settings |= {"bf16": args.bf16, "optim": "adamw_torch_fused", "train_sampling_strategy": "group_by_length"}
    return TrainingArguments(**settings)


if __name__ == "__main__":
    main()
