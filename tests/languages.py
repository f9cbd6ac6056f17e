"""Short made reviews in seven languages and six scripts, with labels in two other ones."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# One is written from the right, the other has a mark on its own.
POSITIVE, NEGATIVE = "إيجابي", "नकारात्मक"


@dataclass(frozen=True)
class Language:
    """Sentences with a place for a word of praise or of blame."""

    sentences: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]

    def rows(self, sentence: int | None = None) -> list[tuple[str, str]]:
        """Texts and labels, of all sentences or of one."""
        sentences = self.sentences if sentence is None else self.sentences[sentence : sentence + 1]
        kinds = ((self.good, POSITIVE), (self.bad, NEGATIVE))
        return [(text.format(word), label) for text in sentences for words, label in kinds for word in words]


LANGUAGES = {
    "German": Language(
        ("Der Film ist {}.", "Für mich war die Geschichte {}!", "Schade oder schön? Eher {}, denke ich."),
        ("großartig", "hübsch", "fröhlich", "spaßig"),
        ("öde", "scheußlich", "dürftig", "schwach"),
    ),
    "Russian": Language(
        ("Этот фильм {}.", "Мне кажется, сюжет {}!", "Вчера смотрел: вечер {}, увы или ура."),
        ("прекрасный", "весёлый", "чудесный", "тёплый"),
        ("ужасный", "скучный", "плохой", "глупый"),
    ),
    "Arabic": Language(
        ("هذا الفيلم {}.", "القصة في رأيي {}، شكرا", "شاهدت العرض أمس؛ {} فعلا"),
        ("رائع", "جميل", "ممتع", "مدهش"),
        ("سيئ", "ممل", "فظيع", "ضعيف"),
    ),
    "Hindi": Language(
        ("यह फ़िल्म {} है।", "मुझे कहानी {} लगी।", "सच कहूँ तो सब {} था"),
        ("अच्छी", "शानदार", "बढ़िया", "मज़ेदार"),
        ("बुरी", "घटिया", "उबाऊ", "बेकार"),
    ),
    "Chinese": Language(
        ("这部电影很{}。", "我觉得故事{}！", "昨天看的，{}得不行"),
        ("好看", "精彩", "有趣", "感人"),
        ("无聊", "糟糕", "难懂", "乏味"),
    ),
    "Japanese": Language(
        ("この映画は{}です。", "物語が{}と思った！", "昨日見たけど、{}ね"),
        ("素晴らしい", "面白い", "楽しい", "見事だ"),
        ("退屈だ", "ひどい", "つまらない", "下手だ"),
    ),
    "Thai": Language(
        ("หนังเรื่องนี้{}มาก", "ฉันคิดว่าเนื้อเรื่อง{}", "เมื่อวานดูแล้ว{}จริงๆ"),
        ("สนุก", "ยอดเยี่ยม", "ประทับใจ", "น่ารัก"),
        ("แย่", "น่าเบื่อ", "ห่วย", "ผิดหวัง"),
    ),
}


def all_rows() -> list[tuple[str, str]]:
    """Every text with its label, the languages in turn."""
    columns = [language.rows() for language in LANGUAGES.values()]
    return [row for rows in zip(*columns, strict=True) for row in rows]


def words_reference(text: str) -> list[str]:
    """The words of one text as strings: the slow way to what `feathertune.quality.words` finds."""
    alone = ((0x0E00, 0x0EFF), (0x1000, 0x10BF), (0x1780, 0x17FF), (0x3040, 0x9FFF), (0x10000, 0x10FFFF))
    words, inside = [], False
    for character in text.lower():
        code = ord(character)
        if code < 0x10000 and unicodedata.category(character)[0] not in "LMN":
            inside = False
        elif any(first <= code <= last for first, last in alone):
            words.append(character)
            inside = False
        elif inside:
            words[-1] += character
        else:
            words.append(character)
            inside = True
    return words
