"""Structures that are collected one by one, and the columns they become.

Shapes: n atoms of one structure. Units are those of the source.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.ingest.columns import lists, tensors

Label = Literal["energy", "forces", "stress", "charge", "spin"]
LABELS: tuple[Label, ...] = get_args(Label)
_OF_A_ROW: dict[Label, Any] = {"energy": np.float64, "charge": np.float64, "spin": np.int64}


class Unreadable(ValueError):  # noqa: N818  (a finding about a row, which its reader collects)
    """Why a row cannot be read."""


@dataclass(frozen=True)
class Structure:
    """One structure; a label that the dataset does not have is None in every one of them."""

    numbers: NDArray[np.integer]  # (n,)
    positions: NDArray[np.float64]  # (n, 3)
    cell: NDArray[np.float64] | None = None  # (3, 3), rows are lattice vectors; None: not periodic
    pbc: NDArray[np.bool_] | None = None  # (3,)
    labels: dict[Label, Any] = field(default_factory=dict)  # of LABELS

    @property
    def periodic(self) -> bool:
        """Whether it repeats in any direction. A cell alone is only a container."""
        return self.pbc is not None and bool(self.pbc.any())


def checked_label(label: Label, value: Any, atoms: int, key: str) -> Any:
    """The label as a structure of so many atoms has it: a number, forces (n, 3), stress (3, 3). Raises Unreadable."""
    found = np.asarray(value)
    if label == "stress" and found.shape == (6,):
        xx, yy, zz, yz, xz, xy = found  # Voigt's order
        found = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif label == "stress" and found.shape == (9,):
        found = found.reshape(3, 3)
    shape = {"forces": (atoms, 3), "stress": (3, 3)}.get(label, ())
    if found.dtype.kind not in "iuf" or found.shape != shape:
        wanted = f"numbers of shape {shape}" if shape else "a number"
        raise Unreadable(f"{label} ({key!r}) is {_short(value)}, not {wanted}")
    if label == "spin" and found != np.round(found):
        raise Unreadable(f"{label} ({key!r}) is {value}, not a whole number")
    return found


def structure_columns(structures: list[Structure]) -> dict[str, pa.Array]:
    """Columns of the kind structures; cell and pbc only where a structure repeats (zero for those that do not)."""
    if not structures:
        return {}
    lengths = [len(each.numbers) for each in structures]
    numbers = np.concatenate([each.numbers for each in structures])
    columns: dict[str, Any] = {
        # Clipped to 255, which is no element and is told as such: an atomic number of 300 must not become 44.
        "numbers": lists(np.clip(numbers, 0, 255).astype(np.uint8), lengths),
        "positions": _flat([each.positions for each in structures]),
    }
    for name, dtype in _OF_A_ROW.items():
        if name in structures[0].labels:
            columns[name] = pa.array(np.array([each.labels[name] for each in structures], dtype=dtype))
    if "forces" in structures[0].labels:
        columns["forces"] = _flat([each.labels["forces"] for each in structures])
    if any(each.periodic for each in structures):
        none = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        boxes = [(each.cell, each.pbc) if each.periodic else none for each in structures]
        columns["cell"] = tensors(np.array([cell for cell, _ in boxes], dtype=np.float64).reshape(-1, 3, 3))
        columns["pbc"] = tensors(np.array([pbc for _, pbc in boxes], dtype=np.uint8).reshape(-1, 3))
    if "stress" in structures[0].labels:
        columns["stress"] = tensors(np.array([each.labels["stress"] for each in structures], dtype=np.float64))
    return columns


def _flat(parts: list[NDArray[Any]]) -> pa.ListArray:
    # Each by its own length: were it not that of its atoms, no other row would be shifted by it.
    values = np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in parts])
    return lists(values, [np.size(part) for part in parts])


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."
