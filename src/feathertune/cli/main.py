"""The app, and its errors: one message on stderr, exit code 2 for wrong input, 1 for a failed run."""

from __future__ import annotations

import errno
import functools
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import typer
from rich.console import Console

from feathertune import __version__
from feathertune.cli import adopt, compare, export, inspect, methods, predict, push, report, serve, train
from feathertune.errors import FeathertuneError

app = typer.Typer(
    name="feathertune",
    help="Lightweight fine-tuning of pretrained encoders for text classification, that tells you what it bought you.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_HOW_TO_GO_ON = (
    "What was finished is kept. A study goes on where it stopped if the same command is given again, a training if "
    "--resume is added."
)
_INTERRUPTED = 128 + signal.SIGINT
# What the system, not the program, is to blame for.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)


def _reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a command's errors into messages, before typer handles them."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        debug = bool(kwargs.get("debug"))
        try:
            with warnings.catch_warnings():
                if not debug:  # the libraries below warn developers; what a user must know is said by us
                    warnings.simplefilter("ignore")
                command(*args, **kwargs)
        except FeathertuneError as error:
            _fail(str(error), error.exit_code, debug=debug)
        except KeyboardInterrupt:
            _fail(f"Stopped. {_HOW_TO_GO_ON}", _INTERRUPTED, debug=False)
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough; Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            where = f" ({error.filename})" if error.filename else ""
            _fail(f"Nothing more can be written{where}: {error.strerror}. {_HOW_TO_GO_ON}", 1, debug=debug)

    return run


def _fail(message: str, code: int, *, debug: bool) -> NoReturn:
    if debug:
        Console(stderr=True).print_exception()
    sys.stderr.write(f"feathertune: {message}\n")
    sys.exit(code)


app.command("compare")(_reporting(compare.compare))
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
    # A stopped container sends SIGTERM; it gets the same orderly end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not cost the result of an hour.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
