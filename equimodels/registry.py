"""Components by name: a class, the frozen dataclass of its settings, and where both live.

A name in a spec is looked up here, never executed: only registered classes, entry points of the group
`equimodels.plugins` and, where the caller allows it, an explicit `pkg.module:Class` are ever built.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from equimodels.errors import UnknownComponentError

C = TypeVar("C")


@dataclass(frozen=True)
class Entry(Generic[C]):
    """One registered component."""

    name: str
    target: type[C]
    config: type[Any]  # frozen keyword-only dataclass, the only thing a user sets

    @property
    def path(self) -> str:
        """Import path, `pkg.module:Class`: what a worker without our entry points can resolve."""
        return f"{self.target.__module__}:{self.target.__qualname__}"


class Registry(Generic[C]):
    """The components of one kind. Built-in modules are imported on the first look-up, not before."""

    def __init__(self, kind: str, builtin: Sequence[str]) -> None:
        self.kind = kind
        self._builtin = tuple(builtin)
        self._entries: dict[str, Entry[C]] = {}
        self._loaded = False

    def register(self, name: str, *, config: type[Any]) -> Callable[[type[C]], type[C]]:
        """Class decorator: make the class known as `name`, configured by the dataclass `config`."""

        def add(target: type[C]) -> type[C]:
            known = self._entries.get(name)
            if known is not None and known.target.__qualname__ != target.__qualname__:
                raise ValueError(
                    f"two classes want the {self.kind} name {name!r}: {known.path} and {target.__module__}"
                )
            self._entries[name] = Entry(name, target, config)
            return target

        return add

    def names(self) -> tuple[str, ...]:
        """Every registered name, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def find(self, name: str) -> Entry[C]:
        """The component called `name`, or given as `pkg.module:Class` (imported, then found by its registered class).

        Raises UnknownComponentError.
        """
        self._load()
        if ":" in name:
            module, _, qualname = name.partition(":")
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise UnknownComponentError(self.kind, name, self.names()) from error
            for entry in self._entries.values():
                if entry.target.__module__ == module and entry.target.__qualname__ == qualname:
                    return entry
            raise UnknownComponentError(self.kind, name, self.names())
        if name not in self._entries:
            raise UnknownComponentError(self.kind, name, self.names())
        return self._entries[name]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for module in self._builtin:
            importlib.import_module(module)
        for plugin in entry_points(group="equimodels.plugins"):
            plugin.load()
