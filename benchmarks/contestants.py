"""The contestants: transformers' `Trainer` (alone and with PEFT), and feathertune. This module does not import torch.

*Tutorial* follows transformers' documentation: fp32, random batches padded to their longest text. *Tuned* uses
Trainer's best options on a CPU: bf16 if this machine multiplies it faster, batches of similar length, fused AdamW. Both
use torch's fused attention, transformers' default; fused AdamW is the default from torch 2.8. Padding to multiples of 8
made Trainer slower (benchmarks/LOG.md). `torch.compile` is used only for Trainers on a GPU.

feathertune turns off a frozen encoder's dropout. To separate this from engine speed, some tuned Trainers run without
the encoder's dropout, and one feathertune contestant runs with it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BATCH_SIZE = 16
WEIGHT_DECAY = 0.01
WARMUP_RATIO = 0.06
R, LORA_ALPHA = 8, 16
# One rate for both sides, so that their losses can be compared.
RATES = {"full": 5e-5, "lora": 5e-4}
# A cache pays off over several epochs: run this many, and divide the cache's cost by them.
CACHED_EPOCHS = 3


@dataclass(frozen=True)
class Contestant:
    """One way to train.

    Attributes:
        name: Name in tables and on the command line.
        side: Library that trains.
        method: Full fine-tuning or LoRA.
        tuned: True for a tuned Trainer; feathertune has no tutorial variant.
        dropout: True if the encoder's dropout is on.
        compiled: True if a Trainer's model goes through ``torch.compile``.
        top_share: Share of the layers to train, the last ones, with the others' output cached; ``None`` trains all.
        settings: feathertune settings, by dotted key.
    """

    name: str
    side: Literal["trainer", "feathertune"]
    method: Literal["full", "lora"]
    tuned: bool = True
    dropout: bool = True
    compiled: bool = False
    top_share: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Return the number of epochs per measurement."""
        return 1 if self.top_share is None else CACHED_EPOCHS

    def top_layers(self, n_layers: int) -> int | None:
        """Return the number of trained layers, or None for all."""
        return None if self.top_share is None else max(1, round(self.top_share * n_layers))


_QUERY_VALUE = {"method.lora.target_modules": "query-value"}


def _cached(name: str, share: float, **settings: Any) -> Contestant:
    keep = {"engine.cache": "ram", **settings}
    return Contestant(name, "feathertune", "lora", dropout=False, top_share=share, settings=keep)


CONTESTANTS = (
    Contestant("trainer-full-tutorial", "trainer", "full", tuned=False),
    Contestant("trainer-full-tuned", "trainer", "full"),
    Contestant("trainer-full-tuned-no-dropout", "trainer", "full", dropout=False),
    Contestant("trainer-lora-tutorial", "trainer", "lora", tuned=False),
    Contestant("trainer-lora-tuned", "trainer", "lora"),
    Contestant("trainer-lora-tuned-no-dropout", "trainer", "lora", dropout=False),
    Contestant("trainer-full-compiled", "trainer", "full", dropout=False, compiled=True),
    Contestant("trainer-lora-compiled", "trainer", "lora", dropout=False, compiled=True),
    Contestant("full", "feathertune", "full"),
    Contestant("lora", "feathertune", "lora", dropout=False, settings=_QUERY_VALUE),
    Contestant("lora-all-linear", "feathertune", "lora", dropout=False),
    Contestant("lora-dropout", "feathertune", "lora", settings={**_QUERY_VALUE, "train.dropout": "on"}),
    # The next two need `top_layers` and the cache; delete these lines to leave them out.
    _cached("lora-top-half-cached", 1 / 2, **_QUERY_VALUE),
    _cached("lora-top-quarter-cached", 1 / 4, **_QUERY_VALUE),
)

# `lora` with one part of the engine turned off at a time.
_SWITCHES = (
    ("engine.blocks", "off"),
    ("engine.linear", "off"),
    ("engine.packed", "off"),
    ("engine.last_layer", "off"),
    ("engine.last_layer", "keys"),
    ("engine.attention", "eager"),
    ("engine.attention", "sdpa"),
    ("engine.memory", "return"),
    ("engine.dtype", "fp32"),
)
ABLATION = (
    Contestant("lora", "feathertune", "lora", dropout=False, settings=_QUERY_VALUE),
    *(
        Contestant(f"lora {key}={value}", "feathertune", "lora", dropout=False, settings={**_QUERY_VALUE, key: value})
        for key, value in _SWITCHES
    ),
)

# For time to accuracy, feathertune uses its defaults, with all linear layers.
TO_ACCURACY = (
    Contestant("trainer-full-tutorial", "trainer", "full", tuned=False),
    Contestant("trainer-full-tuned", "trainer", "full"),
    Contestant("full", "feathertune", "full"),
    Contestant("lora", "feathertune", "lora", dropout=False),
    _cached("lora-top-half-cached", 1 / 2),
)

# Reported ratios: how many times faster the second is than the first.
RATIOS = (
    ("trainer-lora-tutorial", "lora"),
    ("trainer-lora-tuned", "lora"),
    ("trainer-lora-tuned-no-dropout", "lora"),
    ("trainer-lora-compiled", "lora"),
    ("trainer-full-compiled", "full"),
    ("trainer-lora-tuned", "lora-dropout"),
    ("trainer-full-tutorial", "lora"),
    ("trainer-full-tuned", "lora"),
    ("trainer-full-tuned", "full"),
    ("trainer-full-tuned", "lora-top-half-cached"),
    ("trainer-full-tuned", "lora-top-quarter-cached"),
)


def choose(contestants: Sequence[Contestant], names: str | None) -> tuple[list[Contestant], list[str]]:
    """Return the requested contestants that can run.

    Args:
        contestants: All contestants, in order.
        names: Comma-separated names; ``None`` means all.

    Returns:
        The contestants, and a line for each one left out because this version of feathertune cannot run it.

    Raises:
        SystemExit: If a name is unknown.
    """
    known = {contestant.name: contestant for contestant in contestants}
    wanted = list(known) if names is None else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"Unknown contestant: {', '.join(unknown)}. Expected one of: {', '.join(known)}.")
    chosen = [known[name] for name in wanted]
    if can_cache():
        return chosen, []
    left_out = [f"{c.name} is left out: this version has no top_layers." for c in chosen if c.top_share is not None]
    return [c for c in chosen if c.top_share is None], left_out


def can_cache() -> bool:
    """Return True if this version can train LoRA in the top layers over cached hidden states."""
    from feathertune.methods.families.lora import LoraOptions

    return (
        "top_layers" in LoraOptions.model_fields
        and importlib.util.find_spec("feathertune.engine.prefix_cache.store") is not None
    )
