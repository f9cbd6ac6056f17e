"""Convert a GGUF file once to a transformers folder: dequantised weights, configuration and tokenizer.

The header is checked here first, because the readers of ``gguf`` and transformers trust every number in it.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import cached_assets_path, constants
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.utils import is_gguf_available

from feathertune.encoders.quiet import quiet_transformers
from feathertune.errors import ConfigError, EncoderError, MissingExtraError, first_line
from feathertune.input_files import check_regular, state_of
from feathertune.runtime import kept_random_state
from feathertune.storage import locked, new_folder, sha256_of, system_errors

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY, _VERSIONS, _MOST_DIMENSIONS = 8, 9, (2, 3), 4
# Smallest first; weights are stored in the first that holds them all without rounding.
_DTYPES = (torch.bfloat16, torch.float16)
_SMALL_BUFFERS = 1 << 24  # elements that a model may have beyond those of its file, such as masks
_ALIGNMENTS = tuple(1 << power for power in range(3, 17))
_NAME = "model.gguf"


def converted_folder(path: Path, named: str) -> Path:
    """Return the folder that a GGUF file was converted to, in the hub's assets cache; the first call converts it.

    Raises:
        EncoderError: If the file is damaged, or transformers cannot read it.
        MissingExtraError: Without the package ``gguf``.
    """
    if not is_gguf_available():
        raise MissingExtraError("gguf", f"{named} is a GGUF file, and reading one")
    check_regular(path, EncoderError)
    path = path.resolve()
    state = state_of(path)
    versions = "-".join(f"{name}{metadata.version(name)}" for name in ("transformers", "gguf"))
    cache = cached_assets_path("feathertune", "bases", "gguf", assets_dir=constants.HF_ASSETS_CACHE)
    folder = cache / f"{_digest(path, state)}-{versions}"
    with contextlib.ExitStack() as held:
        if not folder.is_dir():  # locked before the folder, as other threads arrive here holding that lock
            held.enter_context(kept_random_state())
        while not folder.is_dir():
            try:
                held.enter_context(locked(folder))
            except ConfigError:  # another process is converting it
                time.sleep(0.2)
                continue
            if not folder.is_dir():
                with new_folder(folder) as temporary:
                    _convert(path, temporary, named)
                    if state_of(path) != state:
                        raise EncoderError(
                            f"{named} changed while it was being read: {path} was rewritten. Load it again."
                        )
    return folder


@functools.lru_cache(maxsize=8)
def _digest(path: Path, state: tuple[int, ...]) -> str:
    return sha256_of(path)


def _convert(path: Path, folder: Path, named: str) -> None:
    """Write the model and tokenizer that transformers reads from the file, in the smallest dtype that is exact."""
    try:
        n_elements = check_header(path)
        with quiet_transformers(), _alone(path) as place:
            config = AutoConfig.from_pretrained(place, gguf_file=_NAME, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=_NAME, trust_remote_code=False)
            model = _model(place, config, n_elements)
    except Exception as error:  # either package may raise any error for inconsistent numbers
        why = f"{error} is missing or malformed" if isinstance(error, LookupError) else first_line(error)
        raise EncoderError(
            f"{named} cannot be read as GGUF: {why}. The file may be damaged, or of a kind that transformers "
            f"{transformers.__version__} does not support. Download it again, or use safetensors."
        ) from error
    with quiet_transformers(), system_errors():
        model.to(_exact_dtype(model)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _model(place: Path, config: Any, n_elements: int) -> PreTrainedModel:  # noqa: ANN401 - PretrainedConfig
    kind = next(mapping for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING) if type(config) in mapping)
    model_class = kind[type(config)]
    with torch.device("meta"):
        planned = model_class(config)
    needed = sum(tensor.numel() for tensor in (*planned.parameters(), *planned.buffers()))
    if needed > n_elements + _SMALL_BUFFERS:
        raise ValueError(f"its configuration needs {needed:,} numbers, but it has {n_elements:,}")
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions may keep weights quantised, and download kernels for them
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model, info = model_class.from_pretrained(
        place, config=config, gguf_file=_NAME, dtype=torch.float32, output_loading_info=True, **options
    )
    if lacking := sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"]))):
        raise ValueError(f"{len(lacking)} weights are missing or have another shape, such as {lacking[0]}")
    vars(model).pop("hf_quantizer", None)  # a model that still counts as quantised cannot be saved
    return model


def _exact_dtype(model: PreTrainedModel) -> torch.dtype:
    return next((d for d in _DTYPES if all(torch.equal(p, p.to(d).float()) for p in model.parameters())), torch.float32)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Yield a folder with only this file: transformers would also read an adapter or a tokenizer next to it."""
    with tempfile.TemporaryDirectory(prefix="feathertune-") as place:
        try:
            os.symlink(path, Path(place, _NAME))
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(path, Path(place, _NAME))
        yield Path(place)


def check_header(path: Path) -> int:
    """Return the number of elements in a file's tensors; ValueError if it ends early or is inconsistent."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = _Header(data)
        magic, version, n_tensors, n_values = header.read("4sIQQ")
        if magic != b"GGUF" or version not in _VERSIONS:
            raise ValueError(f"it does not start like a GGUF file of version {' or '.join(map(str, _VERSIONS))}")
        found = {header.text(): header.value() for _ in range(n_values)}
        tensors = [header.tensor() for _ in range(n_tensors)]
    alignment = found.get("general.alignment", 32)
    n_blocks = [number for key, number in found.items() if key.endswith("block_count")]
    if alignment not in _ALIGNMENTS or not all(number in range(1, n_tensors + 1) for number in n_blocks):
        raise ValueError(f"it declares {n_blocks} blocks and an alignment of {alignment}, but {n_tensors} tensors")
    room = size - math.ceil(header.at / alignment) * alignment
    for name, n_elements, kind, offset in tensors:
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        if n_elements % block or offset + n_elements // block * n_bytes > room:
            raise ValueError(f"the tensor {name} does not fit into the file of {size:,} bytes")
    return sum(n_elements for _, n_elements, *_ in tensors)


class _Header:
    """Reader of a header; every length is checked against the file's first."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def _skip(self, length: int) -> int:
        if length > len(self._data) - self.at:
            raise ValueError(f"it ends after {len(self._data):,} bytes, inside its header")
        self.at += length
        return self.at - length

    def read(self, form: str) -> Any:  # noqa: ANN401 - a number, or several
        """Return numbers in a format of ``struct``."""
        form = f"<{form}"
        values = struct.unpack_from(form, self._data, self._skip(struct.calcsize(form)))
        return values[0] if len(values) == 1 else values

    def text(self) -> str:
        """Return a string."""
        length = self.read("Q")
        start = self._skip(length)
        return self._data[start : start + length].decode()

    def value(self) -> Any:  # noqa: ANN401 - a number or a string
        """Return a value with its type; None for an array."""
        kind = self.read("I")
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.read(_FORMATS[kind])
        inner, count = self.read("IQ")
        if inner == _STRING:
            for _ in range(count):
                self._skip(self.read("Q"))
        else:
            self._skip(count * struct.calcsize(f"<{_FORMATS[inner]}"))
        return None

    def tensor(self) -> tuple[str, int, int, int]:
        """Return a tensor's name, number of elements, type and offset."""
        name, n_dimensions = self.text(), self.read("I")
        if n_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"the tensor {name} has {n_dimensions} dimensions")
        n_elements = math.prod(self.read("Q") for _ in range(n_dimensions))
        kind, offset = self.read("IQ")
        return name, n_elements, kind, offset
