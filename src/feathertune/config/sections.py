"""All settings with their defaults."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from feathertune.errors import ConfigError
from feathertune.records import Long, Reading

_LARGEST = 10**15  # largest integer setting: the sums and products in use still fit into 64 bits


class Section(BaseModel):
    """A frozen group of settings; a changed setting makes a new object."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _switches(cls, values: Any) -> Any:  # noqa: ANN401 - any YAML value
        """Turn booleans back into ``on`` and ``off``: YAML 1.1 reads these words as true and false."""
        if not isinstance(values, dict):
            return values

        def word(key: str, value: Any) -> Any:  # noqa: ANN401
            field = cls.model_fields.get(key)
            meant = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else None
            return meant if field is not None and meant in get_args(field.annotation) else value

        return {key: word(key, value) for key, value in values.items()}

    @field_validator("*", mode="after")
    @classmethod
    def _bounded(cls, value: Any) -> Any:  # noqa: ANN401 - any setting
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"Input should be at most {_LARGEST:,}")
        return value


class DataConfig(Section):
    """Data and splits.

    Attributes:
        source: ``sample:imdb``, ``sample:rotten-tomatoes``, ``hub:NAME[:CONFIG]``, a file, or a folder of labels.
        text_column: Text column, or two columns for pairs, e.g. ``premise,hypothesis``. Null detects common names.
        label_column: Label column. Null detects common names.
        label_separator: Separator between the labels in a cell, e.g. ``|``; an empty cell means no label. Null means
            one label per cell, or lists (JSON lines, parquet).
        task: ``single_label``, ``multi_label`` or ``regression`` (docs/numbers.md). ``auto`` picks ``multi_label`` if
            a separator is set or the first row has a list, ``regression`` if all labels are numbers and at least one
            has a fraction, else ``single_label``.
        split_column: Column with train, validation or test. Null means none.
        test: Separate source of the test rows.
        train_size: Number of training rows, drawn with class proportions preserved. Null means all.
        shots: Labelled rows per class, redrawn from the training rows for each seed; none are kept for validation.
            Null means that all rows are labelled.
        test_size: Number (integer) or share (fraction) of test rows. Null means a fifth; 0, for `feathertune train`
            only, means none. A source's own test split is reduced only by a number.
        validation_size: Number or share of validation rows, as for `test_size`. Null means a tenth of the training
            rows, at least 200 if there are enough, and none with `shots`. 0 trains for a fixed number of steps and
            keeps the last state.
        max_length: Maximum tokens per sequence; `long` sets the treatment of longer texts.
        long: ``head`` keeps a text's first tokens, ``head-tail`` the first and the last; ``windows`` reads several
            pieces of `max_length` tokens and averages their logits.
        stride: Minimum overlap of adjacent windows, in tokens. Null means a quarter of `max_length`.
        max_windows: Maximum windows per text; in longer texts, the windows are spread out.
        seed: Seed of the split.
        merge_labels: Merge labels that look alike, e.g. ``neg`` and ``NEG``, into the most frequent spelling.
        drop_invalid: Skip and count rows without a text or a label, instead of stopping.
    """

    source: str = "sample:imdb"
    text_column: str | None = None
    label_column: str | None = None
    label_separator: str | None = Field(default=None, min_length=1)
    task: Literal["auto", "single_label", "multi_label", "regression"] = "auto"
    split_column: str | None = None
    test: str | None = None
    train_size: int | None = Field(default=None, ge=2)
    shots: int | None = Field(default=None, ge=1)
    test_size: int | float | None = Field(default=None, ge=0)
    validation_size: int | float | None = Field(default=None, ge=0)
    max_length: int = Field(default=256, ge=4)
    long: Long = "head"
    stride: int | None = Field(default=None, ge=0)
    max_windows: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)
    merge_labels: bool = False
    drop_invalid: bool = False

    @property
    def reading(self) -> Reading:
        """Treatment of long texts, as recorded."""
        if self.long != "windows":
            return Reading(long=self.long)
        stride = self.max_length // 4 if self.stride is None else self.stride
        return Reading(long=self.long, stride=stride, max_windows=self.max_windows)

    @field_validator("text_column", mode="before")
    @classmethod
    def _are_columns(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        listed = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
        return ",".join(value) if listed else value

    @model_validator(mode="after")
    def _task_fits(self) -> DataConfig:
        if self.label_separator is not None and self.task in ("single_label", "regression"):
            raise ValueError(f"label_separator does not fit the task {self.task}; leave one of them out")
        return self


class BaseConfig(Section):
    """Base model; to compare several, a list of these sections or of ids.

    Attributes:
        id: ``sample:minilm``, a hub id, a local folder or a GGUF file.
        revision: Branch, tag or commit of a hub id.
    """

    id: str = "sample:minilm"
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        return {"id": value} if isinstance(value, str) else value

    @property
    def stem(self) -> str:
        """Last part of the id, in characters that are valid in a file name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.id.rpartition(":")[2]).name).strip("-") or "base"


class TrainConfig(Section):
    """Training loop.

    Attributes:
        epochs: Maximum passes over the training rows.
        min_steps: Minimum optimizer steps; with few rows, raises the number of epochs. Null means 0, or 40 without
            validation rows.
        learning_rate: Peak learning rate. Null means each method's default.
        batch_size: Texts per optimizer step.
        token_budget: Maximum padded tokens per forward pass; a larger batch is split into several passes.
        warmup_ratio: Share of the steps with a rising learning rate; afterwards it decays linearly to zero.
        weight_decay: Weight decay of matrices; biases and norms are not decayed.
        max_grad_norm: Maximum gradient norm; larger gradients are clipped.
        patience: Epochs without a better validation score before early stopping.
        dropout: Dropout of the base model. ``auto`` turns it on if the base model's weights are trained and off if
            they are frozen. Dropout of the head and the adapter is not affected.
        head_first: Train the head on frozen features before everything else, with every method (LP-FT).
        class_weights: ``balanced`` weights a text's loss by the inverse frequency of its class, n / (C * n_c); with
            several labels, the loss of texts that have the label. It also applies to the tf-idf baseline and the probe.
        decision: ``moved`` divides each class's probability by a threshold before taking the largest; the thresholds
            maximize macro F1 on validation rows.
        checkpoint_every_s: Seconds between checkpoints of `feathertune train`, in addition to one per epoch. 0 means
            every step; null or ``off`` means none. Checkpoints are rarer if they would take over 5% of the time.
    """

    epochs: int = Field(default=5, ge=1)
    min_steps: int | None = Field(default=None, ge=0)
    learning_rate: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, ge=1)
    token_budget: int = Field(default=4096, ge=16)
    warmup_ratio: float = Field(default=0.06, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    patience: int = Field(default=2, ge=1)
    dropout: Literal["auto", "on", "off"] = "auto"
    head_first: Literal["on", "off"] = "on"
    class_weights: Literal["none", "balanced"] = "none"
    decision: Literal["largest", "moved"] = "largest"
    checkpoint_every_s: float | None = Field(default=60.0, ge=0, strict=True, allow_inf_nan=False)

    def epochs_on(self, n_rows: int) -> int:
        """Return the number of epochs of a training on `n_rows` rows."""
        return max(self.epochs, -(-(self.min_steps or 0) // self.steps_per_epoch(n_rows)))

    def steps_per_epoch(self, n_rows: int) -> int:
        """Return the optimizer steps of an epoch over `n_rows` rows."""
        return -(-n_rows // self.batch_size)

    def steps_on(self, n_rows: int) -> int:
        """Return the optimizer steps of a training on `n_rows` rows."""
        return self.epochs_on(n_rows) * self.steps_per_epoch(n_rows)

    @field_validator("checkpoint_every_s", mode="before")
    @classmethod
    def _off_is_null(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        return None if value is False or value == "off" else value  # YAML reads a bare off as false


class EngineConfig(Section):
    """Engine; these settings change results only by rounding.

    Attributes:
        dtype: Number format of matrix products. ``auto`` measures whether bf16 is faster than fp32 on this machine.
        attention: ``auto`` uses feathertune's attention on a CPU; ``eager`` and ``sdpa`` use transformers' attention
            and blocks.
        device: Torch device. ``auto`` uses a GPU if available.
        blocks: On a CPU, run each supported transformer block as one autograd node.
        linear: Fuse frozen layers with LoRA, and query, key and value into one product.
        packed: Pack frozen weights once in the CPU's layout.
        last_layer: Compute the last layer only for the token that the head reads; ``keys`` computes all keys and
            values.
        memory: ``keep`` holds freed memory for the next step; ``return`` returns it to the system.
        recompute: Store only each block's input and recompute the block in the backward pass: less memory, a third
            more time.
        cache: Cache the outputs of the frozen blocks below the first trained one. ``auto`` uses memory, or a file if
            memory is short or `cache_folder` is set; ``ram`` and ``disk`` force one of them.
        cache_bytes: Memory for the cache. Null means half of the free memory.
        cache_folder: Folder for persistent cache files. Null means a temporary folder.
    """

    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    device: str = "auto"
    blocks: Literal["auto", "off"] = "auto"
    linear: Literal["auto", "off"] = "auto"
    packed: Literal["auto", "off"] = "auto"
    last_layer: Literal["auto", "keys", "off"] = "auto"
    memory: Literal["keep", "return"] = "keep"
    recompute: Literal["on", "off"] = "off"
    cache: Literal["auto", "ram", "disk", "off"] = "auto"
    cache_bytes: int | None = Field(default=None, ge=0)
    cache_folder: str | None = None


# Steps of a training without validation rows, which cannot stop early; docs/few-labels.md has the reason.
STEPS_WITHOUT_VALIDATION = 40
# Stands for all training rows in ``study.train_sizes``.
ALL_ROWS = "all"


class StudyConfig(Section):
    """Comparison of methods.

    Attributes:
        methods: Methods to compare, in addition to the baselines. Variants such as ``lora:top_layers=3`` are separate
            rows.
        seeds: Number of seeds per method: 0 to `seeds` - 1.
        metric: Primary metric, which ranks methods and selects epochs, trials and regularization (docs/concepts.md
            lists the metrics). ``auto`` means accuracy, ``balanced_accuracy`` if one class holds most of the training
            rows, or ``spearman`` (rank correlation) if labels are numbers.
        margin: Largest loss of the primary metric that still counts as "as good" in the verdict.
        keep_full: Also keep the weights of `full` runs, each as large as the base model.
        match_parameters: Trainable-parameter budget per method, excluding the head: a share of the base model such as
            ``0.3%``, or a number. Null means that the methods' options set their sizes.
        train_sizes: Training-set sizes of a learning curve, e.g. ``[100, 300, 1000, all]``. Smaller sets are subsets
            of larger ones; validation and test rows stay the same. Empty means all rows only.
        search: Hyperparameter trials per method on validation rows, for options that are not set. 0 uses the defaults.
    """

    methods: tuple[str, ...] = ("lora", "full")
    seeds: int = Field(default=1, ge=1)
    metric: str = "auto"
    margin: float = Field(default=0.01, ge=0, lt=1)
    keep_full: bool = False
    match_parameters: int | str | None = None
    train_sizes: tuple[int | str, ...] = ()
    search: int = Field(default=0, ge=0)

    @field_validator("train_sizes", mode="before")
    @classmethod
    def _are_rows(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        given = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        sizes: list[int | str] = []
        for word in (str(one).strip() for one in given):
            if word != ALL_ROWS and not (word.isascii() and word.isdigit()):
                raise ValueError(f"'{word}' is not a number of rows; expected e.g. 100,300,1000,{ALL_ROWS}")
            size = word if word == ALL_ROWS else int(word)
            if size in (0, 1):
                raise ValueError(f"{word} rows are too few to train on; expected 2 or more, or {ALL_ROWS}")
            if size in sizes:
                raise ValueError(f"{word} is listed twice; expected each size once")
            sizes.append(size)
        return tuple(sizes)

    @field_validator("match_parameters", mode="before")
    @classmethod
    def _is_a_budget(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        if value is None:
            return None
        text = str(value).strip().replace(",", "")
        share = text.endswith("%")
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = float("nan")
        fits = 0 < number <= 100 if share else number >= 1 and number.is_integer()  # false for NaN
        if not fits or isinstance(value, bool):
            raise ValueError(
                "expected a share of the base model's parameters, above 0% and up to 100%, e.g. 0.3%, or a whole "
                "number of parameters, e.g. 70000"
            )
        return f"{number:g}%" if share else int(number)


class RunnerConfig(Section):
    """Execution of a comparison's runs; results do not depend on it, so a study does not record it.

    Attributes:
        name: `local` runs one at a time on this machine; `ray` runs several at a time on a cluster (docs/scale.md).
        address: Cluster address, ``HOST:PORT``. Null means `RAY_ADDRESS`, else a local cluster.
        num_cpus: CPUs and threads per run. Null means the number of threads here; other numbers round differently.
        num_gpus: GPUs per run, or a fraction of one. Null means one if this machine uses a GPU.
        memory: Bytes per run. Null means the cost estimate, if there is one, else a guess.
        retries: Retries of a run whose node or process was lost.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    num_gpus: float | None = Field(default=None, ge=0, le=1)
    memory: int | None = Field(default=None, gt=0)
    retries: int = Field(default=3, ge=0)


class Config(Section):
    """All settings. `method` maps a method's name to its options, or an option's name to a value for all methods.

    `base` is one base model, or a list for a comparison in which each method runs on each base.
    """

    data: DataConfig = DataConfig()
    base: tuple[BaseConfig, ...] = Field(default=(BaseConfig(),), min_length=1)
    method: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    engine: EngineConfig = EngineConfig()
    study: StudyConfig = StudyConfig()
    runner: RunnerConfig = Field(default=RunnerConfig(), exclude=True)  # not part of a study

    @field_validator("base", mode="before")
    @classmethod
    def _are_bases(cls, value: Any) -> Any:  # noqa: ANN401 - any YAML value
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("base", mode="after")
    @classmethod
    def _differ(cls, value: tuple[BaseConfig, ...]) -> tuple[BaseConfig, ...]:
        if twice := [base.id for place, base in enumerate(value) if base in value[:place]]:
            raise ValueError(f"{twice[0]} is listed twice; expected each base once")
        return value

    @field_serializer("base")
    def _one_or_several(self, value: tuple[BaseConfig, ...]) -> Any:  # noqa: ANN401 - as in YAML
        found = [base.model_dump() for base in value]
        return found if len(found) > 1 else found[0]

    def one_base(self) -> BaseConfig:
        """Return the only base model; raise a `ConfigError` if there are several."""
        if len(self.base) > 1:
            raise ConfigError(
                f"{len(self.base)} base models were given ({', '.join(base.id for base in self.base)}), but this "
                "command uses one. Pass one --base, or compare them: feathertune compare --base A,B."
            )
        return self.base[0]

    @property
    def base_names(self) -> tuple[str | None, ...]:
        """Unique short names of the bases; None for a single base."""
        if len(self.base) == 1:
            return (None,)
        names: list[str | None] = []
        for base in self.base:
            free = (base.stem if n == 1 else f"{base.stem}-{n}" for n in itertools.count(1))
            names.append(next(name for name in free if name not in names))
        return tuple(names)

    def to_yaml(self) -> str:
        """Return the settings as a YAML file that reproduces the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
