"""A whole ingest, its tasks one after the other in this process: what is published, what is redone, what is told."""

from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.catalog import load_manifest
from cluster.dataset.dataset import open_dataset
from cluster.dataset.publish import publish_dataset
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.session import Session
from cluster.stopping import Stop
from cluster.store import Store, open_store
from jobs.ingest import source as pieces_of
from jobs.ingest import stretches
from jobs.ingest.run import run
from jobs.ingest.schedule import in_turn
from jobs.spec.dataset import DatasetSpec

CELL = 'Lattice="4 0 0 0 4 0 0 0 4" '
NAMES = ("H2O", "CH4", "NH3", "CH3OH", "CH3CH2OH", "C6H6")


def frame(number: int, rng: np.random.Generator, cell: str = "") -> str:
    atoms = molecule(NAMES[number % len(NAMES)])
    atoms.rattle(0.05, rng=rng)
    lines = [str(len(atoms)), f"{cell}Properties=species:S:1:pos:R:3:forces:R:3 energy={-number} run=r{number // 4}"]
    for symbol, place in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
        lines.append(" ".join([symbol, *(f"{x:.10f}" for x in (*place, *rng.normal(size=3)))]))
    return "\n".join([*lines, ""])


def write(folder: Path, name: str = "a.xyz", frames: int = 24, seed: int = 0, cells: Sequence[int] = ()) -> None:
    rng = np.random.default_rng(seed)
    (folder / name).write_text("".join(frame(i, rng, CELL if i in cells else "") for i in range(frames)))


def spec(folder: Path, name: str = "some", source: str = "extxyz", params: Any = None, **more: Any) -> DatasetSpec:
    data = {"kind": "dataset", "name": name, "source": {"name": source, "params": params or {"file": "a.xyz"}}, **more}
    return DatasetSpec.model_validate(data, context={"folder": folder})


class Told:
    """A context whose words are kept."""

    def __init__(self, store: Store, run_id: str, stop: Callable[[], bool] = lambda: False) -> None:
        self.text = StringIO()
        progress = Progress(console=Console(file=self.text, width=200), store=store, run_id=run_id)
        nowhere = Path(store.uri.removeprefix("file://"))
        self.context = RunContext(run_id, store, progress, nowhere, False, stop, cast(Session, None))


def ingest(store: Store, which: DatasetSpec, run_id: str = "r1", execute: Any = in_turn) -> dict[str, Any]:
    return run(which, Told(store, run_id).context, execute)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def rows_of_file(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def rows_of(store: Store, reference: str) -> list[dict[str, Any]]:
    return list(open_dataset(reference, store=store).table().to_pylist())


def test_what_is_published_is_what_the_files_hold(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    outputs = ingest(store, spec(tmp_path, split={"valid": 4, "test": 2}))
    assert outputs["dataset"] == "some@1"
    assert (outputs["rows"], outputs["skipped"]) == (24, 0)
    assert outputs["splits"] == {"train": 18, "valid": 4, "test": 2}
    assert verify_dataset(store, "some@1") == []
    rows = rows_of(store, "some@1")
    assert sorted(row["id"] for row in rows) == [f"a-{i:06d}" for i in range(24)]
    assert [row["split"] for row in rows] == ["train"] * 18 + ["valid"] * 4 + ["test"] * 2
    for split in ("train", "valid", "test"):
        there = [row["id"] for row in rows if row["split"] == split]
        assert there == sorted(there)
    lines = (tmp_path / "a.xyz").read_text().split("\n")
    row = next(row for row in rows if row["id"] == "a-000000")
    np.testing.assert_array_equal(row["positions"], [float(x) for line in lines[2:5] for x in line.split()[1:4]])
    provenance = load_manifest(store, "some@1").provenance
    assert provenance["origin"] == ["a.xyz"]
    assert provenance["units"]["held"]["forces"] == "eV/angstrom"
    assert provenance["split"]["by"] == "random"


def test_nothing_that_was_staged_is_left(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    ingest(store, spec(tmp_path))
    assert store.list("runs/r1/parts") == []


@settings(max_examples=12, deadline=None)
@given(size=st.integers(1, 9000), by=st.sampled_from(["random", "group", "composition"]), periodic=st.booleans())
def test_however_files_are_cut_the_dataset_is_the_same_as_of_one_table(
    tmp_path_factory: pytest.TempPathFactory, size: int, by: str, periodic: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    write(folder, cells=range(5, 9) if periodic else ())
    store = open_store(str(folder / "store"))
    params = {"file": "a.xyz", **({"group_key": "run"} if by == "group" else {})}
    which = spec(folder, params=params, seed=3, split={"by": by, "valid": 1, "test": 1})
    ingest(store, which, "whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stretches, "BYTES_A_PIECE", size)
        outputs = ingest(store, which, "cut")
    assert outputs["dataset"] == "some@1", "other pieces gave another dataset"
    table = open_dataset("some@1", store=store).table()
    assert ("cell" in table.column_names) == periodic
    assert publish_dataset(store, "some", table, kind="structures", provenance={}).digest == outputs["digest"]


def test_units_and_reference_energies_are_applied_and_recorded(tmp_path: Path, store: Store) -> None:
    write(tmp_path, frames=6)
    isolated = [f"1\nProperties=species:S:1:pos:R:3 energy={z}\n{s} 0 0 0\n" for s, z in (("H", -1), ("C", -38))]
    (tmp_path / "atoms.xyz").write_text("".join(isolated))
    more = {"split": {"valid": 1, "test": 1}, "units": {"energy": "hartree", "length": "nm"}}
    with pytest.raises(UserError, match="no reference energy of N, O"):
        ingest(store, spec(tmp_path, reference_energies={"file": "atoms.xyz"}, **more))
    with (tmp_path / "atoms.xyz").open("a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3 energy=-75\nO 0 0 0\n1\nenergy=-54\nN 0 0 0\n")
    ingest(store, spec(tmp_path, reference_energies={"file": "atoms.xyz"}, **more))
    hartree = 27.211386024367243
    row = next(row for row in rows_of(store, "some@1") if row["id"] == "a-000000")
    assert row["energy"] == pytest.approx((0 - (-75 - 2)) * hartree, abs=1e-9)
    first = (tmp_path / "a.xyz").read_text().split("\n")[2].split()
    np.testing.assert_allclose(row["positions"][:3], 10 * np.array(first[1:4], float))
    np.testing.assert_allclose(row["forces"][:3], hartree / 10 * np.array(first[4:], float))
    provenance = load_manifest(store, "some@1").provenance
    assert provenance["reference_energies_eV"]["C"] == -38 * hartree
    assert provenance["units"]["multiplied_by"]["length"] == 10
    assert provenance["units"]["held"]["forces"] == "hartree/nm"


# Rows that cannot be read


def spoil(folder: Path, *numbers: int) -> None:
    """Frames whose forces are no numbers."""
    frames = (folder / "a.xyz").read_text().split("run=")
    for number in numbers:
        head, line, rest = frames[number + 1].split("\n", 2)
        frames[number + 1] = "\n".join([head, line.rsplit(" ", 1)[0] + " nan", rest])
    (folder / "a.xyz").write_text("run=".join(frames))


def test_rows_that_cannot_be_read_end_the_run_with_their_lines_and_nothing_is_published(
    tmp_path: Path, store: Store
) -> None:
    write(tmp_path, frames=60)
    spoil(tmp_path, 0, *range(20, 50))
    with pytest.raises(UserError) as caught:
        ingest(store, spec(tmp_path))
    told = caught.value.message.split("\n")
    assert told[0] == f"31 rows of {tmp_path}/a.xyz cannot be read; nothing was published:"
    assert told[1] == "  a.xyz:1: forces has a value that is not a number, or infinite"
    assert (len(told), told[-1]) == (22, "  and 11 more")
    assert "on_error: skip" in str(caught.value.hint)
    assert store.list("datasets") == []


def test_rows_that_are_skipped_are_counted_and_listed(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    spoil(tmp_path, 2, 9)
    with (tmp_path / "a.xyz").open("a") as file:
        file.write("7\nis cut off")
    outputs = ingest(store, spec(tmp_path, on_error="skip"))
    assert (outputs["rows"], outputs["skipped"]) == (22, 3)
    skipped = load_manifest(store, "some@1").skipped
    assert skipped.count == 3
    lines = (tmp_path / "a.xyz").read_text().split("\n")
    begins = [number for number, line in enumerate(lines, 1) if line.isdigit()]
    assert [each["where"] for each in skipped.listed] == [f"a.xyz:{begins[frame]}" for frame in (2, 9, 24)]
    assert skipped.listed[2]["reason"] == "says 7 atoms, but 0 follow"


def test_a_source_without_a_single_row_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.xyz").write_text("1\nenergy=1\nH 0 0 0\n")
    with pytest.raises(UserError, match="gave no rows"):
        ingest(store, spec(tmp_path))
    (tmp_path / "a.xyz").write_text("nothing")
    with pytest.raises(UserError, match="gave no rows"):
        ingest(store, spec(tmp_path, on_error="skip"))


# Copies


def test_copies_in_two_splits_are_refused_dropped_or_allowed(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    frames = (tmp_path / "a.xyz").read_text().split("3\nProp")
    (tmp_path / "b.xyz").write_text("3\nProp" + "3\nProp".join(frames[1:3]))
    files = {"file": "a.xyz", "test_file": "b.xyz"}
    with pytest.raises(UserError, match=r"12 contents are in more than one split: a-000000 = b-000000, ") as caught:
        ingest(store, spec(tmp_path, params=files, split={"valid": 0}))
    assert "duplicates: drop" in str(caught.value.hint)
    assert store.list("datasets") == []
    dropped = ingest(store, spec(tmp_path, params=files, split={"valid": 0, "duplicates": "drop"}))
    assert dropped["splits"] == {"train": 12, "test": 12}
    assert load_manifest(store, dropped["dataset"]).provenance["split"]["copies_dropped"] == 12
    assert verify_dataset(store, dropped["dataset"]) == []
    allowed = ingest(store, spec(tmp_path, params=files, split={"valid": 0, "duplicates": "allow"}))
    assert allowed["splits"] == {"train": 24, "test": 12}


# Starting again


class Counted:
    """Runs tasks in turn; stops after `most` of them, and counts what each did."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most, self.calls = most, dict[str, int]()

    def __call__(self, function: Any, arguments: Any, stop: Any) -> Iterator[tuple[int, Any]]:
        for number, each in enumerate(arguments):
            if sum(self.calls.values()) >= self.most:
                raise KeyboardInterrupt
            self.calls[function.__name__] = self.calls.get(function.__name__, 0) + 1
            yield number, function(*each)


@pytest.mark.parametrize("most", [0, 1, 5, 7, 8, 10])
def test_pieces_that_are_finished_are_not_read_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    write(tmp_path)
    monkeypatch.setattr(stretches, "BYTES_A_PIECE", 2000)
    which = spec(tmp_path, split={"valid": 2, "test": 2})
    whole = Counted()
    expected = ingest(open_store(str(tmp_path / "other")), which, "r1", whole)
    pieces = whole.calls["read_piece"]
    assert pieces == 8
    with pytest.raises(KeyboardInterrupt):
        ingest(store, which, "r1", Counted(most))
    again = Counted()
    told = Told(store, "r1")
    assert run(which, told.context, again)["digest"] == expected["digest"]
    assert again.calls.get("read_piece", 0) == pieces - min(most, pieces)
    assert ("pieces were read before" in told.text.getvalue()) == (most > 0)


def test_a_file_that_was_changed_meanwhile_is_read_again(tmp_path: Path, store: Store) -> None:
    write(tmp_path, "a.xyz")
    write(tmp_path, "b.xyz", seed=1)
    which = spec(tmp_path, params={"file": ["a.xyz", "b.xyz"]}, split={"valid": 2, "test": 2})
    with pytest.raises(KeyboardInterrupt):
        ingest(store, which, "r1", Counted(2))
    write(tmp_path, "b.xyz", seed=2)
    again = Counted()
    outputs = ingest(store, which, "r1", again)
    assert again.calls["read_piece"] == 1
    assert outputs["digest"] == ingest(open_store(str(tmp_path / "other")), which)["digest"]


def test_a_damaged_piece_is_read_again(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest(store, spec(tmp_path), "r1", Counted(1))
    store.write("runs/r1/parts/p00000.index.arrow", b"half of it")
    again = Counted()
    ingest(store, spec(tmp_path), "r1", again)
    assert again.calls["read_piece"] == 1


@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_stop_leaves_what_was_read_and_nothing_that_is_visible(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    write(tmp_path)
    monkeypatch.setattr(stretches, "BYTES_A_PIECE", 2000)
    parts = "runs/r1/parts"
    told = Told(store, "r1", lambda: sum("index" in key for key in store.list(parts)) >= after)
    with pytest.raises(Stop):
        run(spec(tmp_path), told.context, in_turn)
    assert "`equi resume` goes on after it" in told.text.getvalue()
    assert sum("index" in key for key in store.list(parts)) == after
    assert not [key for key in store.list("datasets") if key.endswith("manifest.json")]
    assert ingest(store, spec(tmp_path))["dataset"] == "some@1"


def test_the_same_rows_again_are_the_same_version_and_that_is_said(tmp_path: Path, store: Store) -> None:
    write(tmp_path)
    first = ingest(store, spec(tmp_path))
    before = {key: store.read(key) for key in store.list("datasets")}
    told = Told(store, "r2")
    assert run(spec(tmp_path), told.context, in_turn) == first
    assert "holds the same rows already" in told.text.getvalue()
    assert {key: store.read(key) for key in store.list("datasets")} == before


def test_of_two_ingests_of_one_name_at_once_each_gets_a_version_and_the_later_is_told(
    tmp_path: Path, store: Store
) -> None:
    write(tmp_path, "a.xyz")
    write(tmp_path, "b.xyz", seed=1)
    other: list[dict[str, Any]] = []

    class Late(type(store)):  # type: ignore[misc]
        """A store on which the other version appears between the look and the write."""

        def write(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if key.endswith("1/manifest.json") and not other:
                other.append(ingest(store, spec(tmp_path, params={"file": "b.xyz"}), "r2"))
            return str(super().write(key, data, if_absent=if_absent, if_match=if_match))

    told = Told(Late(cast(Any, store).root), "r1")
    outputs = run(spec(tmp_path), told.context, in_turn)
    assert (other[0]["dataset"], outputs["dataset"]) == ("some@1", "some@2")
    assert "some@1 was published by others meanwhile; this is some@2" in told.text.getvalue()
    for reference in ("some@1", "some@2"):
        assert verify_dataset(store, reference) == []


# Other kinds


def test_every_kind_of_array_is_published_and_opened(tmp_path: Path, store: Store) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 3, 2), dtype=np.uint8)
    arrays = {"x_train": pixels, "y_train": np.arange(40) % 4, "values": rng.normal(size=(40, 5))}
    np.savez(tmp_path / "a.npz", **arrays, positions=rng.normal(size=(40, 6, 3)))
    for source, column in (("npz_images", "pixels"), ("npz_signals", "values"), ("npz_points", "positions")):
        which = spec(tmp_path, source, source, {"file": "a.npz"}, split={"valid": 8, "test": 4})
        outputs = ingest(store, which, source)
        assert outputs["splits"] == {"train": 28, "valid": 8, "test": 4}
        assert verify_dataset(store, outputs["dataset"]) == []
        table = open_dataset(source, store=store).table()
        order = np.array([int(name.rsplit("-")[1]) for name in table["id"].to_pylist()])
        expected = arrays["values"].reshape(40, 5) if column == "values" else None
        if column == "pixels":
            expected = pixels.reshape(40, 6)
            assert table["label"].to_pylist() == (order % 4).tolist()
        if expected is not None:
            storage = table[column].combine_chunks().storage
            np.testing.assert_array_equal(storage.flatten().to_numpy().reshape(40, -1), expected[order])


def test_a_table_is_published_and_can_be_ingested_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces_of, "NUMBERS_A_PIECE", 64)
    table = pa.table({"x": np.arange(30.0), "words": [["a", "b" * (i % 3)] for i in range(30)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    which = spec(tmp_path, source="parquet", params={"file": "a.parquet"}, split={"valid": 3, "test": 3})
    outputs = ingest(store, which)
    opened = open_dataset("some", store=store)
    assert opened.manifest.kind == "table"
    (shard, *_) = [key for key in store.list("datasets/some/shards") if key.endswith(".parquet")]
    (tmp_path / "again.parquet").write_bytes(store.read(shard))
    again = spec(tmp_path, "again", "parquet", {"file": "again.parquet"}, split={"valid": 0, "test": 0})
    rows = {row["id"]: row for row in rows_of(store, "some")}
    # Its rows keep their names and splits, and a shard holds rows of one.
    if next(iter(rows_of_file(tmp_path / "again.parquet")))["split"] != "train":
        with pytest.raises(UserError, match="no row is left to train on"):
            ingest(store, again, "r2")
    else:
        ingest(store, again, "r2")
        assert all(rows[row["id"]] == row for row in rows_of(store, "again"))
    assert outputs["rows"] == 30
