"""Kinds of datasets and their columns, and the rule by which the format may change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.dataset.columns import field_of, parse_type, type_name
from cluster.dataset.commit import columns_of
from cluster.dataset.conform import conform, conform_piece
from cluster.dataset.publish import publish_dataset
from cluster.dataset.read import load_manifest, read_table
from cluster.dataset.schema import (
    KINDS,
    SCHEMA_VERSION,
    STRUCTURES,
    Kind,
    images_schema,
    known_columns,
    require_kind,
    required_columns,
    schema_of,
)
from cluster.dataset.tensors import tensor_array, tensor_numpy, tensor_type
from cluster.dataset.verify import verify_dataset
from cluster.errors import StoreError, UserError
from cluster.store import Store, decode_json, encode_json

Molecules = Callable[..., pa.Table]


def named(rows: int, **columns: Any) -> pa.Table:
    """A table of these columns with an id, a group and a split for each row."""
    names = [f"r{row}" for row in range(rows)]
    return pa.table({"id": names, **columns, "group": names, "split": ["train"] * rows})


def examples() -> dict[Kind, pa.Table]:
    """A table of each kind with every column that the kind knows."""
    random = np.random.default_rng(0)
    return {
        "structures": named(
            3,
            numbers=[[1], [8, 1], [6, 6, 6]],
            positions=[[0.0] * 3, [0.5] * 6, [0.25] * 9],
            energy=[-1.0, -2.0, -3.0],
            forces=[[1.0] * 3, [0.0] * 6, [-1.0] * 9],
            cell=tensor_array(random.normal(size=(3, 3, 3))),
            pbc=tensor_array(np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0]], np.uint8)),
            stress=tensor_array(random.normal(size=(3, 3, 3))),
            charge=[0.0, 1.0, -1.0],
            spin=[1, 2, 1],
        ),
        "images": named(2, pixels=tensor_array(random.integers(0, 256, (2, 3, 4, 5), np.uint8)), label=[0, 1]),
        "signals": named(2, values=tensor_array(random.normal(size=(2, 1, 7))), label=[0, 1]),
        "points": named(2, positions=[[0.0] * 6, [1.0] * 3], features=[[1.0] * 4, [2.0] * 2], label=[3, 4]),
        "table": named(2, x=[1.0, 2.0], name=["a", "b"], field=tensor_array(np.zeros((2, 2), np.float32))),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_published_read_and_verified(store: Store, kind: Kind) -> None:
    table = examples()[kind]
    manifest = publish_dataset(store, "sample", table, kind=kind, provenance={})
    found = read_table(store, "sample")
    assert found.select(table.column_names).to_pylist() == table.to_pylist()
    assert {column.name for column in manifest.columns} >= set(known_columns(kind))
    assert verify_dataset(store, "sample") == []
    assert publish_dataset(store, "sample", found, kind=kind, provenance={}).version == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_optional_column_may_be_absent_and_no_other(kind: Kind) -> None:
    table = examples()[kind]
    for name in known_columns(kind):
        less = table.drop_columns([name])
        if name in required_columns(kind):
            with pytest.raises(UserError, match=f"no dataset of {kind}; missing columns: {name}"):
                conform(less, kind)
        elif name == "cell":
            with pytest.raises(UserError, match="repeat"):
                conform(less, kind)
        else:
            assert set(conform(less, kind).column_names) == set(less.column_names)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_that_a_manifest_describes_are_those_of_the_rows(kind: Kind) -> None:
    schema = conform(examples()[kind], kind).schema
    assert pa.schema([field_of(column) for column in columns_of(schema)]).equals(schema, check_metadata=True)
    for field in schema:
        assert not field.nullable
        assert parse_type(type_name(field.type)) == field.type


def test_types_are_in_words() -> None:
    words = {
        "tensor<uint8, [1, 28, 28]>": tensor_type(pa.uint8(), (1, 28, 28)),
        "list<list<double>>": pa.list_(pa.list_(pa.float64())),
        "list<float, 6>": pa.list_(pa.float32(), 6),
        "bool": pa.bool_(),
    }
    assert {type_name(kind): kind for kind in words.values()} == words
    with pytest.raises(StoreError, match="unknown type 'quaternion'"):
        parse_type("quaternion")


def test_units_are_in_the_fields() -> None:
    schema = conform(examples()["structures"], "structures").schema
    units = {field.name: field.metadata[b"unit"].decode() for field in schema if b"unit" in (field.metadata or {})}
    assert units == {
        "positions": "angstrom",
        "energy": "eV",
        "forces": "eV/angstrom",
        "cell": "angstrom",
        "stress": "eV/angstrom^3",
        "charge": "e",
    }


def changed(kind: Kind, **columns: Any) -> pa.Table:
    table = examples()[kind]
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


EYE = np.eye(3)
FLAT = np.diag([1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("structures", {"numbers": pa.array([[0], [8, 1], [6, 6, 6]])}, r"atoms of no element: \[0\]"),
        ("structures", {"numbers": pa.array([[119], [8, 1], [6, 6, 6]])}, r"atoms of no element: \[119\]"),
        ("structures", {"numbers": pa.array([[300], [8, 1], [6, 6, 6]])}, "'numbers' of the structures"),
        ("structures", {"pbc": tensor_array(np.full((3, 3), 2, np.uint8))}, "3 structures have pbc"),
        ("structures", {"cell": tensor_array(np.array([FLAT, EYE, EYE]))}, "1 structures repeat .* missing: r0"),
        ("structures", {"cell": tensor_array(np.array([EYE, EYE, EYE - np.diag([1, 0, 0])]))}, "1 .* missing: r2"),
        ("structures", {"cell": tensor_array(np.ones((3, 9)))}, r"'cell'(.|\n)*shape \(3, 3\)"),
        ("images", {"pixels": tensor_array(np.ones((2, 4, 5)))}, r"'pixels'(.|\n)*shape \(any, any, any\)"),
        ("images", {"pixels": tensor_array(np.full((2, 1, 4, 5), 256))}, "'pixels'(.|\n)*float or uint8"),
        ("signals", {"values": tensor_array(np.ones((2, 1, 7), np.int64))}, "'values'(.|\n)*float or double"),
        ("images", {"pixels": pa.array([[1.0] * 20] * 2)}, "'pixels'(.|\n)*tensor of float"),
        ("images", {"label": pa.array([0, None])}, "'label' has 1 missing"),
        ("signals", {"values": tensor_array(np.array([[[np.nan]], [[1.0]]]))}, "'values' has 1 missing, NaN"),
        ("points", {"positions": pa.array([[0.0] * 5, [1.0] * 3])}, "1 clouds have positions that do not fit: r0"),
        ("points", {"positions": pa.array([[0.0] * 6, []])}, "1 clouds have positions that do not fit: r1"),
        ("points", {"features": pa.array([[1.0] * 4, [2.0] * 3])}, "1 clouds have features that do not fit: r1"),
    ],
)
def test_what_does_not_fit_is_named(kind: Kind, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        conform(changed(kind, **columns), kind)


def test_numbers_of_other_widths_become_those_of_the_kind() -> None:
    table = changed(
        "structures",
        energy=pa.array([-1, -2, -3], pa.int32()),
        positions=pa.array([[0.0] * 3, [0.5] * 6, [0.25] * 9], pa.list_(pa.float32())),
        cell=tensor_array(np.ones((3, 3, 3), np.float32) + np.eye(3, dtype=np.float32)),
    )
    wanted = conform(examples()["structures"], "structures").schema
    assert conform(table, "structures").schema.equals(wanted, check_metadata=True)
    wide = changed("images", pixels=tensor_array(np.ones((2, 3, 4, 5))))
    assert conform(wide, "images").schema.field("pixels").type == tensor_type(pa.float32(), (3, 4, 5))
    assert conform(examples()["images"], "images").schema.field("pixels").type.value_type == pa.uint8()


def test_tensors_of_permuted_axes_are_refused() -> None:
    turned = pa.fixed_shape_tensor(pa.float64(), [3, 3], permutation=[1, 0])
    cell = pa.ExtensionArray.from_storage(turned, tensor_array(np.random.rand(3, 3, 3)).storage)
    with pytest.raises(UserError, match="axes are permuted"):
        conform(changed("structures", cell=cell), "structures")


def test_a_piece_may_be_empty_and_may_hold_a_share_of_a_group() -> None:
    table = examples()["structures"]
    assert conform_piece(table.slice(0, 0), "structures").num_rows == 0
    for kind in KINDS:
        assert conform_piece(examples()[kind].slice(0, 0), kind).schema == conform(examples()[kind], kind).schema
    twice = pa.concat_tables([table, table])
    assert conform_piece(twice, "structures").num_rows == 6
    with pytest.raises(UserError, match="3 ids occur more than once"):
        conform(twice, "structures")


def test_schemas_are_those_of_conformed_tables() -> None:
    every = schema_of("structures", tuple(known_columns("structures")))
    assert conform(examples()["structures"], "structures").schema.equals(every, check_metadata=True)
    shape = {"values": tensor_type(pa.float64(), (1, 7))}
    signals = schema_of("signals", ("label",), tensors=shape)
    assert conform(examples()["signals"], "signals").schema.equals(signals, check_metadata=True)
    assert images_schema((3, 4, 5), pa.uint8()).equals(conform(examples()["images"], "images").schema)
    assert STRUCTURES.names == ["id", "numbers", "positions", "energy", "forces", "group", "split"]


def test_labels_that_are_missing_are_named(store: Store) -> None:
    table = examples()["structures"].drop_columns(["forces", "energy"])
    manifest = publish_dataset(store, "bare", table, kind="structures", provenance={})
    require_kind(manifest, "structures", columns=())
    require_kind(manifest, "structures", columns=("charge",))
    with pytest.raises(UserError, match="bare@1 has no labels of this kind; missing columns: energy, forces"):
        require_kind(manifest, "structures")
    with pytest.raises(UserError, match="bare@1 holds structures, not images; missing columns: pixels, label"):
        require_kind(manifest, "images")
    with pytest.raises(UserError, match="bare@1 holds structures, not tensors"):
        require_kind(manifest, "tensors")


# The rule of evolution


def test_columns_that_this_release_does_not_know_are_carried(store: Store, molecules: Molecules) -> None:
    table = molecules()
    table = table.append_column(
        pa.field("dipole", pa.list_(pa.float64()), metadata={"unit": "D"}), [[[1.0, 0, 0]] * 12]
    )
    table = table.append_column("born", tensor_array(np.arange(12 * 9.0).reshape(12, 3, 3)))
    table = table.append_column("valid", pa.array([True, False] * 6))
    manifest = publish_dataset(store, "water", table, kind="structures", provenance={})
    assert manifest.schema_version == SCHEMA_VERSION
    found = read_table(store, "water")
    assert found.column_names == [*STRUCTURES.names, "born", "dipole", "valid"]
    assert found.schema.field("dipole").metadata == {b"unit": b"D"}
    assert found.select(table.column_names).to_pylist() == table.to_pylist()
    np.testing.assert_array_equal(tensor_numpy(found["born"]), np.arange(12 * 9.0).reshape(12, 3, 3))
    assert verify_dataset(store, "water") == []
    assert publish_dataset(store, "water", found, kind="structures", provenance={}).version == 1


def test_what_a_later_release_adds_to_a_manifest_is_overlooked(store: Store, molecules: Molecules) -> None:
    publish_dataset(store, "water", molecules(), kind="structures", provenance={})
    key = "datasets/water/1/manifest.json"
    document = decode_json(store.read(key), key)
    document["licence"] = "CC0"
    document["shards"][0]["bloom"] = "AAAA"
    store.write(key, encode_json(document))
    assert read_table(store, "water").num_rows == 12
    assert verify_dataset(store, "water") == []


def test_a_newer_version_is_refused_and_says_what_to_do(store: Store, molecules: Molecules) -> None:
    publish_dataset(store, "water", molecules(), kind="structures", provenance={})
    key = "datasets/water/1/manifest.json"
    document = decode_json(store.read(key), key)
    # A newer manifest need not look like ours: its version is read before anything else.
    store.write(key, encode_json({"schema_version": SCHEMA_VERSION + 1, "name": document["name"]}))
    for read in (lambda: load_manifest(store, "water"), lambda: read_table(store, "water@1")):
        with pytest.raises(StoreError, match=r"newer release \(version 3 of the format\)(.|\n)*upgrade equimodels"):
            read()


def test_known_columns_keep_their_types_and_units() -> None:
    """A change of any of these is a new version of the format, not an edit of this table."""
    facts = {
        kind: {
            name: (column.form, [str(value) for value in column.values], column.unit, column.required)
            for name, column in known_columns(kind).items()
            if name not in ("id", "group", "split", "label")
        }
        for kind in KINDS
    }
    assert facts == {
        "structures": {
            "numbers": ("list", ["uint8"], None, True),
            "positions": ("list", ["double"], "angstrom", True),
            "energy": ("one", ["double"], "eV", False),
            "forces": ("list", ["double"], "eV/angstrom", False),
            "cell": (((3, 3),), ["double"], "angstrom", False),
            "pbc": (((3,),), ["uint8"], None, False),
            "stress": (((3, 3),), ["double"], "eV/angstrom^3", False),
            "charge": ("one", ["double"], "e", False),
            "spin": ("one", ["int64"], None, False),
        },
        "images": {"pixels": (((None, None, None),), ["float", "uint8"], None, True)},
        "signals": {"values": (((None, None), (None, None, None)), ["float", "double"], None, True)},
        "points": {"positions": ("list", ["double"], None, True), "features": ("list", ["float"], None, False)},
        "table": {},
    }
