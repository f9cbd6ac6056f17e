"""A process that works beside this one, where the system lets us have one.

It is started anew and not forked, since a fork takes threads and locks with it in whatever state they are; a script
that asks for one must be importable, as for `multiprocessing`. Not for the runs of a study, which are sent to
processes by `feathertune.study.runners`.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_beside(begin: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor | None]:
    """One process, that starts with its first job; None where there can be none.

    It ends with the block: when its jobs are done, or at once where the block is left by an error or Ctrl-C.

    Args:
        begin: Is called there first.
    """
    try:
        pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(begin,)
        )
    except (OSError, ImportError, NotImplementedError):  # no shared semaphores here
        yield None
        return
    others = multiprocessing.active_children()
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(begin: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is stopped, and stops it
    warnings.simplefilter("ignore")  # they are for developers, and would come on the same screen
    if begin is not None:
        begin()
