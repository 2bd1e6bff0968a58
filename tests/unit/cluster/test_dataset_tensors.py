"""Columns of tensors: what programs see and what Parquet holds are the same bytes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cluster.dataset.tensors import is_tensor, tensor_array, tensor_numpy, tensor_type, to_logical, to_physical
from cluster.errors import StoreError, UserError

DTYPES = ["uint8", "int16", "int64", "float32", "float64"]


def values(rows: int = 7, dtype: str = "float32") -> NDArray[np.generic]:
    return np.arange(rows * 12).reshape(rows, 2, 3, 2).astype(dtype)


def address(array: NDArray[np.generic]) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_becomes_a_column_and_the_same_array_again(dtype: str) -> None:
    column = tensor_array(values(dtype=dtype))
    assert column.type == tensor_type(pa.from_numpy_dtype(dtype), (2, 3, 2))
    np.testing.assert_array_equal(tensor_numpy(column), values(dtype=dtype))
    assert tensor_numpy(column).dtype == dtype


def test_a_column_and_an_array_share_memory() -> None:
    array = values()
    column = tensor_array(array)
    assert address(tensor_numpy(column)) == address(array)
    assert address(tensor_numpy(column.slice(2))) == address(array[2:])


def test_an_array_of_another_order_means_the_same() -> None:
    array = values().transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(tensor_numpy(tensor_array(array)), array)


@pytest.mark.parametrize("shape", [(3,), (2, 0), (0, 3, 0)])
def test_what_has_no_shape_is_no_tensor(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="is no column of tensors"):
        tensor_array(np.zeros(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cut", [(0, 7), (2, 3), (3, 0)])
def test_parquet_gives_back_what_it_was_given(dtype: str, cut: tuple[int, int]) -> None:
    table = pa.table({"x": tensor_array(values(dtype=dtype)), "n": range(7)}).slice(*cut)
    sink = pa.BufferOutputStream()
    pq.write_table(to_physical(table), sink)
    stored = pq.read_table(pa.BufferReader(sink.getvalue()))
    assert pa.types.is_fixed_size_binary(stored["x"].type)
    found = to_logical(stored)
    assert found.schema == table.schema
    np.testing.assert_array_equal(tensor_numpy(found["x"]), values(dtype=dtype)[cut[0] : cut[0] + cut[1]])


def test_the_field_in_parquet_says_what_its_bytes_are() -> None:
    field = pa.field("x", tensor_type(pa.uint8(), (1, 28, 28)), nullable=False, metadata={"unit": "none"})
    table = pa.table([tensor_array(np.zeros((2, 1, 28, 28), np.uint8))], schema=pa.schema([field]))
    stored = to_physical(table).schema.field("x")
    assert stored.type == pa.binary(784)
    assert not stored.nullable
    assert {key.decode(): value.decode() for key, value in stored.metadata.items()} == {
        "tensor": "uint8",
        "shape": json.dumps([1, 28, 28]),
        "unit": "none",
    }
    assert to_logical(to_physical(table)).schema.equals(table.schema, check_metadata=True)


def test_conversions_copy_nothing() -> None:
    array = values(rows=1000)
    table = pa.table({"x": tensor_array(array)})
    before = pa.total_allocated_bytes()
    physical = to_physical(table.slice(1))
    again = to_logical(physical)
    assert pa.total_allocated_bytes() - before < array.nbytes / 10
    assert physical["x"].chunk(0).buffers()[1].address == address(array[1:])
    assert address(tensor_numpy(again["x"])) == address(array[1:])


def test_chunks_become_one_array() -> None:
    table = pa.concat_tables([pa.table({"x": tensor_array(values()[:3])}), pa.table({"x": tensor_array(values()[3:])})])
    np.testing.assert_array_equal(tensor_numpy(to_logical(to_physical(table))["x"]), values())
    assert tensor_numpy(table.schema.empty_table()["x"]).shape == (0, 2, 3, 2)


def test_other_bytes_are_left_alone() -> None:
    table = pa.table({"x": pa.array([b"ab", b"cd"], pa.binary(2))})
    assert to_logical(table) is table
    assert not is_tensor(table.schema.field("x").type)


def test_a_field_that_contradicts_itself_is_refused() -> None:
    field = pa.field("x", pa.binary(3), metadata={"tensor": "float", "shape": "[2]"})
    with pytest.raises(StoreError, match=r"cannot hold float of shape \[2\]"):
        to_logical(pa.table([pa.array([b"abc"], pa.binary(3))], schema=pa.schema([field])))
