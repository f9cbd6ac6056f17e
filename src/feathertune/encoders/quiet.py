"""Silence transformers while it loads or saves."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

from feathertune.runtime import GLOBAL_STATE


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' reports, progress bars and warnings, in one thread at a time."""
    with GLOBAL_STATE:
        verbosity = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity(logging.CRITICAL)
        transformers_logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()
