"""Request and response bodies as pydantic models, published in OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from feathertune.data.reading.texts import Pair, Text
from feathertune.records import HEAD, Reading
from feathertune.serve.limits import Limits

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# At least one visible character and no null byte, as in `feathertune predict`.
TEXT_PATTERN = r"^[^\x00]*[^\s\x00-\x1f][^\x00]*$"

MOST_FAULTS = 20
MOST_SHOWN = 1000  # characters of a client's input in an error message


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Prediction(_Wire):
    """Prediction for one text, as ``feathertune predict`` writes it."""

    label: str
    probabilities: dict[str, float]


class LabelsPrediction(_Wire):
    """Prediction for one text by a multi-label bundle, which may give several labels or none."""

    labels: list[str]
    probabilities: dict[str, float]


class NumberPrediction(_Wire):
    """Prediction for one text by a bundle whose labels are numbers."""

    label: float


class Predictions(_Wire):
    """Predictions in the order of the texts; their type follows from `ModelInfo.task`."""

    model: str
    predictions: list[Prediction] | list[LabelsPrediction] | list[NumberPrediction]


class Base(_Wire):
    """Base model that a bundle was trained on."""

    id: str
    revision: str | None
    fingerprint: str


class ModelInfo(_Wire):
    """A loaded bundle."""

    name: str
    method: str
    kind: str
    task: str
    labels: list[str]
    max_length: int
    text_columns: list[str]
    reading: Reading = HEAD
    base: Base
    shares_passes: bool
    note: str
    own_bytes: int


class ModelList(_Wire):
    """All loaded bundles, in the order in which they were added."""

    models: list[ModelInfo]


class NewModel(_Wire):
    """Path of a bundle on the server's machine and, if it moved, of its base model."""

    path: str = Field(min_length=1, max_length=4096)
    base: str | None = Field(default=None, min_length=1, max_length=4096)


class Status(_Wire):
    """State of the server."""

    status: str


class Problem(_Wire):
    """Error message."""

    detail: str


class Fault(_Wire):
    """One validation error of a request."""

    type: str
    loc: list[str | int]
    msg: str


class Invalid(_Wire):
    """All validation errors of a request."""

    detail: list[Fault]


class Texts(_Wire):
    """Texts to classify; `text_pairs` holds the second text of each pair. `predict_request` adds the limits."""

    texts: list[str]
    text_pairs: list[str] | None = None

    def of_kind(self, *, pairs: bool) -> Sequence[Text]:
        """Return the texts, or pairs, for a bundle; raise a ValueError if the bundle needs the other kind."""
        if not pairs:
            if self.text_pairs is not None:
                raise ValueError("This bundle classifies single texts. Remove text_pairs.")
            return self.texts
        if self.text_pairs is None or len(self.text_pairs) != len(self.texts):
            raise ValueError("This bundle classifies pairs of texts. text_pairs must hold the second text of each.")
        return [Pair(*both) for both in zip(self.texts, self.text_pairs, strict=True)]


def predict_request(limits: Limits) -> type[Texts]:
    """Return the schema of a predict request's body."""
    text = Annotated[str, Field(min_length=1, max_length=limits.text_characters, pattern=TEXT_PATTERN)]
    texts = Annotated[list[text], Field(min_length=1, max_length=limits.request_texts)]
    made: type[Texts] = create_model(
        "Texts",
        __base__=Texts,
        __doc__="Texts to classify. For a bundle that classifies pairs, `text_pairs` holds the second text of each.",
        texts=(texts, ...),
        text_pairs=(texts | None, None),
    )
    return made


def faults(errors: list[Any]) -> dict[str, Any]:
    """Return pydantic's errors as `Invalid`, without the input."""
    where = [[printable(part) if isinstance(part, str) else part for part in e["loc"]] for e in errors]
    found = [{"type": e["type"], "loc": loc, "msg": e["msg"]} for e, loc in zip(errors, where, strict=True)]
    return {"detail": found[:MOST_FAULTS]}


def printable(text: str) -> str:
    """Return a client's input, shortened and without control characters."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[:MOST_SHOWN])
    return shown + "..." * (len(text) > MOST_SHOWN)
