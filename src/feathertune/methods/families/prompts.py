"""Trained inputs besides the text, which take places from long texts: prompt tuning, P-tuning, prefix tuning."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.errors import ConfigError, first_line
from feathertune.methods.adapters import adapter, scaled_rates
from feathertune.methods.base import Job, Options, Size, at_rate

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


class PromptOptions(Options):
    """Settings of trained inputs, in PEFT's words.

    Attributes:
        num_virtual_tokens: How many.
    """

    num_virtual_tokens: int = Field(default=8, ge=1)


class PTuningOptions(PromptOptions):
    """P-tuning's settings, in PEFT's words.

    Attributes:
        encoder_hidden_size: Width of the network that makes the virtual tokens while it is trained.
    """

    encoder_hidden_size: int = Field(default=128, ge=1)


def _shape(encoder: LoadedEncoder, options: PromptOptions, job: Job) -> Mapping[str, Any]:
    left = encoder.max_positions - options.num_virtual_tokens
    if job.max_length > left:
        raise ConfigError(
            f"{options.num_virtual_tokens} virtual tokens and texts of {job.max_length} tokens are more than the "
            f"{encoder.max_positions} that {encoder.id} reads. Give --max-length {left} or less."
        )
    config = encoder.model.config.get_text_config()
    return {
        # PEFT looks for ends of names: `head` alone would be P-tuning's own mlp_head too.
        "modules_to_save": [f"base_model.{name}" for name in encoder.head_modules],
        # The width of a word's embedding, which ELECTRA and ALBERT widen afterwards.
        "token_dim": int(encoder.model.get_input_embeddings().weight.shape[1]),
        "num_layers": encoder.n_layers,
        "num_attention_heads": int(getattr(config, "num_attention_heads", 1)),  # FNet has no heads
        "num_transformer_submodules": 1,
    }


def _takes_embeddings(encoder: LoadedEncoder) -> str:
    """Try it: heads that read the last token find it by token ids, and take padding for it if there are none."""
    import torch

    from feathertune.encoders.patching import kept_modes
    from feathertune.encoders.trial import close, trial_batches

    model, family, batch = encoder.model, encoder.spec.model_type, trial_batches(encoder)[-1]
    if encoder.facts.padding == "left":
        return f"PEFT puts its tokens before the padding, which {family} models need on the left"
    if next(model.parameters()).is_meta:
        raise NotImplementedError("This looks at numbers.")  # `planned` takes the real model then
    with torch.no_grad(), kept_modes(model):
        expected = model.eval()(**batch).logits
        try:
            words = model.get_input_embeddings()(batch.pop("input_ids"))
            if not isinstance(words, torch.Tensor):
                raise TypeError("its embedding gives more than one tensor")
            found = model(inputs_embeds=words, **batch).logits
        except Exception as error:  # whatever a model of any family says
            return f"{family} models fail on embedded inputs ({first_line(error)})"
    return "" if close(found, expected) else f"without token ids, {family} models take padding for the end of a text"


def _takes_past(encoder: LoadedEncoder) -> str:
    if "past_key_values" in inspect.signature(encoder.backbone.forward).parameters:
        return ""
    return (
        f"PEFT hands keys and values over as past_key_values, which {type(encoder.backbone).__name__} of this "
        "transformers does not take (since 5.24 no encoder does)"
    )


# At most 32: they take places of the text, and each costs as much time as a word.
_TOKENS = Size("num_virtual_tokens", lambda shapes: range(1, 33))
_input_method = partial(
    adapter,
    arguments=_shape,
    size=_TOKENS,
    refusal=_takes_embeddings,
    mergeable=False,
    zero_init=False,
    changes_input=True,
)

PROMPT = _input_method(
    name="prompt",
    config="PromptTuningConfig",
    summary="Puts trained virtual tokens before each text.",
    when="For comparison; small encoders learn little by it.",
    source="Lester et al. 2021, arXiv:2104.08691",
    options=at_rate(PromptOptions, 3e-2),
    search_space={"num_virtual_tokens": (4, 8, 20), "learning_rate": scaled_rates(3e-2)},
)
P_TUNING = _input_method(
    name="p-tuning",
    config="PromptEncoderConfig",
    summary="Puts virtual tokens before each text that a small trained network makes.",
    when="As prompt tuning, where that does not converge.",
    source="Liu et al. 2021, arXiv:2103.10385",
    options=at_rate(PTuningOptions, 1e-2),
    size=Size("encoder_hidden_size", lambda shapes: [2**n for n in range(13)]),
    search_space={"num_virtual_tokens": (4, 8, 20), "learning_rate": scaled_rates(1e-2)},
)
PREFIX = _input_method(
    name="prefix",
    config="PrefixTuningConfig",
    arguments=lambda encoder, options, job: {**_shape(encoder, options, job), "token_dim": encoder.hidden_size},
    summary="Puts trained keys and values before each layer's own.",
    when="For comparison, on the encoders that allow it.",
    source="Li & Liang 2021, arXiv:2101.00190",
    options=at_rate(PromptOptions, 1e-2),
    search_space={"num_virtual_tokens": (4, 8, 20), "learning_rate": scaled_rates(1e-2)},
    refusal=_takes_past,
)
