"""Errors of the model library that a user can put right. Each survives pickling: it may cross a process boundary."""

from typing import Any


class SettingError(ValueError):
    """A setting has a value that is not allowed.

    Raised by the configuration dataclasses when they are made; says what was found and what is allowed.
    """

    def __init__(self, field: str, found: Any, allowed: str) -> None:
        super().__init__(f"{field} is {found!r}; allowed: {allowed}")
        self.field, self.found, self.allowed = field, found, allowed

    def __reduce__(self) -> tuple[Any, ...]:
        return SettingError, (self.field, self.found, self.allowed)


class UnknownComponentError(LookupError):
    """No component of this kind has that name."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"no {kind} is called {name!r}; known: {', '.join(known)}")
        self.kind, self.name, self.known = kind, name, known

    def __reduce__(self) -> tuple[Any, ...]:
        return UnknownComponentError, (self.kind, self.name, self.known)


def require(condition: bool, field: str, found: Any, allowed: str) -> None:
    """Raise `SettingError` unless `condition` holds."""
    if not condition:
        raise SettingError(field, found, allowed)
