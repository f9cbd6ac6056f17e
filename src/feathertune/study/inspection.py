"""``feathertune inspect``: the data as a study would meet it, under the encoder's own tokenizer; nothing is trained.

Rows that a study would refuse are left out here and counted, so that all is said at once and not only the first fault.
Not for the price of a study: that is `feathertune.study.estimate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from feathertune.data.encode import encode
from feathertune.data.inspect import Inspection, Tokens, inspect_rows
from feathertune.data.texts import Text, are_pairs
from feathertune.encoders import load_encoder
from feathertune.errors import DataError
from feathertune.study.workbench import check_max_length, load_sources, split_sources

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from feathertune.config import Config
    from feathertune.study.observe import Observer

# Lengths are counted on so many texts at most: a share is then known to a point, and it takes seconds.
_SAMPLED_TEXTS = 20_000
_NO_LIMIT = 1 << 30  # in tokens


def inspect_data(config: Config, observer: Observer) -> Inspection:
    """Read the data and look at it.

    Args:
        config: The settings; the ``data`` and ``base`` parts count.
        observer: Is told what is being done.

    Raises:
        FeathertuneError: If the source cannot be read at all, or the encoder cannot be loaded.
    """
    observer.stage(f"reading {config.data.source}")
    lenient = config.data.model_copy(update={"drop_invalid": True})
    dataset, test = load_sources(lenient)
    observer.stage(f"loading {config.base.id}")
    encoder = load_encoder(config.base.id, labels=("a", "b"), seed=0, revision=config.base.revision)
    check_max_length(config.data, encoder)
    observer.stage("tokenising")
    found = inspect_rows(
        dataset, _count(encoder.tokenizer, dataset.texts, config.data.seed), max_length=config.data.max_length
    )
    if dataset.rows_dropped and not config.data.drop_invalid:
        return found.model_copy(update={"refused": f"{dataset.rows_dropped:,} rows cannot be used."})
    try:
        split_sources(config.data, dataset, test)
    except DataError as error:
        return found.model_copy(update={"refused": str(error)})
    return found


def _count(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], seed: int) -> Tokens:
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:_SAMPLED_TEXTS])
    encoded = encode(tokenizer, [texts[row] for row in rows], max_length=_NO_LIMIT)
    unknown = tokenizer.unk_token_id
    return Tokens(
        lengths=encoded.lengths,
        n_special=tokenizer.num_special_tokens_to_add(pair=are_pairs(texts)),
        unknown_share=0.0 if unknown is None else float((encoded.ids == unknown).mean()),
    )
