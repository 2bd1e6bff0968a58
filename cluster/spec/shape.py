"""The JSON schema of a spec model, walked along a path: which keys are known there and what is allowed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from cluster.spec.wording import allowed_by

DEEPEST = 6  # levels searched for a key that was put into the wrong place


class Shape:
    """What a model accepts, for error messages. Pydantic decides; this only explains."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root = model.model_json_schema(by_alias=True)
        self._definitions: Mapping[str, Any] = self._root.get("$defs", {})

    def has(self, path: Sequence[str | int]) -> bool:
        """Whether something can be at `path`."""
        return bool(self._at(path))

    def keys(self, path: Sequence[str | int]) -> tuple[str, ...]:
        """The settings that are known at `path`, in the order of the model."""
        return tuple(dict.fromkeys(key for schema in self._at(path) for key in schema.get("properties", {})))

    def choices(self, path: Sequence[str | int]) -> tuple[str, ...]:
        """The fixed texts that are allowed at `path`."""
        found = [value for schema in self._at(path) for value in schema.get("enum", [schema.get("const")])]
        return tuple(value for value in found if isinstance(value, str))

    def allowed(self, path: Sequence[str | int]) -> str | None:
        """What is allowed at `path`, in words."""
        words = [allowed_by(schema) for schema in self._at(path)]
        return " or ".join(dict.fromkeys(words)) or None

    def description(self, path: Sequence[str | int]) -> str | None:
        """What the model says about the setting at `path`."""
        texts = (schema.get("description") for schema in self._at(path) if "properties" not in schema)
        return next((text for text in texts if text), None)

    def default(self, path: Sequence[str | int]) -> str | None:
        """What stands at `path` where nothing is given, as JSON; None where something must be, or nothing simple is."""
        *parents, key = path
        for schema in self._at(parents):
            inner = schema.get("properties", {}).get(key, {})
            if "default" in inner:
                return json.dumps(inner["default"])
        return None

    def required(self, path: Sequence[str | int]) -> bool:
        """Whether a value must be given at `path`."""
        *parents, key = path
        found = [schema for schema in self._at(parents) if key in schema.get("properties", {})]
        return bool(found) and all(key in schema.get("required", ()) for schema in found)

    def elsewhere(self, key: str) -> str | None:
        """The dotted path, if there is exactly one, at which a setting called `key` is known."""
        found = list(self._search(self._root, key, (), 0))
        return ".".join(found[0]) if len(found) == 1 else None

    def _at(self, path: Sequence[str | int]) -> list[Mapping[str, Any]]:
        here = list(self._plain(self._root))
        for key in path:
            here = [plain for schema in here for inner in _inside(schema, key) for plain in self._plain(inner)]
        return here

    def _plain(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The alternatives of a schema, references followed; a description outside explains each of them."""
        outside = {"description": schema["description"]} if "description" in schema else {}
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].rsplit("/", 1)[-1]]
            yield from ({**plain, **outside} for plain in self._plain(target))
            return
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                for inner in schema[word]:
                    yield from ({**plain, **outside} for plain in self._plain(inner))
                return
        yield schema

    def _search(
        self, schema: Mapping[str, Any], key: str, path: tuple[str, ...], depth: int
    ) -> Iterator[tuple[str, ...]]:
        for plain in self._plain(schema) if depth < DEEPEST else ():
            for name, inner in plain.get("properties", {}).items():
                if name == key:
                    yield (*path, name)
                yield from self._search(inner, key, (*path, name), depth + 1)


def _inside(schema: Mapping[str, Any], key: str | int) -> Iterator[Mapping[str, Any]]:
    """The schemas that a value under `key` must follow."""
    if isinstance(key, int):
        fixed = schema.get("prefixItems", [])
        if key < len(fixed):
            yield fixed[key]
        elif isinstance(schema.get("items"), dict):
            yield schema["items"]
    elif key in schema.get("properties", {}):
        yield schema["properties"][key]
    elif schema.get("additionalProperties") is True:
        yield {}
    elif isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]
    else:  # a mapping whose keys follow a pattern; that one key does not is another problem
        yield from schema.get("patternProperties", {}).values()
