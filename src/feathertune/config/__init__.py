"""All settings with their defaults; loads no torch. Methods check their own options."""

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
