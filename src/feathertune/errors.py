"""The errors that a user may see, and the helper that names the nearest right word.

A message says what was found and where, what was expected, and what to do. Text stays at the raise site. An exception
that is not a `FeathertuneError` is a defect of feathertune: it is shown with its traceback. All of them can be pickled,
so that they come out of another process as they are.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class FeathertuneError(Exception):
    """Base of everything that feathertune raises on purpose.

    Attributes:
        exit_code: What the command line returns: 2 where the input is wrong, 1 where a run failed.
    """

    exit_code = 2


class ConfigError(FeathertuneError, ValueError):
    """A setting, an option or an output folder is not what it must be."""


class DataError(FeathertuneError, ValueError):
    """Texts or labels cannot be used as they are."""


class UnknownNameError(FeathertuneError, LookupError):
    """A name is not in its list; the message holds the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"Unknown {kind} '{name}'.{nearest(name, self.known)}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class EncoderError(FeathertuneError):
    """A pretrained encoder cannot be found or cannot serve for classification."""


class BundleError(FeathertuneError):
    """A folder is not a whole bundle, or does not fit the encoder that it was trained on."""


class HubError(FeathertuneError):
    """The hub refuses something, or cannot be reached."""

    exit_code = 1


class CacheMismatchError(FeathertuneError, RuntimeError):
    """Stored activations do not belong to the encoder and data at hand."""

    exit_code = 1


class CheckpointError(FeathertuneError):
    """A checkpoint of a training is damaged, or belongs to another training."""


class MissingExtraError(FeathertuneError, ImportError):
    """A feature needs packages of an extra that is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra, self.needed_for = extra, needed_for
        super().__init__(
            f"{needed_for} needs the extra '{extra}', which is not installed. "
            f"Install it: pip install 'feathertune[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.extra, self.needed_for)


class RunFailedError(FeathertuneError, RuntimeError):
    """A run ended without a result; what was finished before it is kept."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """What another library said, as one line for a message of ours; the kind of error if it said nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def complaint(message: str) -> str:
    """What pydantic says of a value, without its own word before a sentence of ours, to stand before a full stop."""
    return message.removeprefix("Value error, ").rstrip(".")


def isolated(name: str) -> str:
    """A name as it stands in a line of ours: one of a script that runs to the left shall not turn what is beside it.

    Returns:
        The name itself, or where it has such letters, between Unicode's FIRST STRONG ISOLATE and the end of it.
    """
    if name.isascii() or all(unicodedata.bidirectional(character) not in ("R", "AL") for character in name):
        return name
    return f"\u2068{name}\u2069"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, as the end of a sentence.

    Args:
        name: What was given.
        known: What exists.

    Returns:
        `` Did you mean 'x'? Known: a, b, x.``, shortened for long lists; empty where nothing is known.
    """
    names = list(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = ""
    if close:
        hint = f" Did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"{hint} Known: {shown}."
