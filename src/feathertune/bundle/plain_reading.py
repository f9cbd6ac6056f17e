"""Reading long texts without feathertune, as Python for the cards of bundles and exports.

The same rule as `feathertune.data.tokens.long`, which a test holds; not for use within feathertune.
"""

from __future__ import annotations

from feathertune.records import Long, Reading

_HEAD_TAIL = """\
def sequences(ids, special):  # of more than {length} tokens the first and the last ones, as in training
    if len(ids) <= {length}:
        return [ids]
    first = special.index(0) + max(1, round(({length} - sum(special)) * 128 / 510))
    return [ids[:first] + ids[first - {length} :]]
"""
_WINDOWS = """\
def sequences(ids, special):  # of more than {length} tokens several windows, as in training
    if (more := len(ids) - {length}) <= 0:
        return [ids]
    at, room = special.index(0), {length} - sum(special)
    n = min(1 - -more // (room - {stride}), {max_windows})
    starts = [at + i * more // max(1, n - 1) for i in range(n)]
    return [ids[:at] + ids[start : start + room] + ids[at + room + more :] for start in starts]
"""
_PLAIN: dict[Long, str] = {"head": "", "head-tail": _HEAD_TAIL, "windows": _WINDOWS}


def plain_reading(reading: Reading, max_length: int) -> str:
    """Python that cuts a text's token ids; empty for ``head``, which tokenizers do by themselves.

    Args:
        reading: How.
        max_length: Tokens of a sequence.

    Returns:
        A function ``sequences(ids, special)``, from all ids and the mask of special tokens to lists of ids of one
        length, the mean of whose logits counts.
    """
    return _PLAIN[reading.long].format(length=max_length, stride=reading.stride, max_windows=reading.max_windows)
