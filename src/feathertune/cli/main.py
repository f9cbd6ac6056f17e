"""The command-line app and its error handling: one message on stderr, exit code 2 for bad input, 1 for a failed run."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer

from feathertune import __version__
from feathertune.cli import adopt, bases, compare, export, inspect, methods, predict, push, report, serve, train
from feathertune.cli.output.terminal import PrintableConsole, PrintableStream
from feathertune.errors import ConfigError, FeathertuneError, first_line, is_whole

app = typer.Typer(
    name="feathertune",
    help="Lightweight fine-tuning for text classification, with an honest account of what it buys you.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_HOW_TO_GO_ON = (
    "Finished work is kept. To continue a study, repeat the command; to continue a training, repeat it with --resume."
)
_INTERRUPTED = 128 + signal.SIGINT
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: check its arguments, and turn errors into messages before typer handles them."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        debug = bool(kwargs.get("debug"))
        with _messages(debug=debug), warnings.catch_warnings():
            if not debug:  # warnings of libraries address developers; feathertune has messages for users
                warnings.simplefilter("ignore")
            command(*args, **{name: _checked(name, value) for name, value in kwargs.items()})
            sys.stdout.flush()  # report a full disk now, not when Python exits

    return run


def _checked(name: str, value: object) -> object:
    """Return an argument with ``~`` expanded; refuse text that is not UTF-8, which no record can hold."""
    if isinstance(value, (str, Path)) and not is_whole(str(value)):
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(f"The value of {option} is not UTF-8: {value}. If it is a file, rename it.")
    return value.expanduser() if isinstance(value, Path) and str(value).startswith("~") else value


@contextlib.contextmanager
def _messages(*, debug: bool) -> Iterator[None]:
    """Turn every exception in the block into a message on stderr and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except FeathertuneError as error:
        _fail(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail(f"Stopped. {_HOW_TO_GO_ON}", _INTERRUPTED, debug=False)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe; closing stdout would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        said = "No space left to write" if error.errno in _FULL else "System error"
        _fail(f"{said}{where}: {error.strerror or first_line(error)}. {_HOW_TO_GO_ON}", 1, debug=debug)
    except MemoryError as error:
        _fail(f"Out of memory: {first_line(error)}. Use less data or smaller batches.", 1, debug=debug)
    except Exception as error:
        _fail(
            f"This is a bug in feathertune: {type(error).__name__}: {first_line(error)}. Run the command again with "
            f"--debug and report the output. {_HOW_TO_GO_ON}",
            1,
            debug=debug,
        )


def _fail(message: str, code: int, *, debug: bool) -> NoReturn:
    if debug:
        PrintableConsole(file=sys.stderr).print_exception()
    sys.stderr.write(f"feathertune: {message}\n")
    sys.exit(code)


app.command("compare")(_reporting(compare.compare))
app.command("bases")(_reporting(bases.bases))
app.command("inspect")(_reporting(inspect.inspect))
app.command("train")(_reporting(train.train))
app.command("evaluate")(_reporting(predict.evaluate))
app.command("predict")(_reporting(predict.predict))
app.command("import")(_reporting(adopt.adopt))
app.command("serve")(_reporting(serve.serve))
app.command("export")(_reporting(export.export))
app.command("push")(_reporting(push.push))
app.command("report")(_reporting(report.report))

methods_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
methods_app.callback()(_reporting(methods.methods))
methods_app.command("list")(_reporting(methods.list_methods))
methods_app.command("show")(_reporting(methods.show))
app.add_typer(methods_app, name="methods")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"feathertune {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Common options."""


def main() -> None:
    """Run the command line and exit."""
    # Treat SIGTERM, which a stopped container receives, like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _streams(), _messages(debug="--debug" in sys.argv):
        app()


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Make stdout and stderr safe to write to: closed streams, limited encodings, control characters."""
    before = sys.stdout, sys.stderr
    streams: list[Any] = []
    for stream in before:
        opened = stream or open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        # A character that the terminal cannot show must not lose an hour's result.
        if isinstance(opened, io.TextIOWrapper):
            opened.reconfigure(errors="replace")
        streams.append(opened)
    stdout, stderr = streams
    # A file or a pipe receives data unchanged.
    sys.stdout = PrintableStream(stdout, colours=True) if stdout.isatty() else stdout
    sys.stderr = PrintableStream(stderr, colours=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
