import numpy as np
import pytest
import torch

from feathertune.data import encode as module
from feathertune.data.encode import encode
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
