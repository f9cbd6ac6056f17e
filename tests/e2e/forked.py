"""Python programs in processes of their own, forked from one that has loaded torch and feathertune already.

Loading them takes four seconds of a core, far longer than most commands of the tests. `test_bad_input` and
`test_bundle_commands` start real ones too.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_LOADED = [
    "feathertune.cli.main",
    "feathertune.study.compare",
    "feathertune.study.finetune",
    "feathertune.predictor",
    "feathertune.serve.app",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "peft",
]
_CONTEXT: Any = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(_LOADED)


class Forked:
    """`subprocess.Popen` of ``python ARGUMENTS``, of the parts that the tests use; streams are text."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: str | None = None,
    ) -> None:
        self.arguments = list(arguments)
        read_in, write_in = os.pipe()
        self.stdout, write_out = _pipe()
        self.stderr, write_err = _pipe()
        streams = [Connection(end, writable=False) for end in (read_in, write_out, write_err)]
        self._process = _CONTEXT.Process(
            target=_run, args=(self.arguments, dict(env), str(cwd or Path.cwd()), streams), daemon=True
        )
        self._process.start()
        for stream in streams:
            stream.close()
        _feed(write_in, stdin or "")

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote, once it has ended."""
        with ThreadPoolExecutor(2) as readers, self.stdout, self.stderr:
            written = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return written[0].result(), written[1].result()

    def close(self) -> None:
        """Close the streams; `communicate` does so itself."""
        self.stdout.close()
        self.stderr.close()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _pipe() -> tuple[TextIOWrapper, int]:
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)  # so that the program need not wait for a reader
    return os.fdopen(read, "r", encoding="utf-8"), write


def _feed(descriptor: int, content: str) -> None:
    """Write a program's standard input while the program reads it."""

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)

    threading.Thread(target=write, daemon=True).start()


def _run(arguments: list[str], env: dict[str, str], cwd: str, streams: list[Connection]) -> None:
    """Be ``python ARGUMENTS``, in the forked process."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server that forks ignores it
    signal.set_wakeup_fd(-1)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors=errors)  # noqa: SIM115 - for the life of the process
        for number, mode, errors in ((0, "r", "surrogateescape"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        assert arguments[0] == "-c"
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
