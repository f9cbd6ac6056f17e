"""Split a text in any language into words and word pairs; equal words become equal strings.

Marks stay with their letters (Python's regular expressions end a Hindi word at each vowel sign). In Chinese and
Japanese, each character is a word; in Thai, Lao, Burmese and Khmer, words are pieces of up to `LONGEST` letters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

# Maximum letters of a piece in alphabetic scripts without spaces between words.
LONGEST = 4
_CHARACTERS = "\u3005-\u3007\u3031-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_SPELLED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaadf"
_FIRST_SPELLED = "\u0e00"
_JOINERS = "\u200c\u200d"  # occur inside words of Persian and Indian languages
# Compatibility forms of letters: half and full width, Arabic presentation forms, ligatures.
_OTHER_FORMS = re.compile("[\ufb00-\ufdff\ufe70-\ufefc\uff01-\uffef]+")
# Fast path for scripts with spaces, and without marks after NFC: Latin, Greek, Cyrillic, Armenian, Georgian, Hangul.
_PLAIN_WORD = re.compile(r"\w+")
_NOT_PLAIN = re.compile(
    "[^\x00-\u02ff\u0370-\u0482\u048a-\u058f\u10a0-\u10ff\u1e00-\u200b\u200e-\u20cf\u20f1-\u2bff\uac00-\ud7a3]"
)


def grams(text: str) -> list[str]:
    """Return a text's words, word pairs, and pieces of three letters and more, each as often as it occurs."""
    text = folded(text)
    words, longer = _words_of_any_script(text) if _NOT_PLAIN.search(text) else (_PLAIN_WORD.findall(text), [])
    return [*words, *(f"{first} {second}" for first, second in pairwise(words)), *longer]


def folded(text: str) -> str:
    """Return the text in lower case and in one normal form, which maps equal words to equal strings.

    Uses NFC, and NFKC only for compatibility forms of letters: on a whole text, NFKC would change ``´`` and ``½``.
    """
    text = text.lower()
    if text.isascii():
        return text
    text = _OTHER_FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", text).replace("i\u0307", "i")


def _words_of_any_script(text: str) -> tuple[list[str], list[str]]:
    """Return the words in order, and the pieces of three letters and more."""
    word, letter = _patterns()
    words: list[str] = []
    longer: list[str] = []
    for found in word.findall(text):
        if found < _FIRST_SPELLED or not (letters := letter.findall(found)):
            words.append(found)
            continue
        words += letters
        longer += ["".join(letters[at : at + n]) for n in range(3, LONGEST + 1) for at in range(len(letters) - n + 1)]
    return words, longer


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of a word (in scripts without spaces, of a run of letters), and of a letter with its marks."""
    # All combining marks except variation selectors, as the content of a character class.
    codes = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    codes = [code for code in codes if not (0x180B <= code <= 0x180F or 0xFE00 <= code <= 0xFE0F)]
    starts = [code for code, before in zip(codes, [-2, *codes[:-1]], strict=True) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], -2], strict=True) if after != code + 1]
    marks = "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))
    letter = f"(?=[{_SPELLED}])\\w[{marks}]*"
    inside = f"[^\\W{_CHARACTERS}{_SPELLED}]"
    spaced = f"{inside}+(?:(?:[{marks}]|[{_JOINERS}](?=\\w))+{inside}*)*"
    return re.compile(f"{spaced}|(?=[{_CHARACTERS}])\\w[{marks}]*|(?:{letter})+"), re.compile(letter)
