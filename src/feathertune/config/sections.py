"""Every setting of a study, with its default."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from feathertune.errors import ConfigError
from feathertune.records import Long, Reading

_LARGEST = 10**15  # of whole numbers: sums and products of such still fit 64 bits where they are used


class Section(BaseModel):
    """A group of settings. Frozen: a changed setting is a new object."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _switches(cls, values: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        """Keep the words ``on`` and ``off`` of a setting that has them: YAML 1.1 reads them as true and false."""
        if not isinstance(values, dict):
            return values

        def word(key: str, value: Any) -> Any:  # noqa: ANN401
            field = cls.model_fields.get(key)
            meant = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else None
            return meant if field is not None and meant in get_args(field.annotation) else value

        return {key: word(key, value) for key, value in values.items()}

    @field_validator("*", mode="after")
    @classmethod
    def _bounded(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the setting is
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"Input should be at most {_LARGEST:,}")
        return value


class DataConfig(Section):
    """Data and its splits.

    Attributes:
        source: ``sample:imdb``, ``sample:rotten-tomatoes``, ``hub:NAME[:CONFIG]``, a file or a folder of labels.
        text_column: Column of the texts; two names, such as ``premise,hypothesis``, for pairs. Null finds usual names.
        label_column: Column of the labels; null finds usual names.
        label_separator: Text between the labels in one cell, such as ``|``; an empty cell has no label. Null means one
            label, or lists (JSON lines, parquet).
        task: ``single_label``, ``multi_label`` or ``regression`` (docs/numbers.md). ``auto`` means several labels if a
            separator is given or the first row has a list, and numbers if all labels are and one has a fraction.
        split_column: Column that says train, validation or test; null means none.
        test: Another source, for the test rows.
        train_size: Training rows, drawn with the classes in proportion; null means all.
        shots: Labelled rows of each class, drawn from the training rows for each seed, with none left for validation.
            Null means that all rows are labelled.
        test_size: Rows (a whole number) or share (a fraction) held out if the source has no test split; null means a
            fifth, 0 none, for `feathertune train` alone. Only a whole number cuts down a source's own test split.
        validation_size: As `test_size`; null means a tenth of the training rows, at least 200 if there are as many, and
            none under `shots`. 0 trains for a fixed number of steps and keeps the last state.
        max_length: Most tokens of one sequence; `long` decides what happens to longer texts.
        long: ``head`` reads a text's first tokens, ``head-tail`` the first and the last, ``windows`` several pieces of
            `max_length` tokens, whose logits are averaged.
        stride: Tokens that neighboring windows share at least; null means a quarter of `max_length`.
        max_windows: Most windows of one text; of a text that needs more, they are further apart.
        seed: Seed of the split.
        merge_labels: Read labels that look alike, such as ``neg`` and ``NEG``, as the most frequent of them.
        drop_invalid: Leave out rows without a text or a label, and count them, instead of stopping.
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
        """Reading of long texts, as it is recorded."""
        if self.long != "windows":
            return Reading(long=self.long)
        stride = self.max_length // 4 if self.stride is None else self.stride
        return Reading(long=self.long, stride=stride, max_windows=self.max_windows)

    @field_validator("text_column", mode="before")
    @classmethod
    def _are_columns(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        listed = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
        return ",".join(value) if listed else value

    @model_validator(mode="after")
    def _task_fits(self) -> DataConfig:
        if self.label_separator is not None and self.task in ("single_label", "regression"):
            raise ValueError(f"a label_separator makes several labels of one; leave it out, or the task {self.task}")
        return self


class BaseConfig(Section):
    """The base model; a list of such sections, or of their ids, in a comparison of several.

    Attributes:
        id: ``sample:minilm``, a hub id, a local folder or a GGUF file.
        revision: Branch, tag or commit, for a hub id.
    """

    id: str = "sample:minilm"
    revision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        return {"id": value} if isinstance(value, str) else value

    @property
    def stem(self) -> str:
        """Last part of the id, in characters that the name of a file may have."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.id.rpartition(":")[2]).name).strip("-") or "base"


class TrainConfig(Section):
    """The training loop.

    Attributes:
        epochs: Most passes over the training rows.
        min_steps: Fewest optimizer steps: on few rows, epochs are raised to reach it. Null means 0, or 40 without
            validation rows.
        learning_rate: Null means each method's own default.
        batch_size: Examples of one optimizer step.
        token_budget: Most padded tokens of one forward pass; a step is cut into as many passes as it needs.
        warmup_ratio: Share of all steps over which the rate rises; then it falls linearly to zero.
        weight_decay: Of matrices; biases and norms are not decayed.
        max_grad_norm: Length to which a longer gradient is cut.
        patience: Epochs without a better validation score before training stops.
        dropout: The encoder's own dropout. ``auto`` turns it on if the encoder itself is trained, off if it is frozen;
            the head's and an adapter's own dropout stay as they are.
        head_first: Train the head alone on frozen features before all else, for every method alike (LP-FT).
        class_weights: ``balanced`` weighs a text's loss by how rare its class is, n / (C * n_c); for several labels,
            that of texts with the label. The word-counting baseline and the probe do the same.
        decision: ``moved`` divides each class's probability by a threshold before the largest is taken; thresholds
            maximize macro F1 on validation rows.
        checkpoint_every_s: Seconds between checkpoints of `feathertune train`, besides one after each epoch; 0 means
            each step, null or ``off`` never. Rarer if they would take over 5% of the time.
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
        """Epochs of a training on `n_rows` rows."""
        return max(self.epochs, -(-(self.min_steps or 0) // self.steps_per_epoch(n_rows)))

    def steps_per_epoch(self, n_rows: int) -> int:
        """Optimizer steps of an epoch of `n_rows` rows."""
        return -(-n_rows // self.batch_size)

    def steps_on(self, n_rows: int) -> int:
        """Optimizer steps of a training on `n_rows` rows."""
        return self.epochs_on(n_rows) * self.steps_per_epoch(n_rows)

    @field_validator("checkpoint_every_s", mode="before")
    @classmethod
    def _off_is_null(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        return None if value is False or value == "off" else value  # YAML reads a bare off as false


class EngineConfig(Section):
    """Arithmetic of the engine; nothing here changes results beyond rounding.

    Attributes:
        dtype: Number format of matrix products; ``auto`` measures if this machine multiplies bf16 faster than fp32.
        attention: ``auto`` is feathertune's own on a CPU; ``eager`` and ``sdpa`` are transformers', with its blocks.
        device: ``auto`` takes a GPU if there is one.
        blocks: Run each block of a known form as one node of the graph, on a CPU.
        linear: Fuse frozen layers with LoRA, and query, key and value into one product.
        packed: Lay out frozen weights once for the CPU.
        last_layer: Compute the last layer only for the token that the head reads; ``keys`` forms all keys and values.
        memory: ``keep`` holds freed memory for the next step; ``return`` gives it back to the system page by page.
        recompute: Keep only each block's input and run the block again on the way back: less memory, a third more time.
        cache: Keep the output of the frozen blocks below the first trained one: ``auto`` in memory, or in a file if
            memory is too small or `cache_folder` is given; ``ram`` and ``disk`` only there.
        cache_bytes: Memory for the cache; null means half of the free memory.
        cache_folder: Folder where cache files stay and are found again; null means a temporary folder.
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


# Steps of a training without validation rows, where nothing says when to stop; docs/few-labels.md has the reason.
STEPS_WITHOUT_VALIDATION = 40
# The word for all training rows, in ``study.train_sizes``.
ALL_ROWS = "all"


class StudyConfig(Section):
    """Runs of a comparison.

    Attributes:
        methods: Methods besides the baselines. ``lora:top_layers=3`` is a row of its own, next to ``lora``.
        seeds: Each method runs with the seeds 0 to `seeds` - 1.
        metric: The score by which methods are ranked, and epochs, trials and strengths chosen (docs/concepts.md lists
            them). ``auto`` takes accuracy, ``balanced_accuracy`` where one class holds most of the training rows, and
            ``spearman``, the rank correlation, where the label is a number.
        margin: Loss of that score that still counts as "as good", for the verdict.
        keep_full: Keep the weights of `full` runs too (each as large as the encoder).
        match_parameters: Size each method to train this many parameters of the encoder, without the head: a share such
            as ``0.3%``, or a number. Null leaves the sizes as the options say.
        train_sizes: Numbers of training rows of a learning curve, such as ``[100, 300, 1000, all]``: smaller sets are
            part of larger ones, validation and test rows are the same. Empty means all rows only.
        search: Trials per method, on validation rows, for options that are not given; 0 takes the defaults.
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
    def _are_rows(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        given = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        sizes: list[int | str] = []
        for word in (str(one).strip() for one in given):
            if word != ALL_ROWS and not (word.isascii() and word.isdigit()):
                raise ValueError(f"'{word}' is no number of rows; expected such as 100,300,1000,{ALL_ROWS}")
            size = word if word == ALL_ROWS else int(word)
            if size in (0, 1):
                raise ValueError(f"{word} rows are too few to train on; expected 2 or more, or {ALL_ROWS}")
            if size in sizes:
                raise ValueError(f"{word} is there twice; expected each number of rows once")
            sizes.append(size)
        return tuple(sizes)

    @field_validator("match_parameters", mode="before")
    @classmethod
    def _is_a_budget(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if value is None:
            return None
        text = str(value).strip().replace(",", "")
        share = text.endswith("%")
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = float("nan")
        fits = 0 < number <= 100 if share else number >= 1 and number.is_integer()  # not a number fits neither
        if not fits or isinstance(value, bool):
            raise ValueError(
                "expected a share of the encoder's parameters above 0 % and up to 100 %, such as 0.3%, or a whole "
                "number of parameters, such as 70000"
            )
        return f"{number:g}%" if share else int(number)


class RunnerConfig(Section):
    """Execution of a comparison's runs; not part of a study, whose results do not depend on it.

    Attributes:
        name: `local` does one run after the other here, `ray` several at a time on a cluster (docs/scale.md).
        address: The cluster, as ``HOST:PORT``; null means `RAY_ADDRESS`, else one of this machine alone.
        num_cpus: CPUs, and threads, of a run; null means its threads here. Another number rounds differently.
        num_gpus: GPUs of a run, or a part of one; null means one if this machine computes on one.
        memory: Bytes of a run; null means the cost estimate, else a guess.
        retries: Times that a run is repeated if its node or process was lost.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    num_cpus: int | None = Field(default=None, ge=1)
    num_gpus: float | None = Field(default=None, ge=0, le=1)
    memory: int | None = Field(default=None, gt=0)
    retries: int = Field(default=3, ge=0)


class Config(Section):
    """All settings. `method` maps a method's name to its options, and an option to its value for all methods.

    `base` is one pretrained encoder, or a list of them for a comparison: each method runs on each base.
    """

    data: DataConfig = DataConfig()
    base: tuple[BaseConfig, ...] = Field(default=(BaseConfig(),), min_length=1)
    method: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    engine: EngineConfig = EngineConfig()
    study: StudyConfig = StudyConfig()
    runner: RunnerConfig = Field(default=RunnerConfig(), exclude=True)  # no part of a study

    @field_validator("base", mode="before")
    @classmethod
    def _are_bases(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("base", mode="after")
    @classmethod
    def _differ(cls, value: tuple[BaseConfig, ...]) -> tuple[BaseConfig, ...]:
        if twice := [base.id for place, base in enumerate(value) if base in value[:place]]:
            raise ValueError(f"{twice[0]} is there twice; expected each base once")
        return value

    @field_serializer("base")
    def _one_or_several(self, value: tuple[BaseConfig, ...]) -> Any:  # noqa: ANN401 - as in YAML
        found = [base.model_dump() for base in value]
        return found if len(found) > 1 else found[0]

    def one_base(self) -> BaseConfig:
        """Return the base model for what uses only one; raise a `ConfigError` if several are given."""
        if len(self.base) > 1:
            raise ConfigError(
                f"{len(self.base)} base models are given ({', '.join(base.id for base in self.base)}), and one is used "
                "here. Give one --base, or compare them: feathertune compare --base A,B."
            )
        return self.base[0]

    @property
    def base_names(self) -> tuple[str | None, ...]:
        """Short names of the bases, each once; None for the only one."""
        if len(self.base) == 1:
            return (None,)
        names: list[str | None] = []
        for base in self.base:
            free = (base.stem if n == 1 else f"{base.stem}-{n}" for n in itertools.count(1))
            names.append(next(name for name in free if name not in names))
        return tuple(names)

    def to_yaml(self) -> str:
        """Return the settings as a file that runs again as it is."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
