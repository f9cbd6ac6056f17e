"""Find a pretrained encoder's files: safetensors or GGUF, never pickle files, which can run arbitrary code."""

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
    """Find and check the files of ``sample:NAME``, a local folder or a hub id; EncoderError if they cannot be used.

    A GGUF file may follow a hub id, or be the only model in its folder. It is converted once; the id then names it.
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
            f"The base model '{model_id}' is neither a folder or GGUF file on this machine nor a hub id. "
            "Expected sample:minilm, an existing folder, or an id such as google-bert/bert-base-cased."
        )
    if revision is not None and commit is None:
        raise EncoderError(
            f"The revision '{revision}' was given for {model_id}, but only base models on the hub "
            "have revisions. Leave it out."
        )
    folder = converted_folder(place, f"The base {model_id}") if place.suffix == _GGUF and place.is_file() else place
    return EncoderFiles(model_id, folder, commit, _checked_config(model_id, folder))


def _gguf_alone(model_id: str, folder: Path, names: Iterable[str] | None = None) -> Path | None:
    """Return the GGUF file of a folder without safetensors; EncoderError if there are several."""
    if _has(folder, *_WEIGHTS):
        return None
    found = sorted({path.name for path in folder.glob(f"*{_GGUF}")} if names is None else names)
    if len(found) > 1:
        raise EncoderError(
            f"The base model {model_id} has {len(found)} GGUF files and no safetensors. Pass one of them, such as "
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
        # Top-level files only: repositories keep exports to other formats in folders.
        if gguf is not None:
            return Path(hf_hub_download(model_id, gguf, revision=revision))
        folder = Path(
            snapshot_download(model_id, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
        )
        if _has(folder, *_WEIGHTS):
            return folder
        names = None
        with contextlib.suppress(Exception):  # offline: use the files that are already here
            names = HfApi().list_repo_files(model_id, revision=folder.name)
            names = [name for name in names if name.endswith(_GGUF) and "/" not in name]
        one = _gguf_alone(model_id, folder, names)
        return folder if one is None else Path(hf_hub_download(model_id, one.name, revision=folder.name))
    except RevisionNotFoundError as error:
        raise EncoderError(f"The hub has '{model_id}', but not its revision '{revision}'.") from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"The hub has no base model {named}, or it is private or gated and needs `hf auth login`."
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise EncoderError(f"The hub repository {named} has no file {gguf}.") from error
        # Some client versions refuse a snapshot that another version wrote, because it has no list of files. The
        # caller checks that the files needed are present.
        cached = try_to_load_from_cache(model_id, gguf or "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached) if gguf else Path(cached).parent
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise EncoderError(
            f"The base model {named} is not a local folder and not in the hub cache "
            f"({constants.HF_HUB_CACHE}), and {why}. Go online once (or run `hf download {model_id}`), "
            "pass a local folder, or use sample:minilm."
        ) from error


def _checked_config(model_id: str, folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and refuse what cannot be loaded safely."""
    if not folder.is_dir():
        raise EncoderError(
            f"The base model {model_id} is a file. Expected a folder with config.json and weights, or a .gguf file."
        )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = (
            " It is an adapter: pass the base model it was trained on." if _has(folder, "adapter_config.json") else ""
        )
        raise EncoderError(
            f"The base model {model_id} has no config.json in {folder}. "
            f"Expected a folder written by transformers' save_pretrained.{hint}"
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"The base model {model_id}: {path} cannot be read as JSON ({error}).") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise EncoderError(f"The base model {model_id}: {path} has no model_type, so it is not a transformers model.")
    if config.get("auto_map") and config["model_type"] not in CONFIG_MAPPING:
        raise EncoderError(
            f"The base model {model_id} needs custom Python code (auto_map in config.json): transformers "
            f"{transformers.__version__} has no type '{config['model_type']}'. feathertune never runs code that comes "
            "with a model. Use a model of a type that transformers supports."
        )
    if named := config.get("transformers_weights"):  # transformers also accepts a pickle file there
        raise EncoderError(
            f"The base model {model_id}: {path} names a weights file ({shown(named)}). Expected {_WEIGHTS[0]}. Remove "
            "'transformers_weights'."
        )
    if not _has(folder, *_WEIGHTS):
        if _has(folder, *_PICKLES):
            raise EncoderError(
                f"The base model {model_id} has weights only in a format that can run code when it is loaded "
                "(pickle) or that is not PyTorch's. Expected model.safetensors. If you trust the files, convert "
                "them once with save_pretrained, or use another revision."
            )
        raise EncoderError(
            f"The base model {model_id} has no weights in {folder}. "
            "Expected model.safetensors or a .gguf file; pickle files (.bin) are never read."
        )
    if not _has(folder, *_PLAIN_TOKENIZERS, _SENTENCEPIECE):
        raise EncoderError(
            f"The base model {model_id} has no tokenizer in {folder}. "
            "Expected tokenizer.json (or vocab.txt, vocab.json, a .model file). Save the tokenizer there too."
        )
    return config


def _has(folder: Path, *patterns: str) -> bool:
    return any(True for pattern in patterns for _ in folder.glob(pattern))
