import numpy as np
import pytest
import torch

from feathertune.data.tokens import encode as module
from feathertune.data.tokens.encode import encode
from feathertune.records import Reading
from tiny import TEXTS, tiny_tokenizer

LONG = ["the film was great " * 30, "bad", *TEXTS]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_ids_are_the_tokenizers_own_and_padding_is_masked(family):
    tokenizer = tiny_tokenizer(family)
    encoded = encode(tokenizer, LONG, max_length=12)
    expected = tokenizer(LONG, truncation=True, max_length=12, padding=True, return_tensors="pt")
    batch = encoded.collate(np.arange(len(LONG)), torch.device("cpu"))
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert encoded.lengths.tolist() == expected["attention_mask"].sum(1).tolist()
    some = encoded.collate(np.array([3, 1]), torch.device("cpu"))
    assert some["input_ids"].shape == (2, encoded.lengths[[3, 1]].max())


def test_texts_that_were_cut_are_counted():
    tokenizer = tiny_tokenizer("bert")
    lengths = [len(ids) for ids in tokenizer(LONG)["input_ids"]]
    for limit in (4, 12, 200):
        assert encode(tokenizer, LONG, max_length=limit).n_truncated == sum(n > limit for n in lengths)


def test_chunks_do_not_change_the_result(monkeypatch):
    tokenizer = tiny_tokenizer("bert")
    whole = encode(tokenizer, LONG, max_length=40)
    for texts, characters in ((2, 10_000), (1_000, 5), (1_000, 60)):
        monkeypatch.setattr(module, "_CHUNK_TEXTS", texts)
        monkeypatch.setattr(module, "_CHUNK_CHARACTERS", characters)
        cut = encode(tokenizer, LONG, max_length=40)
        assert np.array_equal(cut.ids, whole.ids)
        assert np.array_equal(cut.offsets, whole.offsets)
        assert cut.n_truncated == whole.n_truncated
        runs = list(module._chunks(LONG))
        assert [i for start, end in runs for i in range(start, end)] == list(range(len(LONG)))


def test_no_texts():
    encoded = encode(tiny_tokenizer("bert"), [], max_length=8)
    assert len(encoded) == 0
    assert encoded.ids.shape == (0,)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_head_is_what_the_tokenizer_cuts_by_itself(side):
    tokenizer = tiny_tokenizer("roberta")
    tokenizer.truncation_side = side
    texts = [*LONG, "the [SEP] film " * 9]
    expected = tokenizer(texts, truncation=True, max_length=12)["input_ids"]
    encoded = encode(tokenizer, texts, max_length=12)
    assert np.split(encoded.ids, encoded.offsets[1:-1]) == [pytest.approx(ids, abs=0) for ids in expected]


def test_whole_lengths_and_what_was_not_read():
    tokenizer = tiny_tokenizer("bert")
    encoded = encode(tokenizer, LONG, max_length=12)
    whole = [len(ids) for ids in tokenizer(LONG)["input_ids"]]
    assert encoded.n_tokens.tolist() == whole
    assert encoded.n_unread.tolist() == [max(0, n - 12) for n in whole]
    some = encoded.take(np.array([4, 0]))
    assert (some.n_tokens.tolist(), some.n_unread.tolist()) == ([whole[4], whole[0]], [max(0, whole[4] - 12), 122 - 12])


def test_head_and_tail():
    tokenizer = tiny_tokenizer("bert")
    text = " ".join(["good", *["film"] * 20, "bad"])
    short = "the film was fine"
    encoded = encode(tokenizer, [text, short], max_length=12, reading=Reading(long="head-tail"))
    first, second = np.split(encoded.ids, encoded.offsets[1:-1])
    assert tokenizer.convert_ids_to_tokens(first) == ["[CLS]", "good", *["film"] * 8, "bad", "[SEP]"]
    assert second.tolist() == tokenizer(short)["input_ids"]
    assert (len(encoded), encoded.n_truncated, encoded.n_unread.tolist()) == (2, 1, [24 - 12, 0])


def test_windows():
    tokenizer = tiny_tokenizer("bert")
    words = list("abcdefghijkl")
    reading = Reading(long="windows", stride=1, max_windows=8)
    encoded = encode(tokenizer, [" ".join(words), "a b", "", " ".join(words[:5])], max_length=6, reading=reading)
    found = [tokenizer.convert_ids_to_tokens(ids)[1:-1] for ids in np.split(encoded.ids, encoded.offsets[1:-1])]
    long = [list("abcd"), list("cdef"), list("fghi"), list("ijkl")]
    assert found == [*long, ["a", "b"], [], list("abcd"), list("bcde")]
    assert encoded.firsts.tolist() == [0, 4, 5, 6, 8]
    assert (len(encoded), encoded.n_sequences, encoded.n_truncated) == (4, 8, 2)
    assert encoded.lengths.tolist() == [24, 4, 2, 12]
    assert encoded.n_unread.tolist() == [0, 0, 0, 0]
    batch = encoded.collate(np.array([1, 3]), torch.device("cpu"))
    assert batch["input_ids"].shape == encoded.shape(np.array([1, 3])) == (3, 6)
    values = torch.arange(16.0).view(8, 2)
    pooled = encoded.pool(np.array([3, 1]), values[encoded.sequences(np.array([3, 1]))])
    torch.testing.assert_close(pooled, torch.stack([values[6:8].mean(0), values[4]]))
    some = encoded.take(np.array([3, 1]))
    assert (len(some), some.firsts.tolist(), some.lengths.tolist()) == (2, [0, 2, 3], [12, 4])
    expected = np.concatenate([encoded.ids[30:42], encoded.ids[24:28]])
    assert np.array_equal(some.ids, expected)
