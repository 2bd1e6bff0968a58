"""Which settings hold secrets, and how their values stay out of everything that is printed."""

import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "(hidden)"
SHORTEST = 4  # a shorter text would be blotted out of innocent words too

_WORDS = {"token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "key", "keys", "credentials"}
_NAMES_A_PLACE = {"file", "path", "folder", "env", "name"}


def is_secret(*keys: str | int) -> bool:
    """Whether any of the keys on the way to a value says that it is secret: `token`, `api_key`, `clientSecret`.

    `token_file` counts too, because tokens are pasted there by mistake.
    """
    return any(_WORDS & set(_words(key)) for key in keys if isinstance(key, str))


def secret_values(data: Any, *, inside: bool = False) -> Iterator[str]:
    """The text of every secret value in plain data; names of files that hold a secret are not among them."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from secret_values(value, inside=inside or _holds_secret(key))
    elif isinstance(data, list):
        for value in data:
            yield from secret_values(value, inside=inside)
    elif inside and isinstance(data, str | int | float) and len(str(data)) >= SHORTEST:
        yield str(data)


def without_secrets(data: Any) -> Any:
    """A copy of plain data in which every value under a secret key is `(hidden)`, for showing."""
    if isinstance(data, dict):
        return {
            key: HIDDEN if value is not None and _holds_secret(key) else without_secrets(value)
            for key, value in data.items()
        }
    return [without_secrets(value) for value in data] if isinstance(data, list) else data


def redact(text: str, values: frozenset[str]) -> str:
    """`text` with every secret value blotted out, the longest first."""
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def _holds_secret(key: str) -> bool:
    """Whether the value itself is the secret, not the name of a file or a variable that holds it."""
    return is_secret(key) and not _NAMES_A_PLACE & set(_words(key))


def _words(key: str) -> list[str]:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", key).lower().replace("-", "_").split("_")
