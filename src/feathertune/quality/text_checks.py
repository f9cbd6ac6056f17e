"""Character checks: mojibake, lost and control characters, mixed or unusual scripts, markup.

`ftfy` finds and decodes mojibake. The checks identify a text's script, not its language.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from ftfy import TextFixerConfig, fix_encoding
from ftfy.fixes import fix_c1_controls
from numpy.typing import NDArray

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Latin letters next to Cyrillic or Greek ones; the micro and ohm signs are outside these ranges.
_MIXED = re.compile("[A-Za-z][\u0370-\u052f]|[\u0370-\u052f][A-Za-z]")
_MARKUP = ("<br", "</", "&amp;", "&lt;", "&nbsp;", "&quot;")
# Two bytes of UTF-8 decoded as Latin-1 or Windows-1252; an Ã at the end of a quotation does not count.
_MAYBE_MOJIBAKE = re.compile(
    "(?!Ã[\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2026](?:\\W|$))"
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)
_FTFY = TextFixerConfig(replace_lossy_sequences=False)
# A script is unusual if at most this share of texts uses it; never with few texts.
_UNUSUAL, _FEW_TEXTS = 0.01, 20
# Symbols that are not letters, and scripts that East Asian texts mix.
_SIGNS = ("MICRO", "OHM", "KELVIN", "ANGSTROM", "MASCULINE", "FEMININE", "MODIFIER", "FULLWIDTH", "MATHEMATICAL")
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO")
_SCRIPTS = dict.fromkeys((*_SIGNS, "SCRIPT"), "") | dict.fromkeys(_EAST_ASIAN, "East Asian")

Rows = NDArray[np.int64]


def repaired(text: str) -> str:
    """Return the text with mojibake and Latin-1 controls decoded, and other control characters removed."""
    return _without_controls(_decoded(fix_c1_controls(text)))


def _decoded(text: str) -> str:
    return fix_encoding(text, _FTFY) if _MAYBE_MOJIBAKE.search(text) else text


def _without_controls(text: str) -> str:
    return _CONTROLS.sub("", text.replace("\ufeff", ""))


@dataclass
class TextChecks:
    """Collect the rows of each kind, block by block."""

    rows: dict[str, list[int]] = field(default_factory=dict)  # ascending, by kind
    scripts: Counter[str] = field(default_factory=Counter)  # texts by the script of most letters
    n_marked: int = 0  # texts with markup
    _by_script: dict[str, list[int]] = field(default_factory=dict)

    def add(self, texts: Sequence[str], rows: Rows) -> dict[int, str]:
        """Check N usable texts of ascending rows ``(N,)``; return the repaired texts that differ, by row."""
        joined = "\n".join(texts)
        if marks := [mark for mark in _MARKUP if mark in joined]:
            self.n_marked += sum(any(mark in text for mark in marks) for text in texts)
        self.scripts["Latin"] += sum(map(str.isascii, texts))
        changed: dict[int, str] = {}
        for row, text in zip(rows.tolist(), texts, strict=True):
            if not text.isascii():
                script = _script(text)
                self.scripts[script] += 1
                if script != "Latin":
                    self._by_script.setdefault(script, []).append(row)
            elif text.isprintable() or not _CONTROLS.search(text):
                continue
            changed |= self.check(text, row)
        return changed

    def check(self, text: str, row: int) -> dict[int, str]:
        """Check one text, usable or not, except its script; return as `add`, empty if only spaces remain."""
        plain = fix_c1_controls(text)
        decoded = _decoded(plain)
        for kind, found in (
            ("mojibake", decoded != plain),
            ("lost-character", "\ufffd" in text),
            ("control-character", _CONTROLS.search(text) is not None),
            ("byte-order-mark", "\ufeff" in text),
            ("mixed-script", _MIXED.search(text) is not None),
            ("not-normalised", not unicodedata.is_normalized("NFC", text)),
        ):
            if found:
                self.rows.setdefault(kind, []).append(row)
        after = _without_controls(decoded)
        return {} if after == text else {row: after.strip() and after}

    def finish(self) -> None:
        """Find the rows of unusual scripts, after the last block."""
        most = max(1.0, _UNUSUAL * self.scripts.total())
        if self.scripts.total() >= _FEW_TEXTS:
            unusual = [rows for script, rows in self._by_script.items() if self.scripts[script] <= most]
            self.rows["unusual-script"] = sorted(row for rows in unusual for row in rows)


def _script(text: str) -> str:
    """Return the script of most letters of a text; Latin if it has no letters."""
    counts: Counter[str] = Counter()
    for character, n in Counter(text).items():
        counts[_script_of(character)] += n
    del counts[""]
    return min(counts, key=lambda script: (-counts[script], script != "Latin", script), default="Latin")


@lru_cache(maxsize=1 << 16)
def _script_of(character: str) -> str:
    """Return the first word of a letter's Unicode name; empty for symbols and letters without a specific script."""
    if not character.isalpha():
        return ""
    word = re.split("[ -]", unicodedata.name(character, ""))[0]
    return "Latin" if character.isascii() else _SCRIPTS.get(word, word.capitalize())
