"""Safe terminal output: control characters in data and file names cannot move the cursor or change colors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.segment import Segment

# All control characters except newline and tab, and those that reorder the surrounding text.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066\u2067"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_CONTROL_OR_COLOUR = re.compile(rf"\x1b\[[0-9;]*m|[{_CONTROLS}]")


def printable(text: str) -> str:
    r"""Return a text with its control characters spelled out, such as ``\x1b``."""
    return _CONTROL.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    character = found.group()
    if len(character) > 1:  # one of feathertune's own colors; those in data are spelled out already
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


class PrintableConsole(Console):
    """Rich's console for untrusted text."""

    def render(self, renderable: RenderableType, options: Any = None) -> Iterable[Segment]:  # noqa: ANN401 - rich's
        """Render with control characters spelled out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class PrintableStream:
    """A text stream that spells out control characters; with `colours`, color codes pass."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self.stream = stream
        self._pattern = _CONTROL_OR_COLOUR if colours else _CONTROL

    def write(self, text: str) -> int:
        """Write the text."""
        self.stream.write(self._pattern.sub(_spelled, text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the stream
        return getattr(self.stream, name)
