"""Commands in forked processes in which one operation on files fails, or the process is killed at it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KILL = "kill"
FAULTS = (errno.ENOSPC, errno.EIO, errno.EACCES, KILL)
# Events of Python's audit hooks that are operations on files; the first argument is the path, or the two of a move.
_EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.listdir")


@dataclass
class Ended:
    """How a command ended, and the operations that it came to."""

    code: int
    stderr: str
    operations: int


def run(arguments: list[object], root: Path, *, fault: int | str | None = None, at: int = -1) -> Ended:
    """Run a command; its operation number `at` on files below `root` fails, or kills it."""
    said, counted = root.parent / "stderr.txt", root.parent / "operations.txt"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, path in ((1, os.devnull), (2, said)):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(descriptor, number)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            sys.argv = ["feathertune", *map(str, arguments)]
            code = _command(root, counted, fault, at)
        finally:
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    n = int(counted.read_text() or 0) if counted.exists() else 0
    return Ended(code, said.read_text(errors="replace"), n)


def _command(root: Path, counted: Path, fault: int | str | None, at: int) -> int:
    from feathertune.cli import main

    count = 0

    def operation(path: object) -> None:
        nonlocal count
        try:
            touched = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        except TypeError:  # a descriptor
            return
        if not touched.startswith(f"{root}/") and touched != str(root):
            return
        count += 1
        if count - 1 == at:
            if fault == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault is not None:
                raise OSError(fault, os.strerror(fault), touched)

    sys.addaudithook(lambda event, arguments: operation(arguments[0]) if event in _EVENTS else None)
    for owner, name, of in _written_outside_python():
        _watch(owner, name, of, operation)
    try:
        main()
    except SystemExit as end:
        code = end.code
    counted.write_text(str(count))
    return code if isinstance(code, int) else int(code is not None)


def _written_outside_python() -> Iterator[tuple[object, str, Callable[..., object]]]:
    """Functions that touch the disk without an audit event, and how to find the path in their arguments."""
    import safetensors.torch
    import tokenizers

    yield os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}")
    yield safetensors.torch, "serialize_file", lambda _tensors, path, *_a, **_k: path
    yield tokenizers.Tokenizer, "save", lambda _self, path, *_a, **_k: path


def _watch(owner: object, name: str, of: Callable[..., object], operation: Callable[[object], None]) -> None:
    real = getattr(owner, name)

    def watched(*arguments: object, **options: object) -> object:
        with contextlib.suppress(OSError):
            path = of(*arguments, **options)
        operation(path)
        return real(*arguments, **options)

    with contextlib.suppress(TypeError):  # a type of Rust takes no attributes
        setattr(owner, name, watched)
