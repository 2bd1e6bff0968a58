"""Figures about a dataset that one checks by eye before training on it.

Counts are over all rows; means and deviations over the training rows only (over all where there are none), because a
model may use them and must not know the others. `measure` takes the rows of one split, a shard of them where there are
many; `merge` adds such parts up, in the order given, so that equal shards give equal figures; `describe` is what the
manifest says.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.dataset.fitting import lengths
from cluster.dataset.moments import Moments
from cluster.dataset.schema import Kind
from cluster.dataset.tensors import tensor_numpy

Part = dict[str, Any]
_COUNTS = ("species", "sizes", "compositions", "labels")  # dictionaries of counts
_BLOCK = 1 << 20  # pixels that are made float64 at a time
_HEAVY = 128  # above the highest atomic number
_KEYS = np.random.default_rng(0).integers(1 << 63, size=_HEAVY, dtype=np.uint64)  # of the elements


def measure(table: pa.Table, kind: Kind) -> Part:
    """The partial sums of conformed rows of one split: counts, and `Moments` of what has a mean."""
    part: Part = {"rows": table.num_rows}
    if not table.num_rows:
        return part
    if kind == "structures":
        part |= _structures(table)
    elif kind == "points":
        part |= {"sizes": _counted(lengths(table["positions"]) // 3)}
    elif kind in ("images", "signals"):
        part |= _tensors(table, "pixels" if kind == "images" else "values")
    if kind != "structures" and "label" in known(table):
        part["labels"] = _counted(table["label"].to_numpy())
    return part


def merge(parts: Sequence[tuple[str, Part]]) -> Part:
    """Counts of all parts, moments of the training rows. parts: (split, `measure`), in the order of the rows."""
    total: Part = {"rows": sum(part["rows"] for _, part in parts)}
    training = [part for split, part in parts if split == "train" and part["rows"]]
    training = training or [part for _, part in parts]
    for name in _COUNTS:
        counts: dict[Any, int] = {}
        for _, part in parts:
            for key, count in part.get(name, {}).items():
                counts[key] = counts.get(key, 0) + count
        if counts:
            total[name] = dict(sorted(counts.items()))
    for part in training:
        for name, value in part.items():
            if isinstance(value, Moments):
                total[name] = total[name] + value if name in total else value
    shapes = [part["shape"] for _, part in parts if "shape" in part]
    return total | ({"shape": shapes[0]} if shapes else {})


def describe(total: Part, kind: Kind) -> dict[str, Any]:
    """The figures of merged parts, as JSON."""
    figures: dict[str, Any] = {}
    if "species" in total:
        figures["species"] = list(total["species"])
        figures["atoms_by_species"] = _text(total["species"])
        figures["compositions"] = len(total["compositions"])
    if "sizes" in total:
        what = "structure" if kind == "structures" else "cloud"
        noun = "atoms" if kind == "structures" else "points"
        figures[f"{noun}_per_{what}"] = [min(total["sizes"]), max(total["sizes"])]
        figures["rows_by_size"] = _text(total["sizes"])
    if "energy_per_atom" in total:
        figures["energy_per_atom_mean_eV"] = total["energy_per_atom"].one.mean
        figures["energy_per_atom_std_eV"] = total["energy_per_atom"].one.deviation
    if "forces" in total:
        figures["force_rms_eV_per_angstrom"] = total["forces"].one.root_mean_square
        figures["force_mean_abs_eV_per_angstrom"] = total["force_sizes"].one.mean
    if "shape" in total:
        name = "pixel" if kind == "images" else "value"
        figures["shape"] = list(total["shape"])
        whole = total["values"].pooled()
        figures |= {f"{name}_mean": whole.one.mean, f"{name}_std": whole.one.deviation}
        figures["channel_mean"] = total["values"].means.tolist()
        figures["channel_std"] = total["values"].deviations.tolist()
    if "labels" in total:
        figures["classes"] = len(total["labels"])
        figures["rows_by_label"] = _text(total["labels"])
    return figures


def known(table: pa.Table) -> set[str]:
    """The names of the columns."""
    return set(table.column_names)


def _structures(table: pa.Table) -> Part:
    sizes = lengths(table["numbers"])
    numbers = _flat(table["numbers"])
    part: Part = {
        "sizes": _counted(sizes),
        "species": _small(numbers),
        "compositions": _compositions(numbers, sizes),
    }
    if "energy" in known(table):
        part["energy_per_atom"] = Moments.of(table["energy"].to_numpy() / sizes)
    if "forces" in known(table):
        forces = _flat(table["forces"])
        part["forces"] = Moments.of(forces)
        part["force_sizes"] = Moments.of(np.abs(forces))
    return part


def _compositions(numbers: NDArray[np.uint8], sizes: NDArray[np.int64]) -> dict[int, int]:
    """Rows by composition. A composition is the sum of a random 64-bit number for each of its atoms.

    Sorting those is 20 times as fast as sorting counts of elements; that two of a million compositions are taken for
    one has a probability of 3e-8.
    """
    sums = np.add.reduceat(_KEYS[numbers], np.cumsum(sizes) - sizes)
    return _counted(sums)


def _tensors(table: pa.Table, name: str) -> Part:
    shape: tuple[int, ...] = tuple(table.schema.field(name).type.shape)
    moments = [block for chunk in table[name].chunks for block in _blocks(tensor_numpy(chunk))]
    total = moments[0]
    for block in moments[1:]:
        total = total + block
    return {"shape": shape, "values": total}


def _blocks(values: NDArray[Any]) -> Iterable[Moments]:
    """Moments by channel, of a few rows at a time; 8-bit values are fractions of 255."""
    channels = values.shape[1]
    rows = max(1, _BLOCK // int(np.prod(values.shape[1:])))
    for start in range(0, len(values), rows):
        block = values[start : start + rows].reshape(-1, channels, int(np.prod(values.shape[2:])))
        flat = block.transpose(1, 0, 2).reshape(channels, -1).astype(np.float64)
        yield Moments.of(flat / 255 if values.dtype == np.uint8 else flat)


def _counted(values: NDArray[Any]) -> dict[int, int]:
    kinds, counts = np.unique(values, return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))


def _small(values: NDArray[np.uint8]) -> dict[int, int]:
    """As `_counted`, without sorting."""
    counts = np.bincount(values)
    kinds = np.flatnonzero(counts)
    return dict(zip(kinds.tolist(), counts[kinds].tolist(), strict=True))


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """All values of a column of lists, one after another."""
    parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _text(counts: dict[int, int]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}
