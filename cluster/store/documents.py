"""JSON documents on a store, and the loop that changes one without losing what another writer wrote."""

import json
import math
import random
import time
from collections.abc import Callable
from typing import Any

from cluster.errors import NotFoundError, PreconditionFailedError, StoreError
from cluster.store.interface import Store


def encode_json(document: Any) -> bytes:
    """The document as UTF-8 JSON. A float that JSON cannot hold (NaN, infinity) becomes null."""
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _finite(value: Any) -> Any:
    """The value with every float that JSON cannot hold replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def decode_json(data: bytes, key: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises `StoreError`, naming `key`, where it is none."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{key} on the store is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise StoreError(f"{key} on the store is not a JSON object")
    return document


def read_json(store: Store, key: str) -> dict[str, Any]:
    """The JSON object at `key`. Raises `NotFoundError`."""
    return decode_json(store.read(key), key)


def swap_json(
    store: Store,
    key: str,
    change: Callable[[dict[str, Any] | None], dict[str, Any]],
    attempts: int = 8,
) -> dict[str, Any]:
    """Read, change and write one JSON document by compare-and-swap; returns what was written.

    `change` gets the document, or None where there is none yet, and returns the new one; it is called
    again where another writer was faster. What it raises passes through and nothing is written.
    Raises `StoreError` after `attempts` lost races.
    """
    for attempt in range(attempts):
        current: dict[str, Any] | None = None
        etag: str | None = None
        try:
            data, etag = store.read_tagged(key)
            current = decode_json(data, key)
        except NotFoundError:
            pass
        document = change(current)
        try:
            store.write(key, encode_json(document), if_absent=etag is None, if_match=etag)
        except PreconditionFailedError:
            time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))  # jitter: losers must not meet again
            continue
        return document
    raise StoreError(f"{key} was changed by others {attempts} times while it was being written; try again")
