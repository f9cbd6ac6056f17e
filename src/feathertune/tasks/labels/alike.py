"""Labels that look alike: different spellings of what is probably one label."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from feathertune.errors import isolated, shown
from feathertune.tasks.labels.values import Label, number_of

# Spellings of a missing value, in lower case.
MISSING = ("nan", "null", "none", "n/a", "na", "nil", "<na>", "#n/a", "nat")
_SHOWN = 5
# Letters of other scripts that look like Latin ones, and characters that fonts do not draw.
_FORMS = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u03bf\u03bd", "aeopcyxijsov")
_INVISIBLE = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0", "\u2800"}


def look_of(name: str) -> str:
    """Return the same text for names that look alike.

    Such names differ only in the encoding of accents, case, white space, invisible characters, letters of the same
    form, or the notation of a number or missing value. ``true`` looks like ``1``, and ``false`` like ``0``.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    visible = "".join(" " if c.isspace() else c for c in folded if not _is_invisible(c))
    found = unicodedata.normalize("NFKC", " ".join(visible.split()).translate(_FORMS))
    if found in MISSING:
        return MISSING[0]
    number = number_of({"true": "1", "false": "0"}.get(found, found))
    return found if number is None else repr(number)


def _is_invisible(character: str) -> bool:
    if character.isascii():
        return character < " " and not character.isspace()
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_selector or character in _INVISIBLE or unicodedata.category(character) in ("Cf", "Cc")


def groups_of(counts: Mapping[str, int]) -> list[list[str]]:
    """Return the groups of names that look alike, the most frequent name of each first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], not unicodedata.is_normalized("NFC", name), name)):
        groups.setdefault(look_of(name), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def merges_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the most frequent spelling for each name that looks like a more frequent one."""
    return {name: names[0] for names in groups_of(counts) for name in names[1:]}


def merged(label: Label, merges: Mapping[str, str]) -> Label:
    """Return a label, or each label of a set, in its most frequent spelling."""
    if isinstance(label, tuple):
        return tuple(sorted({merges.get(name, name) for name in label}))
    return merges.get(label, label) if isinstance(label, str) else label


def notes_on(counts: Mapping[str, int]) -> list[str]:
    """Return notes on names that look alike, and on names that may mean a missing label."""
    found, groups = [], groups_of(counts)
    if groups:
        found.append(
            f"Labels that look alike are separate classes: {listed_groups(groups, counts)}. --merge-labels "
            "(data.merge_labels: true) reads each group as its first label."
        )
    if missing := [name for name in counts if look_of(name) == MISSING[0]]:
        names = ", ".join(f"{spelled(name)} ({counts[name]:,})" for name in missing)
        found.append(f"The text {names} is read as a label. If it means that the label is missing, remove those rows.")
    return found


def listed_groups(groups: list[list[str]], counts: Mapping[str, int]) -> str:
    """List groups with the rows of each name."""
    first = [" and ".join(f"{spelled(name)} ({counts[name]:,})" for name in names[:_SHOWN]) for names in groups]
    return "; ".join(first[:_SHOWN]) + (f"; ... ({len(groups):,} groups)" if len(groups) > _SHOWN else "")


def spelled(name: str) -> str:
    """Return a name in quotes, with escapes for invisible characters and for accents that are not composed."""
    plain = "LNPSM" if unicodedata.is_normalized("NFC", name) else "LNPS"
    parts = (
        c if c == " " or unicodedata.category(c)[0] in plain else c.encode("unicode_escape").decode() for c in name
    )
    return f"'{isolated(shown(''.join(parts)))}'"
