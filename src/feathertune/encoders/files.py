"""Find a pretrained encoder's files; only safetensors are accepted, since pickle files can run any code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feathertune.errors import EncoderError

_SAMPLE = "sample:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
# Reading a SentencePiece model needs the extra 'sentencepiece'.
_PLAIN_TOKENIZERS, _SENTENCEPIECE = ("tokenizer.json", "vocab.txt", "vocab.json"), "*.model"


@dataclass(frozen=True)
class EncoderFiles:
    """A folder with configuration, weights and tokenizer; `revision` is a commit of the hub."""

    id: str
    folder: Path
    revision: str | None
    config: dict[str, Any]

    @property
    def sentencepiece_model(self) -> Path | None:
        """The SentencePiece model, if the tokenizer has no other form."""
        return None if _has(self.folder, *_PLAIN_TOKENIZERS) else next(self.folder.glob(_SENTENCEPIECE), None)


def find_encoder(model_id: str, revision: str | None = None) -> EncoderFiles:
    """Check the files of ``sample:NAME``, a local folder or a hub id; EncoderError if they cannot be used."""
    local = Path(model_id).expanduser()
    if model_id.startswith(_SAMPLE):
        from feathertune.data.sources.samples import sample_encoder_path

        folder, commit = sample_encoder_path(model_id.removeprefix(_SAMPLE)), None
    elif model_id.strip() and local.exists():
        folder, commit = local, None
    elif _HUB_ID.fullmatch(model_id):
        folder = _from_hub(model_id, revision)
        commit = folder.name
    else:
        raise EncoderError(
            f"The encoder '{model_id}' is no folder on this machine, and not a hub id either. "
            "Expected sample:minilm, a folder that exists, or an id such as google-bert/bert-base-cased."
        )
    if revision is not None and commit is None:
        raise EncoderError(
            f"A revision ('{revision}') was given for {model_id}, but only encoders of the hub "
            "have revisions. Leave it out."
        )
    return EncoderFiles(model_id, folder, commit, _checked_config(model_id, folder))


def _from_hub(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    named = f"'{model_id}'" + (f" at revision '{revision}'" if revision else "")
    try:
        # The files at the top only: repositories keep exports to other formats in folders.
        folder = snapshot_download(model_id, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
    except RevisionNotFoundError as error:
        raise EncoderError(f"The hub has '{model_id}', but no revision '{revision}' of it.") from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"The hub has no encoder {named}, or it is private or gated and needs `hf auth login`."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        # Some clients refuse a snapshot that one of another version wrote, for it has no list of its files. What we
        # need of them is checked by the caller.
        cached = try_to_load_from_cache(model_id, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise EncoderError(
            f"The encoder {named} is no folder here and not in the hub's cache "
            f"({constants.HF_HUB_CACHE}), and {why}. Go online once (or run `hf download {model_id}`), "
            "give a local folder, or use sample:minilm."
        ) from error
    return Path(folder)


def _checked_config(model_id: str, folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and refuse what cannot be loaded safely."""
    if not folder.is_dir():
        raise EncoderError(f"The encoder {model_id} is a file. Expected a folder with config.json and weights.")
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = (
            " It is an adapter: name the encoder that it was trained on." if _has(folder, "adapter_config.json") else ""
        )
        raise EncoderError(
            f"The encoder {model_id} has no config.json in {folder}. "
            f"Expected a folder as transformers' save_pretrained writes it.{hint}"
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"The encoder {model_id}: {path} cannot be read as JSON ({error}).") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise EncoderError(f"The encoder {model_id}: {path} names no model_type, so it is not a model of transformers.")
    if config.get("auto_map"):
        raise EncoderError(
            f"The encoder {model_id} needs Python code of its own (auto_map in config.json). "
            "feathertune never runs code that comes with a model. Use one that transformers holds itself."
        )
    if not _has(folder, *_WEIGHTS):
        if _has(folder, *_PICKLES):
            raise EncoderError(
                f"The encoder {model_id} has its weights only in a format that can run code when it is read "
                "(pickle) or that is not PyTorch's. Expected model.safetensors: convert it once, where you "
                "trust it, with save_pretrained, or take another revision."
            )
        raise EncoderError(
            f"The encoder {model_id} has no weights in {folder}. "
            "Expected model.safetensors; pickle files (.bin) are never read."
        )
    if not _has(folder, *_PLAIN_TOKENIZERS, _SENTENCEPIECE):
        raise EncoderError(
            f"The encoder {model_id} has no tokenizer in {folder}. "
            "Expected tokenizer.json (or vocab.txt, vocab.json, a .model file): save the tokenizer there too."
        )
    return config


def _has(folder: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
