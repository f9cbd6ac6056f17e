"""What ``feathertune inspect`` asks of the sample of texts: how many tokens they have, which labels may be wrong.

An encoder and what it needs take seconds to load, more than anything else that is done once. That is done in a process
beside the one that reads all rows, which then needs no torch; or in this process, where torch is loaded anyway. Not for
what all texts are looked at for: that is `feathertune.quality.text_checks`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.label_errors import FOLDS, LabelErrors, find_label_errors
from feathertune.quality.notes import Tokens
from feathertune.quality.words import words_of
from feathertune.quality.worker import process_beside

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from feathertune.config import Config

_NO_LIMIT = 1 << 30  # in tokens


class Examiner(Protocol):
    """Is asked, and answers when the answer is called for."""

    def check(self) -> None:
        """Raise what is known to be wrong with the encoder.

        Raises:
            FeathertuneError: If it cannot be loaded, or cannot read texts that long.
        """
        ...

    def label_errors(self, texts: list[str], labels: NDArray[np.int64], seed: int) -> Callable[[], LabelErrors]:
        """As `find_label_errors`, of N texts and their labels, ``(N,)``."""
        ...

    def tokens(self, texts: list[str]) -> Callable[[], Tokens]:
        """What the encoder's tokenizer makes of texts; the answer raises what `check` does."""
        ...


@contextmanager
def examiner(config: Config, *, beside: bool) -> Iterator[Examiner]:
    """Somebody who loads the encoder.

    Args:
        config: The settings; the ``data`` and ``base`` parts count.
        beside: Whether in a process beside this one, unless torch is loaded here or there can be none.

    Raises:
        FeathertuneError: As `Examiner.check`, where it is loaded in this process.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(process_beside()) if beside and "torch" not in sys.modules else None
        if pool is None:
            yield _Here(_tokenizer(config), stack.enter_context(ThreadPoolExecutor(1, "tokenise")))
        else:
            yield _Beside(pool, config)


class _Here:
    def __init__(self, tokenizer: PreTrainedTokenizerBase, thread: ThreadPoolExecutor) -> None:
        self._tokenizer, self._thread = tokenizer, thread

    def check(self) -> None:
        """It is loaded."""

    def label_errors(self, texts: list[str], labels: NDArray[np.int64], seed: int) -> Callable[[], LabelErrors]:
        errors = _label_errors(texts, labels, seed)
        return lambda: errors

    def tokens(self, texts: list[str]) -> Callable[[], Tokens]:
        # A tokenizer needs no lock of Python's, unlike all else here.
        return self._thread.submit(_count, self._tokenizer, texts).result


class _Beside:
    def __init__(self, pool: ProcessPoolExecutor, config: Config) -> None:
        self._pool = pool
        self._loaded = pool.submit(_load, config)

    def check(self) -> None:
        if self._loaded.done():
            self._loaded.result()

    def label_errors(self, texts: list[str], labels: NDArray[np.int64], seed: int) -> Callable[[], LabelErrors]:
        return self._pool.submit(_label_errors, texts, labels, seed).result

    def tokens(self, texts: list[str]) -> Callable[[], Tokens]:
        counted = self._pool.submit(_count_beside, texts)

        def answer() -> Tokens:
            self._loaded.result()
            return counted.result()

        return answer


# The other process has one of it.
_TOKENIZERS: list[PreTrainedTokenizerBase] = []


def _load(config: Config) -> None:
    _TOKENIZERS.append(_tokenizer(config))
    find_label_errors(words_of(["good", "bad"] * FOLDS), np.array([0, 1] * FOLDS))  # loads what it needs, in time
    # Nothing of it goes away before this process ends, which takes a second less where that is known.
    gc.freeze()


def _count_beside(texts: list[str]) -> Tokens:
    return _count(_TOKENIZERS[0], texts)


def _tokenizer(config: Config) -> PreTrainedTokenizerBase:
    from feathertune.encoders import load_encoder
    from feathertune.study.running.workbench import check_max_length

    encoder = load_encoder(config.base.id, labels=("a", "b"), seed=0, revision=config.base.revision)
    check_max_length(config.data, encoder)
    return encoder.tokenizer


def _label_errors(texts: list[str], labels: NDArray[np.int64], seed: int) -> LabelErrors:
    return find_label_errors(words_of(texts), labels, seed=seed)


def _count(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tokens:
    from feathertune.data.tokens.encode import encode

    encoded = encode(tokenizer, texts, max_length=_NO_LIMIT)
    unknown = tokenizer.unk_token_id
    return Tokens(
        lengths=encoded.lengths,
        n_special=tokenizer.num_special_tokens_to_add(),
        unknown_share=0.0 if unknown is None else float((encoded.ids == unknown).mean()),
    )
