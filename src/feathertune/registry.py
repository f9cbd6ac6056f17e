"""A read-only registry of named values, which other packages extend with entry points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Generic, Protocol, TypeVar

from feathertune.errors import ConfigError, UnknownNameError, first_line


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """Name that users type."""
        ...


T = TypeVar("T", bound=Named)


@dataclass(frozen=True)
class Found(Generic[T]):
    """Values from other packages, and the reasons why some cannot be used, by name."""

    values: tuple[T, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)


def entry_points(group: str, kind: type[T]) -> Found[T]:
    """Load the values of a group of entry points, sorted by name; a broken one raises only when it is used."""
    values: list[T] = []
    broken: dict[str, str] = {}
    for entry in sorted(metadata.entry_points(group=group), key=lambda entry: entry.name):
        origin = f"{entry.value} of the package {entry.dist.name if entry.dist else '?'}"
        try:
            value = entry.load()
        except Exception as error:  # another package's import may raise anything
            broken[entry.name] = f"{origin} cannot be loaded: {type(error).__name__}: {first_line(error)}"
            continue
        if isinstance(value, kind):
            values.append(value)
        else:
            broken[entry.name] = f"{origin} is a {type(value).__name__}, expected a {kind.__name__}"
    return Found(tuple(values), broken)


class Registry(Generic[T]):
    """Named values in a fixed order; values from other packages come last and cannot replace a name."""

    def __init__(self, kind: str, values: Iterable[T], *, others: Found[T] | None = None) -> None:
        self.kind = kind
        self._values: dict[str, T] = {}
        self._broken: dict[str, str] = {}
        for value in values:
            if value.name in self._values:
                raise ValueError(f"Two values of the registry of {kind}s are named '{value.name}'.")
            self._values[value.name] = value
        if others is None:
            return
        for value in others.values:  # installing a package must not replace `lora`
            self._values.setdefault(value.name, value)
        self._broken = {name: why for name, why in others.broken.items() if name not in self._values}

    def __getitem__(self, name: str) -> T:
        if name in self._broken:
            raise ConfigError(f"The {self.kind} '{name}' cannot be used: {self._broken[name]}.")
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

    @property
    def broken(self) -> Mapping[str, str]:
        """Unusable values of other packages: name to reason."""
        return dict(self._broken)

    def names(self) -> tuple[str, ...]:
        """Return all names in order."""
        return tuple(self._values)
