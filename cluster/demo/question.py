"""The request that the demo shows people how to send: one sample of the test split, in a file for curl."""

import json
from pathlib import Path
from typing import Any

from cluster.dataset.read import load_manifest, read_table
from cluster.store import Store

ROUTES = {"structures": "energy_forces", "images": "embed"}


def write_question(store: Store, dataset: str, folder: Path) -> tuple[str, Path]:
    """Write query.json below `folder`; returns the route that answers it, and the file."""
    kind = load_manifest(store, dataset).kind
    table = read_table(store, dataset, split="test").slice(0, 1)
    row = table.to_pylist()[0]
    body: dict[str, Any]
    if kind == "structures":
        flat = row["positions"]
        positions = [flat[i : i + 3] for i in range(0, len(flat), 3)]
        body = {"structures": [{"numbers": row["numbers"], "positions": positions}]}
    else:
        shape = json.loads((table.schema.field("pixels").metadata or {})[b"shape"])
        body = {"images": [_nested(row["pixels"], shape)]}
    path = folder / "query.json"
    path.write_text(json.dumps(body) + "\n", encoding="utf-8")
    return ROUTES[kind], path


def _nested(flat: list[float], shape: list[int]) -> Any:
    if len(shape) == 1:
        return flat
    share = len(flat) // shape[0]
    return [_nested(flat[i : i + share], shape[1:]) for i in range(0, len(flat), share)]
