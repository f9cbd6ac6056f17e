"""Lightweight fine-tuning for text classification, with an honest account of what it buys you."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feathertune.api import (
        Predictor,
        Study,
        compare,
        evaluate_base,
        export_model,
        finetune,
        import_adapter,
        load,
        push,
        rank_bases,
    )
    from feathertune.config import Config, load_config
    from feathertune.estimator import TextClassifier, TextRegressor

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Predictor",
    "Study",
    "TextClassifier",
    "TextRegressor",
    "__version__",
    "compare",
    "evaluate_base",
    "export_model",
    "finetune",
    "import_adapter",
    "load",
    "load_config",
    "push",
    "rank_bases",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Load public names on first use, so that ``import feathertune`` alone loads no torch."""
    if name in ("Config", "load_config"):
        from feathertune import config

        return getattr(config, name)
    if name in ("TextClassifier", "TextRegressor"):
        from feathertune import estimator

        return getattr(estimator, name)
    if name in __all__:
        from feathertune import api

        return getattr(api, name)
    raise AttributeError(f"module 'feathertune' has no attribute '{name}'")
