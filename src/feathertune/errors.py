"""Errors that a user may see (all can be pickled), and the helper that names the nearest known word."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_MOST_SHOWN = 200


class FeathertuneError(Exception):
    """Base of all errors raised on purpose; `exit_code` is 2 for wrong input, 1 for a failed run."""

    exit_code = 2


class ConfigError(FeathertuneError, ValueError):
    """A setting, an option or an output folder cannot be used."""


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


class CheckpointError(FeathertuneError):
    """A checkpoint of a training is damaged, or belongs to another training."""


class MissingExtraError(FeathertuneError, ImportError):
    """A feature needs packages of an extra that is not installed."""

    def __init__(self, extra: str, needed_for: str, hint: str = "") -> None:
        self.extra, self.needed_for, self.hint = extra, needed_for, hint
        super().__init__(
            f"{needed_for} needs the extra '{extra}', which is not installed. "
            f"Install it: pip install 'feathertune[{extra}]'{hint}"
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), (self.extra, self.needed_for, self.hint)


class RunFailedError(FeathertuneError, RuntimeError):
    """A run ended without a result; what was finished before it is kept."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """Return another library's message as one line, or the type of an error without a message."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."))


def shown(value: object) -> str:
    """Return a value from somebody's data for a message, which must stay readable: at most 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def is_whole(text: str) -> bool:
    """Return False for a text with half a surrogate pair, which no file can hold."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def complaint(message: str) -> str:
    """Return pydantic's message for a value, without its prefix and final full stop."""
    return message.removeprefix("Value error, ").rstrip(".")


def isolated(name: str) -> str:
    """Isolate a name with right-to-left letters (Unicode's FSI, PDI), so that it does not reorder its surroundings."""
    if name.isascii() or all(unicodedata.bidirectional(character) not in ("R", "AL") for character in name):
        return name
    return f"\u2068{name}\u2069"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `` Did you mean 'x'? Known: a, b, x.``; empty if nothing is known."""
    names = list(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = ""
    if close:
        hint = f" Did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    listed = ", ".join(map(shown, names[:20])) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"{hint} Known: {listed}."
