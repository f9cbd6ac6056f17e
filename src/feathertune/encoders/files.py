"""Find a pretrained encoder's files: safetensors or GGUF, never pickle files, which can run any code."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING

from feathertune.encoders.gguf import converted_folder
from feathertune.errors import EncoderError, shown

_SAMPLE = "sample:"
_GGUF = ".gguf"
# A repository, then the name of a GGUF file in it.
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:/([\w.-]+\.gguf))?")
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
    """Check the files of ``sample:NAME``, a local folder or a hub id; EncoderError if they cannot be used.

    A GGUF file, which may follow a hub id or be the only model in its folder, is converted once; the id then names it.
    """
    local = Path(model_id).expanduser()
    if model_id.startswith(_SAMPLE):
        from feathertune.data.sources.samples import sample_encoder_path

        place, commit = sample_encoder_path(model_id.removeprefix(_SAMPLE)), None
    elif model_id.strip() and local.exists():
        place, commit = _gguf_alone(model_id, local) or local, None
        model_id = str(place) if place.suffix == _GGUF else model_id
    elif found := _HUB_ID.fullmatch(model_id):
        place = _from_hub(found[1], revision, found[2])
        commit = place.parent.name if place.suffix == _GGUF else place.name
        model_id = f"{found[1]}/{place.name}" if place.suffix == _GGUF else model_id
    else:
        raise EncoderError(
            f"The encoder '{model_id}' is no folder or GGUF file on this machine, and not a hub id either. "
            "Expected sample:minilm, a folder that exists, or an id such as google-bert/bert-base-cased."
        )
    if revision is not None and commit is None:
        raise EncoderError(
            f"A revision ('{revision}') was given for {model_id}, but only encoders of the hub "
            "have revisions. Leave it out."
        )
    folder = converted_folder(place, f"The base {model_id}") if place.suffix == _GGUF and place.is_file() else place
    return EncoderFiles(model_id, folder, commit, _checked_config(model_id, folder))


def _gguf_alone(model_id: str, folder: Path, names: Iterable[str] | None = None) -> Path | None:
    """Return the GGUF file of a folder without safetensors; EncoderError if it holds several."""
    if _has(folder, *_WEIGHTS):
        return None
    found = sorted({path.name for path in folder.glob(f"*{_GGUF}")} if names is None else names)
    if len(found) > 1:
        raise EncoderError(
            f"The encoder {model_id} holds {len(found)} GGUF files and no safetensors. Name one of them, such as "
            f"{model_id.rstrip('/')}/{found[0]}."
        )
    return folder / found[0] if found else None


def _from_hub(model_id: str, revision: str | None, gguf: str | None) -> Path:
    """Return the folder of a snapshot, or the GGUF file in it that was named or is the only model."""
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    named = f"'{model_id}'" + (f" at revision '{revision}'" if revision else "")
    try:
        # The files at the top only: repositories keep exports to other formats in folders.
        if gguf is not None:
            return Path(hf_hub_download(model_id, gguf, revision=revision))
        folder = Path(
            snapshot_download(model_id, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
        )
        if _has(folder, *_WEIGHTS):
            return folder
        names = None
        with contextlib.suppress(Exception):  # not to be reached: then what is here already
            names = HfApi().list_repo_files(model_id, revision=folder.name)
            names = [name for name in names if name.endswith(_GGUF) and "/" not in name]
        one = _gguf_alone(model_id, folder, names)
        return folder if one is None else Path(hf_hub_download(model_id, one.name, revision=folder.name))
    except RevisionNotFoundError as error:
        raise EncoderError(f"The hub has '{model_id}', but no revision '{revision}' of it.") from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"The hub has no encoder {named}, or it is private or gated and needs `hf auth login`."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise EncoderError(f"The hub's repository {named} holds no file {gguf}.") from error
        # Some clients refuse a snapshot that one of another version wrote, for it has no list of its files. What we
        # need of them is checked by the caller.
        cached = try_to_load_from_cache(model_id, gguf or "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached) if gguf else Path(cached).parent
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise EncoderError(
            f"The encoder {named} is no folder here and not in the hub's cache "
            f"({constants.HF_HUB_CACHE}), and {why}. Go online once (or run `hf download {model_id}`), "
            "give a local folder, or use sample:minilm."
        ) from error


def _checked_config(model_id: str, folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and refuse what cannot be loaded safely."""
    if not folder.is_dir():
        raise EncoderError(
            f"The encoder {model_id} is a file. Expected a folder with config.json and weights, or a .gguf file."
        )
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
    if config.get("auto_map") and config["model_type"] not in CONFIG_MAPPING:
        raise EncoderError(
            f"The encoder {model_id} needs custom Python code (auto_map in config.json): transformers "
            f"{transformers.__version__} has no type '{config['model_type']}'. feathertune never runs code that comes "
            "with a model. Use one of a type that transformers has."
        )
    if named := config.get("transformers_weights"):  # transformers takes a pickle there, too
        raise EncoderError(
            f"The encoder {model_id}: {path} names its weights ({shown(named)}). Expected {_WEIGHTS[0]}: remove "
            "'transformers_weights'."
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
            "Expected model.safetensors or a .gguf file; pickle files (.bin) are never read."
        )
    if not _has(folder, *_PLAIN_TOKENIZERS, _SENTENCEPIECE):
        raise EncoderError(
            f"The encoder {model_id} has no tokenizer in {folder}. "
            "Expected tokenizer.json (or vocab.txt, vocab.json, a .model file): save the tokenizer there too."
        )
    return config


def _has(folder: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
