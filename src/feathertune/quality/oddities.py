"""Characters that look like an accident: mojibake, replacement and control characters, mixed or unusual scripts.

Plain ASCII passes at the speed of a scan; only texts with other characters are looked at one by one. `repaired` mends
what can have one cause only. Not for the language of a text: only its script is told, since languages share scripts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# What is looked for; what is said of one text that has it, and of several.
KINDS = {
    "mojibake": (
        "text holds UTF-8 that was read as another encoding, such as 'Ã©' for 'é'",
        "texts hold UTF-8 that was read as another encoding, such as 'Ã©' for 'é'",
    ),
    "lost-character": (
        "text holds U+FFFD: a character was lost when it was decoded",
        "texts hold U+FFFD: a character was lost when they were decoded",
    ),
    "control-character": ("text holds control characters", "texts hold control characters"),
    "byte-order-mark": ("text holds a byte order mark (U+FEFF)", "texts hold a byte order mark (U+FEFF)"),
    "mixed-script": (
        "text has a word with letters of two scripts, such as a Cyrillic 'а' among Latin letters",
        "texts have a word with letters of two scripts, such as a Cyrillic 'а' among Latin letters",
    ),
    "unusual-script": (
        "text is in a script that hardly any other text is in",
        "texts are in a script that hardly any other text is in",
    ),
    "not-normalised": (
        "text is not in Unicode's normal form NFC: what looks the same is not the same to a tokenizer",
        "texts are not in Unicode's normal form NFC: what looks the same is not the same to a tokenizer",
    ),
}
# A script is unusual where no larger share of the texts is in it; among a handful nothing is.
_UNUSUAL, _FEW_TEXTS = 0.01, 20
_TOGETHER = 256  # texts that are looked at as one, first: mostly there is nothing in them
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CONTROL_OF_ASCII = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Latin letters beside Cyrillic or Greek ones; the signs for micro and ohm stand alone by right.
_MIXED = re.compile("[A-Za-z][\u0370-\u03ff\u0400-\u052f]|[\u0370-\u03ff\u0400-\u052f][A-Za-z]")

# Mojibake: the characters that the bytes of UTF-8 become in Windows-1252, or in Latin-1 where that has none.
_OF_BYTE = {byte: bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in range(0x80, 0x100)}
_BYTE_OF = {character: byte for byte, character in _OF_BYTE.items()} | {chr(byte): byte for byte in range(0x80, 0x100)}
_TAIL = "[" + re.escape("".join(c for c, byte in _BYTE_OF.items() if byte < 0xC0)) + "]"


def _lead(first: int, last: int) -> str:
    return f"[{chr(first)}-{chr(last)}]"


_SEQUENCE = re.compile(f"{_lead(0xC2, 0xDF)}{_TAIL}|{_lead(0xE0, 0xEF)}{_TAIL}{{2}}|{_lead(0xF0, 0xF4)}{_TAIL}{{3}}")
# Sequences that nobody writes: accented Latin letters, quotes and dashes, the euro, the byte order mark, emoji. A
# quote or dash may stand behind a lone Ã by right, but not before a letter.
_QUOTES = "\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2026"
_CERTAIN = re.compile(
    f"Ã(?![{_QUOTES}]\\W|[{_QUOTES}]$){_TAIL}|Â[\u00a0-\u00bf]|â€{_TAIL}|â„¢|â‚¬|ï»¿|ï¿½|ðŸ{_TAIL}{{2}}"
)
# What Windows-1252 has where Latin-1 has controls.
_MEANT = {chr(byte): character for byte, character in _OF_BYTE.items() if byte < 0xA0 and ord(character) > 0x9F}
_HINT = re.compile("[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]")
_WHOLE_TEXT = 3  # sequences, where nothing else in the text is outside of ASCII

Rows = NDArray[np.int64]


def repaired(text: str) -> str:
    """The text without what can have one cause only; the text itself where there is nothing.

    Mojibake is decoded where its sequences are ones that nobody writes, or where all that is not ASCII is such;
    controls of Latin-1 become the quotes and dashes that Windows-1252 has there; other controls and byte order marks
    go.
    """
    for _ in range(2):  # what was decoded wrongly twice
        text, before = _decoded(text), text
        if text == before:
            break
    text = text.replace("\ufeff", "")
    return _CONTROLS.sub(lambda found: _MEANT.get(found[0], ""), text)


def _decoded(text: str) -> str:
    if not _HINT.search(text):
        return text
    sequences = _SEQUENCE.findall(text)
    foreign = sum(not character.isascii() for character in text)
    whole = len(sequences) >= _WHOLE_TEXT and sum(map(len, sequences)) == foreign
    if not whole and not _CERTAIN.search(text):
        return text
    return (_SEQUENCE if whole else _CERTAIN).sub(_decode, text)


def _decode(found: re.Match[str]) -> str:
    try:
        return bytes(_BYTE_OF[character] for character in found[0]).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]


class _Scripts:
    """The script of every character that was met, as a number: a name in Unicode is looked up once for each."""

    def __init__(self) -> None:
        self.names = ["", "", "Latin"]  # of a character that was not met; of one of no script; of the others
        self._of = np.zeros(0x110000, np.uint8)

    def main(self, texts: Sequence[str]) -> list[str]:
        """The script that most letters of each text are of; empty where it has none."""
        codes = np.frombuffer("\0".join([*texts, ""]).encode("utf-32-le"), np.uint32)
        for code in np.unique(codes[self._of[codes] == 0]).tolist():
            self._of[code] = self._number(chr(code))
        scripts = self._of[codes]
        starts = np.concatenate([[0], np.flatnonzero(codes == 0)[:-1] + 1])
        most, best = np.zeros(len(texts), np.int64), np.ones(len(texts), np.int64)
        for script in np.unique(scripts).tolist()[1:]:
            n = np.add.reduceat(scripts == script, starts, dtype=np.int64)
            best[n > most] = script
            most = np.maximum(n, most)
        return [self.names[script] for script in best.tolist()]

    def _number(self, character: str) -> int:
        name = _script_of(character)
        if not name:
            return 1
        if name not in self.names[2:]:
            self.names.append(name)
        return self.names.index(name, 2)


def _script_of(character: str) -> str:
    """The first word of a letter's name in Unicode; empty for what is no letter, or of no script of its own."""
    if not character.isalpha():
        return ""
    if character.isascii():
        return "Latin"
    word = re.split("[ -]", unicodedata.name(character, ""))[0]
    return _SCRIPTS.get(word, word.capitalize())


# One writing system each, as a text mixes them by right; and what is a sign rather than a letter.
_SIGNS = (
    "MICRO",
    "OHM",
    "KELVIN",
    "ANGSTROM",
    "MASCULINE",
    "FEMININE",
    "MODIFIER",
    "FULLWIDTH",
    "MATHEMATICAL",
    "SCRIPT",
)
_SCRIPTS = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO"), "East Asian") | dict.fromkeys(
    _SIGNS, ""
)


def _is_suspicious(texts: str) -> bool:
    """Whether one of some texts, joined, can have any of `KINDS` but an unusual script."""
    return (
        _HINT.search(texts) is not None
        or _CONTROLS.search(texts) is not None
        or "\ufffd" in texts
        or "\ufeff" in texts
        or _MIXED.search(texts) is not None
        or not unicodedata.is_normalized("NFC", texts)
    )


@dataclass
class Oddities:
    """Collects the rows of each kind, block by block.

    Attributes:
        rows: By kind, the rows that have it, rising.
        scripts: Texts by the script that most of their letters are of; Latin where all is ASCII.
    """

    rows: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    scripts: Counter[str] = field(default_factory=Counter)
    _by_script: dict[str, list[int]] = field(default_factory=dict)
    _known: _Scripts = field(default_factory=lambda: _Scripts(), compare=False)

    def add(self, texts: Sequence[str], rows: Rows) -> list[tuple[int, str]]:
        """Look at N texts.

        Args:
            texts: Without null bytes and half surrogate pairs.
            rows: Their numbers, rising, ``(N,)``.

        Returns:
            Rows whose text can be repaired, with the repaired text; empty where nothing is left.
        """
        odd = [place for place, text in enumerate(texts) if not text.isascii()]
        if _CONTROL_OF_ASCII.search("".join(texts)):
            odd = [place for place, text in enumerate(texts) if not text.isascii() or _CONTROL_OF_ASCII.search(text)]
        self.scripts["Latin"] += len(texts) - len(odd)
        mended = []
        for start in range(0, len(odd), _TOGETHER):
            some = [(int(rows[place]), texts[place]) for place in odd[start : start + _TOGETHER]]
            if _is_suspicious("\n".join(text for _, text in some)):
                mended += [found for row, text in some for found in self.look(text, row)]
            self._count_scripts(some)
        return mended

    def _count_scripts(self, some: Sequence[tuple[int, str]]) -> None:
        for (row, _), script in zip(some, self._known.main([text for _, text in some]), strict=True):
            self.scripts[script or "Latin"] += 1
            if script not in ("", "Latin"):
                self._by_script.setdefault(script, []).append(row)

    def look(self, text: str, row: int) -> list[tuple[int, str]]:
        """Look at one text, whatever is in it, but for its script; as `add`."""
        decoded = _decoded(text)
        controlled = _CONTROLS.search(text) is not None
        marked = "\ufeff" in text
        mended = repaired(text) if controlled or marked or decoded != text else text
        for kind, found in (
            ("mojibake", decoded != text),
            ("lost-character", "\ufffd" in text),
            ("control-character", controlled),
            ("byte-order-mark", marked),
            ("mixed-script", _MIXED.search(text) is not None),
            ("not-normalised", not unicodedata.is_normalized("NFC", text)),
        ):
            if found:
                self.rows[kind].append(row)
        return [] if mended == text else [(row, mended.strip() and mended)]

    def finish(self) -> None:
        """Find the rows of unusual scripts, once all rows are known."""
        most = max(1.0, _UNUSUAL * self.scripts.total())
        usual = self.scripts.total() >= _FEW_TEXTS
        unusual = [rows for script, rows in self._by_script.items() if usual and self.scripts[script] <= most]
        self.rows["unusual-script"] = sorted(row for rows in unusual for row in rows)
