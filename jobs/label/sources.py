"""Where structures to label come from: a molecule, a file, or a published dataset."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ase.io
import numpy as np

from cluster.dataset.dataset import Dataset, open_dataset
from cluster.dataset.schema import require_kind
from cluster.dataset.tensors import tensor_numpy
from cluster.errors import NotFoundError, UserError
from cluster.store import Store
from jobs.ingest.columns import flat_values, list_lengths
from jobs.label.geometry import Geometry
from jobs.label.molecules import molecule
from jobs.spec.label import StructureSource

_GIVEN = ("id", "group", "split", "numbers", "positions")
_OPTIONAL = ("cell", "pbc", "charge", "spin")
UNASSIGNED = ""


@dataclass(frozen=True)
class Given:
    """A structure with its name and what decides its split."""

    id: str
    group: str
    split: str  # UNASSIGNED where it has none yet
    geometry: Geometry


class Source(Protocol):
    """Structures in a fixed order, as often as they are asked for."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def identity(self) -> str:
        """A digest of what they are."""
        ...

    @property
    def has_stress(self) -> bool:
        """Whether every structure repeats and its lattice spans a volume: only then is stress a column of all."""
        ...

    def structures(self) -> Iterator[Given]:
        """All of them."""
        ...


class ListSource:
    """Structures that are in memory: a molecule, or what a file holds. Larger sets are ingested first."""

    def __init__(self, name: str, geometries: Iterable[Geometry]) -> None:
        self._given = [
            Given(f"{name}-{number:06d}", f"{name}-{number:06d}", UNASSIGNED, geometry)
            for number, geometry in enumerate(geometries)
        ]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._given)

    @property
    def identity(self) -> str:
        """sha256 of all geometries."""
        total = hashlib.sha256()
        for given in self._given:
            total.update(given.geometry.content())
        return total.hexdigest()

    @property
    def has_stress(self) -> bool:
        """Whether every structure repeats and its lattice spans a volume."""
        return all(given.geometry.has_stress for given in self._given)

    def structures(self) -> Iterator[Given]:
        """All of them."""
        return iter(self._given)


class DatasetSource:
    """The structures of a published dataset, read row group by row group. Its labels are not looked at."""

    def __init__(self, dataset: Dataset, split: str | None) -> None:
        require_kind(dataset.manifest, "structures", columns=())
        self._dataset, self._split = dataset, split

    @property
    def count(self) -> int:
        """Rows of the split."""
        return int(self._dataset.rows(self._split))

    @property
    def identity(self) -> str:
        """Digest of the dataset, and the split."""
        return f"{self._dataset.manifest.digest} {self._split}"

    @property
    def has_stress(self) -> bool:
        """Whether every structure repeats and its lattice spans a volume."""
        if not {"cell", "pbc"} <= set(self._dataset.schema.names):
            return False
        for table in self._tables(["cell", "pbc"]):
            repeats, cells = tensor_numpy(table["pbc"]).any(axis=1), tensor_numpy(table["cell"])
            if not (repeats & (np.linalg.det(cells) != 0)).all():
                return False
        return True

    def structures(self) -> Iterator[Given]:
        """All of them, with the ids, groups and splits that they have."""
        there = self._dataset.schema.names
        for table in self._tables([*_GIVEN, *(name for name in _OPTIONAL if name in there)]):
            yield from _given_of(table)

    def _tables(self, names: list[str]) -> Iterator[Any]:
        groups = self._dataset.groups(self._split)
        for number, skip, rows in zip(groups.number, groups.skip, groups.rows, strict=True):
            yield self._dataset.read_group(int(number), names).slice(int(skip), int(rows))


def open_source(spec: StructureSource, folder: Path, store: Store) -> Source:
    """The structures that a spec names; relative files are looked for in `folder`.

    Raises NotFoundError, and UserError for a file that ASE cannot read or that holds no structure.
    """
    source: Source
    if spec.molecule is not None:
        source = ListSource(spec.molecule, [Geometry.of(molecule(spec.molecule))])
    elif spec.file is not None:
        path = folder / spec.file
        source = ListSource(path.stem, read_geometries(path))
    else:
        source = DatasetSource(open_dataset(str(spec.dataset), store=store), spec.split)
    if not source.count:
        raise UserError(f"{spec.shown} holds no structure{f' in the {spec.split} split' if spec.split else ''}")
    return source


def read_geometries(path: Path) -> list[Geometry]:
    """Every structure of a file, with its cell, and its charge and spin where all have them in `info`."""
    if not path.is_file():
        raise NotFoundError(f"no file {path}")
    try:
        frames: Any = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever they meet, from KeyError to AssertionError
        raise UserError(f"ase.io cannot read {path}: {type(error).__name__}: {error}") from error
    told = [name for name in ("charge", "spin") if frames and all(name in frame.info for frame in frames)]
    kinds = {"charge": float, "spin": int}
    return [replace(Geometry.of(f), **{name: kinds[name](f.info[name]) for name in told}) for f in frames]


def _given_of(table: Any) -> Iterator[Given]:
    sizes = list_lengths(table["numbers"])
    ends = np.cumsum(sizes)
    numbers = flat_values(table["numbers"]).astype(np.int64)
    positions = flat_values(table["positions"]).reshape(-1, 3)
    cell, pbc = (tensor_numpy(table[n]) if n in table.column_names else None for n in ("cell", "pbc"))
    charge, spin = (table[n].to_numpy() if n in table.column_names else None for n in ("charge", "spin"))
    texts = zip(*(table[name].to_pylist() for name in ("id", "group", "split")), strict=True)
    for row, ((name, group, split), begin, end) in enumerate(zip(texts, ends - sizes, ends, strict=True)):
        repeats = pbc is not None and bool(pbc[row].any())
        yield Given(
            name,
            group,
            split,
            Geometry(
                numbers=numbers[begin:end],
                positions=positions[begin:end],
                cell=cell[row] if repeats and cell is not None else None,
                pbc=pbc[row].astype(bool) if repeats and pbc is not None else None,
                charge=None if charge is None else float(charge[row]),
                spin=None if spin is None else int(spin[row]),
            ),
        )
