"""Ingests on Ray: pieces side by side, errors and stops from there, and a store that is no folder."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster.context import RunContext
from cluster.dataset.dataset import open_dataset
from cluster.dataset.verify import verify_dataset
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.session import Session, open_session
from cluster.stopping import Stop
from cluster.store import Store, open_store
from jobs.ingest.run import run
from jobs.ingest.schedule import in_turn, on_ray
from jobs.spec.dataset import DatasetSpec

pytestmark = pytest.mark.integration

FILES = 6


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(home=tmp_path_factory.mktemp("home"), cpus=2) as opened:
        yield opened


def spec(folder: Path, **more: Any) -> DatasetSpec:
    data = {"kind": "dataset", "name": "waters", "source": {"name": "extxyz", "params": {"file": "w*.xyz"}}, **more}
    return DatasetSpec.model_validate(data, context={"folder": folder})


def write(folder: Path, frames: int = 40) -> None:
    """A file is a piece."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        lines = []
        for _ in range(frames):
            lines += ["3", f"Properties=species:S:1:pos:R:3:forces:R:3 energy={rng.normal()}"]
            lines += [" ".join([z, *map(str, rng.normal(size=6))]) for z in "OHH"]
        (folder / f"w{number}.xyz").write_text("\n".join([*lines, ""]))


def context(store: Store, session: Session | None, told: StringIO | None = None, stop: Any = None) -> RunContext:
    progress = Progress(console=Console(file=told or StringIO(), width=200), store=store, run_id="r1")
    return RunContext("r1", store, progress, Path(), False, stop or (lambda: False), cast(Session, session))


def test_pieces_read_on_ray_give_what_one_process_gives(tmp_path: Path, store: Store, session: Session) -> None:
    write(tmp_path)
    told = StringIO()
    outputs = run(spec(tmp_path), context(store, session, told))
    assert outputs["rows"] == FILES * 40
    assert f"read: {FILES * 40}/{FILES * 40} rows" in told.getvalue()
    assert "rows/s" in told.getvalue()
    assert verify_dataset(store, outputs["dataset"]) == []
    alone = run(spec(tmp_path), context(open_store(str(tmp_path / "other")), None), in_turn)
    assert alone["digest"] == outputs["digest"]


def test_a_row_that_cannot_be_read_on_a_worker_is_told_by_its_line(
    tmp_path: Path, store: Store, session: Session
) -> None:
    write(tmp_path)
    text = (tmp_path / "w3.xyz").read_text()
    (tmp_path / "w3.xyz").write_text(text.replace("\nO ", "\nOx ", 1))
    with pytest.raises(UserError, match=r"w3\.xyz:1: there is no element 'Ox'"):
        run(spec(tmp_path), context(store, session))
    assert store.list("datasets") == []
    outputs = run(spec(tmp_path, on_error="skip"), context(store, session))
    assert (outputs["rows"], outputs["skipped"]) == (FILES * 40 - 1, 1)


def test_what_is_wrong_with_a_whole_file_comes_out_of_a_worker_as_it_is(
    tmp_path: Path, store: Store, session: Session
) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match="no reference energy of O"):
        run(spec(tmp_path, reference_energies={"H": -13.6}), context(store, session))


def test_a_stopped_ingest_goes_on_after_what_it_has_read(tmp_path: Path, store: Store, session: Session) -> None:
    write(tmp_path)
    parts = "runs/r1/parts"

    def indexes() -> list[str]:
        return [key for key in store.list(parts) if "index" in key]

    with pytest.raises(Stop):
        run(spec(tmp_path), context(store, session, stop=lambda: len(indexes()) >= 2), on_ray)
    folder = Path(store.uri.removeprefix("file://"))
    kept = {key: (folder / key).stat().st_mtime_ns for key in indexes()}
    assert len(kept) >= 2
    told = StringIO()

    def untouched() -> bool:
        there = [key for key in kept if (folder / key).exists()]
        assert all((folder / key).stat().st_mtime_ns == kept[key] for key in there), "a piece was read again"
        return False

    outputs = run(spec(tmp_path), context(store, session, told, untouched))
    assert f"of {FILES} pieces were read before" in told.getvalue()
    assert outputs["rows"] == FILES * 40
    assert store.list(parts) == []


def test_an_ingest_on_an_object_store_gives_what_one_in_a_folder_gives(
    tmp_path: Path, store: Store, s3_environment: Any
) -> None:
    write(tmp_path)
    remote = open_store(f"s3://{s3_environment.bucket}/ingest")
    outputs = run(spec(tmp_path), context(remote, None), in_turn)
    assert outputs["digest"] == run(spec(tmp_path), context(store, None), in_turn)["digest"]
    assert verify_dataset(remote, outputs["dataset"]) == []
    assert remote.list("runs/r1/parts") == []
    assert open_dataset("waters", store=remote).table().equals(open_dataset("waters", store=store).table())


def test_a_table_of_many_row_groups_is_ingested_on_ray(tmp_path: Path, store: Store, session: Session) -> None:
    table = pa.table({"x": np.arange(200_000.0), "n": np.arange(200_000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20_000)
    source = {"name": "parquet", "params": {"file": str(tmp_path / "t.parquet")}}
    outputs = run(spec(tmp_path, source=source, split={"valid": 0, "test": 0.5}), context(store, session))
    assert outputs["splits"] == {"train": 100_000, "test": 100_000}
    found = open_dataset("waters", store=store).table()
    assert np.array_equal(np.sort(found["x"].to_numpy()), np.arange(200_000.0))
    assert np.array_equal(found["x"].to_numpy(), found["n"].to_numpy())
