"""The request that the demo shows people how to send: one sample of the test split, in a file for curl."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.tensors import tensor_numpy
from cluster.store import Store

ROUTES = {"structures": "energy_forces", "images": "embed"}


def write_question(store: Store, dataset: str, folder: Path) -> tuple[str, Path]:
    """Write query.json below `folder`; returns the route that answers it, and the file."""
    kind = load_manifest(store, dataset).kind
    table = read_table(store, dataset, split="test").slice(0, 1)
    body: dict[str, Any]
    if kind == "structures":
        flat = table["positions"][0].as_py()
        positions = [flat[i : i + 3] for i in range(0, len(flat), 3)]
        body = {"structures": [{"numbers": table["numbers"][0].as_py(), "positions": positions}]}
    else:
        pixels = tensor_numpy(table["pixels"])
        body = {"images": (pixels / 255 if pixels.dtype == np.uint8 else pixels).tolist()}
    path = folder / "query.json"
    path.write_text(json.dumps(body) + "\n", encoding="utf-8")
    return ROUTES[kind], path
