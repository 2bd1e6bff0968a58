"""Columns of each kind of dataset: types, units and what must be there; and how the format may change.

A row is one structure of n atoms, one image of C channels and H x W pixels, one signal, one cloud of n points, or, of
kind table, whatever its columns are. `group` names what must not be torn apart by a split (a trajectory); `split` is
train, valid or test. Units are in the metadata of the fields, so that a Parquet file tells them without its manifest.
A column is there for all rows or for none: a dataset without forces has no column `forces`, never one with holes.

Rule of evolution. `SCHEMA_VERSION` is that of the format: columns, manifest and layout of the files.

- A kind may get further optional columns without a new version. Columns that this release does not know are carried:
  read, verified and published again as they are. So a release reads what a later one of the same version wrote.
- What a column is called, its type or its unit never changes within a version, nor is an optional one made required.
- Anything else is a new version. Every older version is read for ever: its rows are upgraded when they are read
  (`cluster.dataset.upgrade`), the files stay as they are, and are verified by the rules of their own version.
- A newer version is refused, and the error says to upgrade.

Version 1 (until 2026) had structures, always with energy and forces, and images, whose pixels were lists of float32;
its rows were ordered by split and id, its shards were in the folder of the version and held rows of several splits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

from cluster.dataset.columns import list_type
from cluster.dataset.tensors import is_tensor, tensor_type
from cluster.errors import UserError

if TYPE_CHECKING:
    from cluster.dataset.manifest import DatasetManifest

Kind = Literal["structures", "images", "signals", "points", "table"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCHEMA_VERSION = 2
SPLITS = ("train", "valid", "test")

Axis = int | None  # None: any length


@dataclass(frozen=True)
class Known:
    """A column that a kind gives a meaning. form: one value a row, a list, or a tensor of one of the shapes.

    values: allowed types of the values; what is neither is cast to the first.
    """

    name: str
    values: tuple[pa.DataType, ...]
    form: Literal["one", "list"] | tuple[tuple[Axis, ...], ...] = "one"
    required: bool = False
    unit: str | None = None
    meaning: str | None = None

    def field(self, found: pa.DataType) -> pa.Field:
        """The field for values of type `found`; its type is the nearest allowed one.

        Raises `UserError` for tensors of another shape, or of values that would mean something else when cast.
        """
        facts = {"unit": self.unit, "meaning": self.meaning}
        metadata = {key: value for key, value in facts.items() if value is not None}
        return pa.field(self.name, self._type(found), nullable=False, metadata=metadata or None)

    def wanted(self) -> str:
        """The type in words, for messages."""
        names = " or ".join(str(value) for value in self.values)
        if isinstance(self.form, str):
            return names if self.form == "one" else f"list of {names}"
        shapes = (", ".join("any" if axis is None else str(axis) for axis in shape) for shape in self.form)
        return f"tensor of {names}, shape {' or '.join(f'({shape})' for shape in shapes)}"

    def _type(self, found: pa.DataType) -> pa.DataType:
        if self.form == "one":
            return self.values[0]
        if self.form == "list":
            return list_type(self.values[0])
        if not is_tensor(found) or not any(_fits(found.shape, shape) for shape in self.form):
            raise UserError(f"column {self.name!r} is {found}", allowed=self.wanted())
        same = [value for value in self.values if value == found.value_type]
        # An 8-bit pixel means a fraction of 255, a float itself: whole numbers are never made floats here.
        near = [value for value in self.values if pa.types.is_floating(value) == pa.types.is_floating(found.value_type)]
        if not (same or near):
            raise UserError(f"column {self.name!r} is {found}", allowed=self.wanted())
        return tensor_type((same or near)[0], found.shape)


def _fits(shape: Sequence[int], wanted: tuple[Axis, ...]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


_ID = Known("id", (pa.string(),), required=True)
_ENDS = (Known("group", (pa.string(),), required=True), Known("split", (pa.string(),), required=True))
_LABEL = Known("label", (pa.int64(),))
_XYZ = "x, y, z of each {} in turn"
_REALS = (pa.float32(), pa.float64())

_KNOWN: Mapping[Kind, tuple[Known, ...]] = {
    "structures": (
        _ID,
        Known("numbers", (pa.uint8(),), "list", required=True, meaning="atomic number of each atom"),
        Known("positions", (pa.float64(),), "list", True, "angstrom", _XYZ.format("atom")),
        Known("energy", (pa.float64(),), unit="eV"),
        Known("forces", (pa.float64(),), "list", unit="eV/angstrom", meaning=_XYZ.format("atom")),
        Known("cell", (pa.float64(),), ((3, 3),), unit="angstrom", meaning="lattice vectors, one a row"),
        Known("pbc", (pa.uint8(),), ((3,),), meaning="1 where the structure repeats along a lattice vector"),
        Known("stress", (pa.float64(),), ((3, 3),), unit="eV/angstrom^3"),
        Known("charge", (pa.float64(),), unit="e"),
        Known("spin", (pa.int64(),), meaning="multiplicity, 2S + 1"),
        *_ENDS,
    ),
    "images": (
        _ID,
        Known(
            "pixels",
            (pa.float32(), pa.uint8()),
            ((None, None, None),),
            required=True,
            meaning="channels, rows, columns; uint8 means fractions of 255",
        ),
        _LABEL,
        *_ENDS,
    ),
    "signals": (
        _ID,
        Known(
            "values",
            _REALS,
            ((None, None), (None, None, None)),
            required=True,
            meaning="channels, samples; or channels, rows, columns",
        ),
        _LABEL,
        *_ENDS,
    ),
    "points": (
        _ID,
        Known("positions", (pa.float64(),), "list", required=True, meaning=_XYZ.format("point")),
        Known("features", (pa.float32(),), "list", meaning="features of each point in turn"),
        _LABEL,
        *_ENDS,
    ),
    "table": (_ID, *_ENDS),
}

# What a model of such data is trained on, where a dataset may be without.
LABELS: Mapping[Kind, tuple[str, ...]] = {"structures": ("energy", "forces"), "images": ("label",)}


def known_columns(kind: Kind) -> dict[str, Known]:
    """The columns that this kind gives a meaning, in their order. Others may stand beside them."""
    return {known.name: known for known in _KNOWN[kind]}


def required_columns(kind: Kind) -> tuple[str, ...]:
    """Names of the columns that make a dataset one of this kind."""
    return tuple(known.name for known in _KNOWN[kind] if known.required)


def schema_of(
    kind: Kind, optional: Sequence[str] = (), *, tensors: Mapping[str, pa.DataType] | None = None
) -> pa.Schema:
    """The schema of a kind with these optional columns.

    tensors: the types of the tensor columns whose shape the kind leaves open (pixels, values).
    """
    known = known_columns(kind)
    wanted = [name for name in known if name in optional or known[name].required]
    return pa.schema([known[name].field(_given(known[name], (tensors or {}).get(name))) for name in wanted])


def _given(known: Known, given: pa.DataType | None) -> pa.DataType:
    if given is not None or isinstance(known.form, str):
        return given or known.values[0]
    return tensor_type(known.values[0], [axis or 1 for axis in known.form[0]])


def images_schema(shape: tuple[int, int, int], value: pa.DataType | None = None) -> pa.Schema:
    """The schema of labelled images of shape (C, H, W), float32 unless told otherwise."""
    return schema_of("images", ("label",), tensors={"pixels": tensor_type(value or pa.float32(), shape)})


# Labelled structures without a lattice: what most of the program makes and trains on.
STRUCTURES = schema_of("structures", ("energy", "forces"))


def image_shape(schema: pa.Schema) -> tuple[int, int, int]:
    """(C, H, W) of a table of images. Raises `UserError` where its pixels are no tensors of that rank."""
    kind = schema.field("pixels").type
    if not is_tensor(kind) or len(kind.shape) != 3:
        raise UserError(f"the pixels of the images are {kind}", allowed="tensors of shape (channels, rows, columns)")
    channels, height, width = kind.shape
    return channels, height, width


def require_kind(manifest: "DatasetManifest", kind: str, columns: Sequence[str] | None = None) -> None:
    """Raise `UserError`, listing the columns that are missing, unless the dataset is of this kind and has the columns.

    columns: optional ones that the caller needs; by default the labels that models of this kind are trained on.
    """
    needed: tuple[str, ...] = ()
    if kind in KINDS:
        wanted = LABELS.get(kind, ()) if columns is None else columns
        needed = tuple(name for name in known_columns(kind) if name in (*required_columns(kind), *wanted))
        needed += tuple(name for name in wanted if name not in needed)
    there = {column.name for column in manifest.columns}
    lacking = [name for name in needed if name not in there]
    if manifest.kind == kind and not lacking:
        return
    missing = f"missing columns: {', '.join(lacking)}"
    raise UserError(
        f"dataset {manifest.ref} has no labels of this kind; {missing}"
        if manifest.kind == kind
        else f"dataset {manifest.ref} holds {manifest.kind}, not {kind}; {missing}",
        allowed=f"a dataset of {kind}" + (f" with {', '.join(needed)}" if lacking else ""),
        hint=f"its columns: {', '.join(column.name for column in manifest.columns)}",
    )
