"""A read-only list of named things, that answers an unknown name with the nearest one.

Not for things that are made at run time: a registry is complete once it is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from feathertune.errors import UnknownNameError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The word that people type."""
        ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Named values in a stated order.

    Args:
        kind: What the values are, for messages, such as ``"method"``.
        values: The values; their names must differ.

    Raises:
        ValueError: If two values share a name.
    """

    def __init__(self, kind: str, values: Iterable[T]) -> None:
        self.kind = kind
        self._values: dict[str, T] = {}
        for value in values:
            if value.name in self._values:
                raise ValueError(f"Two values of the registry of {kind}s are named '{value.name}'.")
            self._values[value.name] = value

    def __getitem__(self, name: str) -> T:
        try:
            return self._values[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._values) from None

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[T]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the list."""
        return tuple(self._values)
