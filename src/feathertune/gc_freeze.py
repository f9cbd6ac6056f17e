"""Keep Python's garbage collector away from objects that stay. It loads no torch."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def gc_frozen() -> Iterator[None]:
    """Exclude all objects that exist now from garbage collection while the context lasts.

    With torch and transformers loaded, a collection takes a fifth of a second, and every run of a study asks for two.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
