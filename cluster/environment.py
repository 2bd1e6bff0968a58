"""Environment variables for the length of a block: Ray takes much of what it should do from there."""

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables (None: unset) inside, put them back afterwards. Of the whole process: not for threads."""
    before = {name: os.environ.get(name) for name in changes}
    _assign(changes)
    try:
        yield
    finally:
        _assign(before)


def _assign(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
