"""Errors that users see, all of them picklable, and helpers for their messages."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_MOST_SHOWN = 200


class FeathertuneError(Exception):
    """Base class of all errors raised on purpose; `exit_code` is 2 for bad input, 1 for a failed run."""

    exit_code = 2


class ConfigError(FeathertuneError, ValueError):
    """A setting, an option or an output folder cannot be used."""


class DataError(FeathertuneError, ValueError):
    """Texts or labels cannot be used."""


class UnknownNameError(FeathertuneError, LookupError):
    """A name is unknown; the message suggests the nearest known one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"Unknown {kind} '{name}'.{nearest(name, self.known)}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class EncoderError(FeathertuneError):
    """A base model cannot be found, or cannot be used for classification."""


class BundleError(FeathertuneError):
    """A folder is not a complete bundle, or does not fit its base model."""


class HubError(FeathertuneError):
    """The hub refused a request, or cannot be reached."""

    exit_code = 1


class CheckpointError(FeathertuneError):
    """A checkpoint is damaged, or belongs to another training."""


class MissingExtraError(FeathertuneError, ImportError):
    """A feature needs an extra that is not installed."""

    def __init__(self, extra: str, needed_for: str, hint: str = "") -> None:
        self.extra, self.needed_for, self.hint = extra, needed_for, hint
        super().__init__(
            f"{needed_for} needs the extra '{extra}', which is not installed. "
            f"Install it: pip install 'feathertune[{extra}]'{hint}"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.extra, self.needed_for, self.hint)


class RunFailedError(FeathertuneError, RuntimeError):
    """A run failed; earlier results are kept."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, or the error's type if there is none."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."))


def shown(value: object) -> str:
    """Return a value from the data for a message, shortened to 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def is_whole(text: str) -> bool:
    """Return False if the text contains half a surrogate pair, which cannot be encoded as UTF-8."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def complaint(message: str) -> str:
    """Return pydantic's message without its prefix and final period."""
    return message.removeprefix("Value error, ").rstrip(".")


def isolated(name: str) -> str:
    """Wrap a name with right-to-left letters in Unicode's FSI and PDI, to keep the surrounding text in order."""
    if name.isascii() or all(unicodedata.bidirectional(character) not in ("R", "AL") for character in name):
        return name
    return f"\u2068{name}\u2069"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `` Did you mean 'x'? Known: a, b, x.``; empty if there are no known names."""
    names = list(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = ""
    if close:
        hint = f" Did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    listed = ", ".join(map(shown, names[:20])) + (f", ... ({len(names)} in total)" if len(names) > 20 else "")
    return f"{hint} Known: {listed}."
