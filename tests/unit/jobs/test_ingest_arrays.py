"""Pictures, signals and points: what comes out is what went in, byte for byte."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from cluster.dataset.tensors import tensor_numpy
from cluster.errors import UserError
from jobs.ingest import source as pieces_of
from jobs.ingest.source import Part, Source
from jobs.ingest.sources.digits import DIGITS
from jobs.ingest.sources.idx import IDX
from jobs.ingest.sources.image_folder import IMAGE_FOLDER
from jobs.ingest.sources.npz_images import NPZ_IMAGES
from jobs.ingest.sources.npz_points import NPZ_POINTS
from jobs.ingest.sources.npz_signals import NPZ_SIGNALS

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 4, 5), dtype=np.uint8)
LABELS = np.arange(7) % 3


def read(source: Source, below: Path, /, **params: Any) -> list[Part]:
    settings = source.settings(**params)
    return [source.read(settings, piece) for piece in source.plan(settings, below)]


def whole(parts: list[Part]) -> pa.Table:
    return pa.concat_tables([part.table for part in parts])


@pytest.fixture(params=[1, 3, 1000])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows a piece has at most."""
    monkeypatch.setattr(pieces_of, "ROWS_A_PIECE", request.param)
    return int(request.param)


# npz_images


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pictures_of_an_archive_stay_bytes(tmp_path: Path, pieces: int, save: Any) -> None:
    save(tmp_path / "a.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:2, ::-1], y_test=LABELS[:2])
    table = whole(read(NPZ_IMAGES, tmp_path, file="a.npz", test_images="x_test", test_labels="y_test"))
    pixels = tensor_numpy(table["pixels"])
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.concatenate([PIXELS, PIXELS[:2, ::-1]])[:, None])
    assert table["label"].to_pylist() == [*LABELS.tolist(), 0, 1]
    assert table["split"].to_pylist() == [""] * 7 + ["test"] * 2
    assert table["id"].to_pylist()[6:] == ["train-000006", "test-000000", "test-000001"]


def test_the_axes_of_pictures_are_told_by_their_shape_or_by_the_spec(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    for name, array in (("hwc", colour), ("chw", np.moveaxis(colour, -1, 1)), ("odd", colour[:, :3])):
        np.savez(tmp_path / f"{name}.npz", x=array)
    for name in ("hwc", "chw"):
        table = whole(read(NPZ_IMAGES, tmp_path, file=f"{name}.npz", images="x", labels=None))
        np.testing.assert_array_equal(tensor_numpy(table["pixels"]), np.moveaxis(colour, -1, 1))
        assert "label" not in table.column_names
    with pytest.raises(UserError, match="cannot be told which axis"):
        read(NPZ_IMAGES, tmp_path, file="odd.npz", images="x", labels=None)
    odd = whole(read(NPZ_IMAGES, tmp_path, file="odd.npz", images="x", labels=None, layout="HWC"))
    assert tensor_numpy(odd["pixels"]).shape == (2, 3, 3, 5)


def test_float_pictures_become_single_precision_and_other_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=PIXELS / 255.0, i=PIXELS.astype(np.int64), y=LABELS[:3], z=LABELS / 2)
    table = whole(read(NPZ_IMAGES, tmp_path, file="a.npz", images="x", labels=None))
    np.testing.assert_array_equal(tensor_numpy(table["pixels"])[:, 0], (PIXELS / 255.0).astype(np.float32))
    for wrong, message in (
        ({"images": "i", "labels": None}, "pixels of type int64"),
        ({"images": "x", "labels": "y"}, "has 7 rows"),
        ({"images": "x", "labels": "z"}, "of type float64"),
        ({"images": "x_train"}, "has no array x_train, y_train"),
    ):
        with pytest.raises(UserError, match=message):
            read(NPZ_IMAGES, tmp_path, file="a.npz", **wrong)


# IDX


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_is_read_plain_and_gzipped(tmp_path: Path, pieces: int, zipped: bool) -> None:
    write = gzip.compress if zipped else bytes
    (tmp_path / "x").write_bytes(write(idx(PIXELS)))
    (tmp_path / "y").write_bytes(write(idx(LABELS.astype(np.uint8))))
    table = whole(read(IDX, tmp_path, file="x", labels_file="y"))
    np.testing.assert_array_equal(tensor_numpy(table["pixels"])[:, 0], PIXELS)
    assert table["label"].to_pylist() == LABELS.tolist()


def test_idx_of_wide_numbers_is_read_in_their_order_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(idx((PIXELS / 255).astype(">f4"), 0x0D))
    table = whole(read(IDX, tmp_path, file="x"))
    np.testing.assert_array_equal(tensor_numpy(table["pixels"])[:, 0], (PIXELS / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PNG....", "not in the IDX format"),
        (idx(PIXELS)[:-1], "ends within its row 6 of 7"),
        (idx(PIXELS)[:6], "ends within its header"),
        (gzip.compress(idx(PIXELS))[:-9], "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read(IDX, tmp_path, file="x")


# Folders


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_a_class_is_a_sub_folder_and_pixels_are_those_of_the_files(tmp_path: Path, pieces: int) -> None:
    for number, label in enumerate([1, 0, 2, 1]):
        picture(tmp_path / "train" / f"class-{label}" / f"{number}.png", PIXELS[number])
    picture(tmp_path / "held" / "class-1" / "9.png", PIXELS[5])
    (tmp_path / "train" / "class-0" / "notes.txt").write_text("no picture")
    parts = read(IMAGE_FOLDER, tmp_path, folder="train", test_folder="held")
    rows = {row["id"]: row for row in whole(parts).to_pylist()}
    assert {name: row["label"] for name, row in rows.items()} == {
        "train/class-0/1.png": 0,
        "train/class-1/0.png": 1,
        "train/class-1/3.png": 1,
        "train/class-2/2.png": 2,
        "test/class-1/9.png": 1,
    }
    np.testing.assert_array_equal(np.reshape(rows["train/class-2/2.png"]["pixels"], (4, 5)), PIXELS[2])
    assert rows["test/class-1/9.png"]["split"] == "test"


def test_the_classes_are_in_the_provenance(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        picture(tmp_path / name / "1.png", PIXELS[0])
    settings = IMAGE_FOLDER.settings(folder=".")
    assert IMAGE_FOLDER.about(settings, IMAGE_FOLDER.plan(settings, tmp_path))["classes"] == ["cat", "dog"]


def test_pictures_without_sub_folders_have_no_label(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", PIXELS[0])
    assert "label" not in whole(read(IMAGE_FOLDER, tmp_path, folder=".")).column_names


def test_colour_pictures_are_channels_first_and_may_be_resized(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    picture(tmp_path / "a" / "1.png", colour)
    picture(tmp_path / "a" / "2.png", RNG.integers(0, 256, (8, 12), dtype=np.uint8))
    pixels = tensor_numpy(whole(read(IMAGE_FOLDER, tmp_path, folder=".", resize=(4, 6)))["pixels"])
    assert pixels.shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(pixels[0], np.moveaxis(colour, -1, 0))
    grey = tensor_numpy(whole(read(IMAGE_FOLDER, tmp_path, folder=".", resize=(2, 3), channels=1))["pixels"])
    assert grey.shape == (2, 1, 2, 3)


def test_a_picture_unlike_the_others_is_told_by_its_file(tmp_path: Path) -> None:
    picture(tmp_path / "c" / "1.png", PIXELS[0])
    picture(tmp_path / "c" / "2.png", PIXELS[0][:3])
    picture(tmp_path / "c" / "3.png", np.zeros((4, 5, 4), dtype=np.uint8))
    picture(tmp_path / "c" / "4.png", np.zeros((4, 5), dtype=np.uint16))
    (tmp_path / "c" / "5.png").write_bytes((tmp_path / "c" / "1.png").read_bytes()[:40])
    (tmp_path / "c" / "6.png").write_text("no picture")
    (part,) = read(IMAGE_FOLDER, tmp_path, folder=".")
    reasons = {each.where.rsplit("/")[-1]: each.reason for each in part.unread}
    assert part.table["id"].to_pylist() == ["train/c/1.png"]
    assert set(reasons) == {"2.png", "3.png", "4.png", "5.png", "6.png"}
    assert reasons["2.png"] == "3 x 5 pixels, not 4 x 5; say resize to allow it"
    assert "RGBA would lose something as L" in reasons["3.png"]
    assert "more than 8 bits" in reasons["4.png"]
    assert str(tmp_path) not in reasons["6.png"]


def test_folders_whose_classes_do_not_fit_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png", PIXELS[0])
    picture(tmp_path / "test" / "dog" / "1.png", PIXELS[0])
    with pytest.raises(UserError, match=r"classes beside those of .*: dog"):
        read(IMAGE_FOLDER, tmp_path, folder="train", test_folder="test")
    picture(tmp_path / "train" / "2.png", PIXELS[0])
    with pytest.raises(UserError, match="outside the sub-folders"):
        read(IMAGE_FOLDER, tmp_path, folder="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no picture"):
        read(IMAGE_FOLDER, tmp_path, folder="empty")
    with pytest.raises(ValidationError, match="at least 1"):
        IMAGE_FOLDER.settings(folder=".", resize=(0, 3))


# Signals


def test_signals_of_one_and_two_dimensions_get_their_channels(tmp_path: Path, pieces: int) -> None:
    waves = RNG.normal(size=(5, 8)).astype(np.float32)
    fields = RNG.normal(size=(5, 2, 3, 4))
    np.savez(tmp_path / "a.npz", values=waves, fields=fields, planes=fields[:, 0], y=LABELS[:5])
    table = whole(read(NPZ_SIGNALS, tmp_path, file="a.npz", labels="y"))
    assert tensor_numpy(table["values"]).dtype == np.float32
    np.testing.assert_array_equal(tensor_numpy(table["values"]), waves[:, None])
    assert table["label"].to_pylist() == LABELS[:5].tolist()
    for values, dimensions, shape in (
        ("fields", None, (5, 2, 3, 4)),
        ("planes", None, (5, 3, 4)),
        ("planes", 2, (5, 1, 3, 4)),
    ):
        got = tensor_numpy(
            whole(read(NPZ_SIGNALS, tmp_path, file="a.npz", values=values, dimensions=dimensions))["values"]
        )
        np.testing.assert_array_equal(got, (fields if values == "fields" else fields[:, 0]).reshape(shape))
        assert got.dtype == np.float64


@pytest.mark.parametrize(
    ("array", "message"), [(np.zeros(3), "no array of signals"), (np.array(["a"] * 3), "values of type <U1")]
)
def test_what_is_no_signal_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", values=array)
    with pytest.raises(UserError, match=message):
        read(NPZ_SIGNALS, tmp_path, file="a.npz")


def test_signals_of_several_shapes_are_refused(tmp_path: Path) -> None:
    for length in (3, 4):
        np.savez(tmp_path / f"{length}.npz", values=np.zeros((2, length)))
    with pytest.raises(UserError, match="several shapes"):
        read(NPZ_SIGNALS, tmp_path, file="*.npz")


# Points


def test_clouds_of_one_size_and_of_many_are_read(tmp_path: Path, pieces: int) -> None:
    clouds, features = RNG.normal(size=(4, 3, 3)), RNG.normal(size=(4, 3, 2)).astype(np.float32)
    sizes = np.array([2, 5, 1, 4])
    np.savez(
        tmp_path / "a.npz",
        positions=clouds,
        f=features,
        flat=clouds.reshape(12, 3),
        ff=features.reshape(12, 2),
        n=sizes,
    )
    table = whole(read(NPZ_POINTS, tmp_path, file="a.npz", features="f"))
    np.testing.assert_array_equal(table["positions"].to_pylist(), clouds.reshape(4, 9))
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), np.float32), features.reshape(4, 6))
    table = whole(read(NPZ_POINTS, tmp_path, file="a.npz", positions="flat", features="ff", sizes="n"))
    ends = np.cumsum(sizes)
    for row, end, size in zip(table.to_pylist(), ends, sizes, strict=True):
        assert row["positions"] == clouds.reshape(12, 3)[end - size : end].ravel().tolist()
        assert row["features"] == features.reshape(12, 2)[end - size : end].ravel().tolist()


def test_points_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", positions=np.zeros((4, 3)), n=np.array([2, 1]), planes=np.zeros((4, 3, 2)))
    for params in ({"sizes": "n"}, {"positions": "planes"}, {}):
        with pytest.raises(UserError, match="do not fit each other"):
            read(NPZ_POINTS, tmp_path, file="a.npz", **params)


# Digits


def test_the_digits_are_those_of_the_library() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    table = whole(read(DIGITS, Path()))
    np.testing.assert_array_equal(tensor_numpy(table["pixels"])[:, 0], bunch.images / 16)
    assert table["label"].to_pylist() == bunch.target.tolist()
    assert table["id"].to_pylist()[-1] == "digit-1796"
