"""Read a source's labels, all as one kind."""

from __future__ import annotations

from collections.abc import Collection

from feathertune.errors import DataError
from feathertune.tasks.labels.alike import MISSING
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.kind import LabelKind, listed
from feathertune.tasks.labels.numbers import NUMBER_LABELS
from feathertune.tasks.labels.sets import LABEL_SETS
from feathertune.tasks.labels.values import LARGEST, Label, TaskChoice, all_numbers, has_fraction, is_list, number_of

KINDS: dict[str, LabelKind] = {kind.name: kind for kind in (CLASS_LABELS, LABEL_SETS, NUMBER_LABELS)}


# Texts among numbers that mean a missing or infinite number.
_NO_NUMBERS = (*MISSING, "inf", "infinity")


class LabelReader:
    """Reads the labels of a source's rows and detects their kind.

    With the task ``auto``, a separator or a list in the first row means sets of labels. Labels are numbers if all of
    them are numbers and one has a fractional part: whole numbers alone may be names of classes.
    """

    def __init__(self, separator: str | None = None, task: TaskChoice = "auto") -> None:
        self._separator = separator
        self._auto = task == "auto"
        self._kind = KINDS.get(task, LABEL_SETS if separator else None)
        self._no_name: DataError | None = None  # the first number that cannot be the name of a class

    @property
    def kind(self) -> LabelKind:
        """The kind of the labels read so far."""
        return self._kind or CLASS_LABELS

    def read(self, value: object, where: str) -> Label | None:
        """Return a row's label, None if it is missing, NaN if it should be a number and is not."""
        if self._kind is None:
            self._kind = LABEL_SETS if is_list(value) else CLASS_LABELS
        try:
            return self._kind.read(value, where, self._separator)
        except DataError as error:
            if not self._may_be_numbers or (number := number_of(value)) is None:
                raise
            self._no_name = self._no_name or error
            return repr(number)

    @property
    def _may_be_numbers(self) -> bool:
        return self._auto and self._kind is not None and not (self._kind.sets or self._kind.numbers)

    def as_numbers(self, names: Collection[Label]) -> dict[str, float] | None:
        """Return the number of each name, None if they stay names; raise a `DataError` if one cannot be a name."""
        if not self._may_be_numbers:
            return None
        texts = [name for name in names if isinstance(name, str)]
        found = all_numbers([name for name in texts if name.lower().lstrip("+-") not in _NO_NUMBERS])
        if found is not None and has_fraction(found.values()):
            odd = [name for name in texts if name not in found or abs(found[name]) > LARGEST]
            if odd and len(found) <= len(odd):
                return None
            if odd:
                raise DataError(
                    f"The labels are numbers, except {listed(dict.fromkeys(odd))}. Expected finite numbers up to "
                    f"{LARGEST:g}. Correct those rows, or leave them out with --set data.task=regression "
                    "--drop-invalid."
                )
            self._kind = NUMBER_LABELS
            return found
        if self._no_name is not None:
            raise self._no_name
        return None
