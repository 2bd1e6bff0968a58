"""From the plain parameters of a spec to the settings object of a component."""

import difflib
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from equimodels.errors import SettingError
from equimodels.registry import Registry


def settings(registry: Registry[Any], name: str, params: Mapping[str, Any]) -> Any:
    """The settings of the component `name`, made from `params` and checked.

    Raises UnknownComponentError, or SettingError for an unknown key (naming the nearest), a wrong type or a bad value.
    """
    entry = registry.find(name)
    hints = get_type_hints(entry.config)
    known = {field.name: hints[field.name] for field in fields(entry.config) if field.init}
    for key, value in params.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            meant = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            listed = ", ".join(sorted(known)) or "none"
            raise SettingError(key, value, f"the settings of {registry.kind} {name!r}: {listed}{meant}")
        if not _fits(value, known[key]):
            raise SettingError(key, value, f"a value of type {_spell(known[key])}")
    return entry.config(**params)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value may stand for a field of that type. What is not a scalar is left to the settings class."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True


def _spell(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_spell(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return ", ".join(map(repr, get_args(hint)))
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
