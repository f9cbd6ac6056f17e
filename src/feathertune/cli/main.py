"""The app, and what an error looks like: one message on stderr, exit code 2 for wrong input, 1 for a failed run."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import NoReturn

import typer
from rich.console import Console

from feathertune import __version__
from feathertune.cli import apply, compare, listing, train
from feathertune.errors import FeathertuneError

app = typer.Typer(
    name="feathertune",
    help="Lightweight fine-tuning of pretrained encoders for text classification, that tells you what it bought you.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("evaluate")(apply.evaluate)
app.command("predict")(apply.predict)
app.command("report")(listing.report)
app.command("methods")(listing.methods)

INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"feathertune {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Common options."""


def main() -> NoReturn:
    """Run the command line and exit."""
    debug = "--debug" in sys.argv
    # A stopped container sends SIGTERM; it gets the same orderly end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except FeathertuneError as error:
        _fail(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail("Stopped. " + _HOW_TO_GO_ON, INTERRUPTED, debug=False)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"Nothing more can be written{where}: {error.strerror}. {_HOW_TO_GO_ON}", 1, debug=debug)
    sys.exit(0)


_HOW_TO_GO_ON = "What was finished is kept. A study goes on where it stopped if the same command is given again."


def _fail(message: str, code: int, *, debug: bool) -> NoReturn:
    if debug:
        Console(stderr=True).print_exception()
    sys.stderr.write(f"feathertune: {message}\n")
    sys.exit(code)
