"""Tiny random checkpoints of all families of models that transformers classifies texts with, from their configurations.

Nothing is written down for a family that its default configuration and the common sizes below are enough for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModel,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from feathertune.encoders import quiet_transformers
from tiny import tiny_tokenizer

# By the names that families have for them; a configuration gets those that it knows.
_SIZES: dict[int | float, str] = {
    32: "hidden_size d_model n_embd dim n_embed word_embed_proj_dim emb_dim embedding_size embedding_dim "
    "entity_emb_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
    "num_experts_per_tok num_encoder_layers num_key_value_heads mamba_expand mamba_dt_rank num_self_attends_per_block",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads rotary_dim "
    "num_experts num_local_experts n_routed_experts qk_rope_head_dim "
    "qk_nope_head_dim mamba_d_state num_self_attention_heads "
    "num_cross_attention_heads entity_vocab_size",
    48: "intermediate_size n_inner d_ff d_inner hidden_dim encoder_ffn_dim decoder_ffn_dim ffn_dim dff ffn_hidden_size",
    66: "max_position_embeddings n_positions n_ctx max_seq_len",
    16: "moe_intermediate_size shared_expert_intermediate_size q_lora_rank kv_lora_rank image_size",
    8: "d_kv head_dim v_head_dim sliding_window attention_window local_attention patch_size num_latents "
    "linear_key_head_dim linear_value_head_dim",
    1: "n_shared_experts n_group topk_group first_k_dense_replace",
    0: "decoder_start_token_id",
    # Wide enough that two texts give clearly different logits.
    0.2: "initializer_range",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
_NARROW_KEYS = {"head_dim": 4, "num_key_value_heads": 4}
# What a family needs besides; None leaves its own value.
_OTHERS: dict[str, dict[str, Any]] = {
    "axk1": _NARROW_KEYS,
    "axk2": _NARROW_KEYS,
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    },
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "deepseek_v2": _NARROW_KEYS,
    "deepseek_v3": _NARROW_KEYS,
    "esmc": {"num_key_value_heads": 4},
    "funnel": {"architectures": ["FunnelBaseModel"], "block_sizes": [1, 1], "block_repeats": [1, 1], "d_head": 8}
    | {"num_hidden_layers": None, "num_decoder_layers": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "layer_types": None, "mlp_layer_types": None},
    "jetmoe": {"num_local_experts": 8},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {"hidden_size": 48},
    "minicpm3": _NARROW_KEYS,
    "mistral4": _NARROW_KEYS,
    "mobilebert": {"initializer_range": 0.1},  # it has no norms: the states would grow to tens of thousands
    "perceiver": {"d_latents": 32, "d_model": 32, "hidden_size": None},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"], "attention_head_size": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 6, "attn_layer_period": 2, "attn_layer_offset": 1, "attention_head_dim": 16}
    | {"layer_types": None},
    "zamba2": {"num_hidden_layers": 4, "layer_types": None, "layers_block_type": ["linear_attention", "hybrid"] * 2}
    | {"n_mamba_heads": 4, "chunk_size": 8},
}
# True if transformers itself cannot run it on texts, and why; False if only we cannot, and our words.
CANNOT: dict[str, tuple[bool, str]] = {
    "layoutlmv2": (True, "needs the package detectron2, and pictures of pages"),
    "perceiver": (False, "no backbone with a list of blocks and a head outside it"),
}
# Settings of families that matter; `tokenizer` holds attributes of the tokenizer.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "deberta-v3": ("deberta-v2", {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}),
    "eurobert-mean": ("eurobert", {"classifier_pooling": "mean"}),
    "eurobert-bos": ("eurobert", {"classifier_pooling": "bos"}),
    "gemma3_text-both-ways": ("gemma3_text", {"use_bidirectional_attention": True}),
    "gpt2-no-pad": ("gpt2", {"tokenizer": {"pad_token": None}, "pad_token_id": None}),
    "llama-left": ("llama", {"tokenizer": {"padding_side": "left"}}),
    "llama-causal-lm": (
        "llama",
        {"model_class": LlamaForCausalLM, "tokenizer": {"pad_token": None}, "pad_token_id": None},
    ),
    "llama-tied": ("llama", {"model_class": LlamaForCausalLM, "tie_word_embeddings": True}),
    "llama-one-head": ("llama", {"num_key_value_heads": 1}),
    "modernbert-mean": ("modernbert", {"classifier_pooling": "mean"}),
}
NAMES = tuple(sorted({config.model_type for config in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING}))


def save_family(
    folder: Path,
    family: str,
    *,
    model_class: Any = AutoModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **settings: Any,
) -> Path:
    """Save a random model of a family with no head, unless `model_class` has one; the same each time.

    Args:
        folder: Made where it is missing.
        family: Of `NAMES`.
        model_class: Builds the model from its configuration.
        tokenizer: Another one than `tiny_tokenizer` makes.
        settings: Of the configuration, over the tiny ones.

    Returns:
        `folder`.
    """
    tokenizer = tokenizer or tiny_tokenizer(family)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        config = tiny_config(family, tokenizer, **settings)
        torch.manual_seed(0)
        model = (model_class.from_config if hasattr(model_class, "from_config") else model_class)(config)
        # Fresh layers have zero biases and unit norms; pretrained ones do not, and zeros hide mistakes.
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data += 0.02 * torch.randn_like(parameter)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def tiny_config(family: str, tokenizer: PreTrainedTokenizerBase, **settings: Any) -> PretrainedConfig:
    """Return a family's configuration with small sizes and a tokenizer's tokens."""
    tokens = {
        "vocab_size": len(tokenizer) + 8,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    given = {**_small(CONFIG_MAPPING[family](), tokens), **_OTHERS.get(family, {}), **settings}
    return CONFIG_MAPPING[family](**{name: value for name, value in given.items() if value is not None})


def _small(config: PretrainedConfig, tokens: dict[str, Any]) -> dict[str, Any]:
    """Return small values of the settings that a configuration has, and of those inside it."""
    own = config.to_dict()
    known = {**own, **getattr(config, "attribute_map", {})}
    found = {name: size for name, size in _SMALL.items() if name in known} | tokens
    for name in ("layer_types", "mlp_layer_types"):
        if kinds := getattr(config, name, None):
            found[name] = (list(dict.fromkeys(kinds)) * 2)[:2]
    for name in own:
        if isinstance(part := getattr(config, name), PretrainedConfig):
            found[name] = {"model_type": part.model_type, **_small(part, tokens)}
    return found


def save_variant(folder: Path, name: str) -> Path:
    """Save a family's model, or one of `VARIANTS`."""
    family, settings = VARIANTS.get(name, (name, {}))
    settings = dict(settings)
    if changed := settings.pop("tokenizer", None):
        settings["tokenizer"] = tiny_tokenizer(family)
        for attribute, value in changed.items():
            setattr(settings["tokenizer"], attribute, value)
            settings["tokenizer"].init_kwargs[attribute] = value
    return save_family(folder, family, **settings)


def runs_text(family: str) -> bool:
    """Return whether plain transformers answers a text with a family's tiny classifier."""
    tokenizer = tiny_tokenizer(family)
    ids = torch.tensor([[tokenizer.cls_token_id, 9, 10, tokenizer.sep_token_id]])
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]), torch.no_grad():
            model = AutoModelForSequenceClassification.from_config(tiny_config(family, tokenizer)).eval()
            return bool(model(input_ids=ids).logits.isfinite().all())
    except ImportError:
        return False
