"""Every setting of a study, its default, and how files, ``--set`` and options of the command line are put together.

The later wins: defaults, then the YAML file, then ``--set key=value``, then the options of the command line. Unknown
keys are refused with the nearest name. Settings of a method (``method.lora.r``) are only collected here; the methods
know their own options and check them (`feathertune.methods`). Loads without torch.
"""

from __future__ import annotations

from feathertune.config.loading import DEMO, demonstration, load_config, read_value
from feathertune.config.sections import (
    ALL_ROWS,
    STEPS_WITHOUT_VALIDATION,
    BaseConfig,
    Config,
    DataConfig,
    EngineConfig,
    RunnerConfig,
    Section,
    StudyConfig,
    TrainConfig,
)

__all__ = [
    "ALL_ROWS",
    "DEMO",
    "STEPS_WITHOUT_VALIDATION",
    "BaseConfig",
    "Config",
    "DataConfig",
    "EngineConfig",
    "RunnerConfig",
    "Section",
    "StudyConfig",
    "TrainConfig",
    "demonstration",
    "load_config",
    "read_value",
]
