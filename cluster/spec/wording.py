"""Values and schemas in a user's words: what was found, what is allowed, what may have been meant."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from cluster.spec.secrecy import HIDDEN

LONGEST_SHOWN = 60  # characters of a text that was found


def describe(value: Any, *, secret: bool = False) -> str:
    """What a value is: `text 'abc'`, `the number 3`, `a list of 2`. Of a secret only its type."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return f"a mapping of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        kind, shown = "", str(value).lower()
    elif isinstance(value, int | float):
        kind, shown = "the number ", str(value)
    else:
        kind, shown = "text ", repr(str(value))
    if secret:
        return f"{kind}{HIDDEN}"
    return f"{kind}{shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + '...'}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, capitals aside; None if none is like it."""
    by_lower = {other.lower(): other for other in known}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing: the end of a message."""
    match = nearest(word, known)
    return f"; did you mean {match!r}?" if match else ""


def allowed_by(schema: Mapping[str, Any]) -> str:
    """What one JSON schema without `$ref` and `anyOf` allows, in words."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    kind = schema.get("type")
    words = {
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
        "null": "nothing (null)",
    }.get(str(kind), "anything")
    if kind == "object" and schema.get("properties"):
        words += f" with {', '.join(schema['properties'])}"
    return words + "".join(_limits(schema))


def _limits(schema: Mapping[str, Any]) -> Iterable[str]:
    for key, text in {
        "minimum": ", at least {}",
        "exclusiveMinimum": ", greater than {}",
        "maximum": ", at most {}",
        "exclusiveMaximum": ", less than {}",
        "multipleOf": ", a multiple of {}",
        "minLength": ", {} characters or more",
        "maxLength": ", {} characters or less",
        "minItems": ", {} or more",
        "maxItems": ", {} or less",
        "minProperties": ", {} or more",
        "maxProperties": ", {} or less",
        "pattern": " like {}",
    }.items():
        if key in schema:
            yield text.format(schema[key])
