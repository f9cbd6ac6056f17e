"""Python's garbage collector, kept off what is loaded once and stays.

Apart from `feathertune.runtime`, which loads torch.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def gc_frozen() -> Iterator[None]:
    """Keep the garbage collector off all that is loaded before the block: it would look at it again each time.

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
