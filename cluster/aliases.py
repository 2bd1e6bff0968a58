"""Aliases of a model (prod, staging): names that point at a version and are moved by compare-and-swap.

models/<name>/aliases.json holds where each points and every move, so that a rollback knows where to go.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import NotFoundError, StoreError, UserError
from cluster.names import as_version, checked_name, manifest_key, missing, unknown, versions
from cluster.store import Store, read_json, swap_json


class Move(BaseModel):
    """One move of an alias. rollback: it went back, and what it left is not a place to go back to."""

    model_config = ConfigDict(frozen=True)

    alias: str
    version: int
    previous: int | None
    who: str
    why: str
    at: datetime
    rollback: bool = False


class Aliases(BaseModel):
    """Where each alias points, and how it came there, oldest first."""

    model_config = ConfigDict(frozen=True)

    aliases: dict[str, int] = {}
    history: tuple[Move, ...] = ()

    def before(self, alias: str) -> int | None:
        """Where a rollback of the alias leads: going back twice leads two moves back, not to and fro."""
        path: list[int] = []
        for move in self.history:
            if move.alias == alias:
                path = path[:-1] if move.rollback else [*path, move.version]
        return path[-2] if len(path) > 1 else None

    def moved(self, move: Move) -> "Aliases":
        """The aliases after the move."""
        return Aliases(aliases={**self.aliases, move.alias: move.version}, history=(*self.history, move))


def load_aliases(store: Store, name: str) -> Aliases:
    """The aliases of a model; none where it has none."""
    try:
        document = read_json(store, _key(name))
    except NotFoundError:
        return Aliases()
    return _parsed(name, document)


def move_alias(store: Store, name: str, alias: str, version: int, *, who: str, why: str) -> Aliases:
    """Point the alias at a version that exists; nothing happens where it points there already.

    Raises `NotFoundError` for a version that is not published, `UserError` for an alias that reads as a version.
    """
    checked_name("alias", alias)
    if as_version(alias) is not None or alias.isdigit():
        raise UserError(f"{alias!r} is no alias name", allowed="a word: numbers are versions")
    if not store.exists(manifest_key("model", checked_name("model", name), version)):
        there = versions(store, "model", name)
        if not there:
            raise unknown(store, "model", name)
        raise missing(f"model {name!r} has no version {version}", "", map(str, there), "its versions")

    def point(now: Aliases) -> Aliases:
        previous = now.aliases.get(alias)
        if previous == version:
            return now
        return now.moved(_move(alias, version, previous, who, why))

    return _swap(store, name, point)


def rollback(store: Store, name: str, alias: str, *, who: str, why: str = "rolled back") -> Aliases:
    """Point the alias at the version that it pointed at before. Raises `UserError` where there was none."""

    def back(now: Aliases) -> Aliases:
        if alias not in now.aliases:
            raise missing(f"model {name!r} has no alias {alias!r}", alias, now.aliases, "its aliases")
        version = now.before(alias)
        if version is None:
            raise UserError(f"alias {alias!r} of model {name!r} has never pointed at another version")
        if not store.exists(manifest_key("model", name, version)):
            raise NotFoundError(f"version {version} of model {name!r}, where {alias!r} was before, is gone")
        return now.moved(_move(alias, version, now.aliases[alias], who, why, rollback=True))

    return _swap(store, name, back)


def _move(alias: str, version: int, previous: int | None, who: str, why: str, *, rollback: bool = False) -> Move:
    at = datetime.now(UTC)
    return Move(alias=alias, version=version, previous=previous, who=who, why=why, at=at, rollback=rollback)


def _swap(store: Store, name: str, change: Callable[[Aliases], Aliases]) -> Aliases:
    def document(now: dict[str, Any] | None) -> dict[str, Any]:
        return change(_parsed(name, now or {})).model_dump(mode="json")

    return _parsed(name, swap_json(store, _key(name), document, attempts=32))


def _key(name: str) -> str:
    return f"models/{checked_name('model', name)}/aliases.json"


def _parsed(name: str, document: Mapping[str, Any]) -> Aliases:
    try:
        return Aliases.model_validate(document)
    except ValidationError as error:
        raise StoreError(f"{_key(name)} is damaged: {error}") from error
