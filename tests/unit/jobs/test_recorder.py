"""What a run leaves on the store while it trains."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from cluster.store import open_store
from jobs.launch import described
from jobs.recorder import StoreRecorder


def test_measurements_are_parquet_and_the_position_is_readable_at_any_time(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    emitted: list[dict[str, float]] = []
    recorder = StoreRecorder(store, "r1", attempt=2, total=30, emit=lambda values: emitted.append(dict(values)))
    recorder.progressed(1, {"loss": 2.0, "samples_per_second": 99.0, "epoch": 0.1, "force_mae": 0.5})
    recorder.measured(10, {"train/loss": 1.0, "valid/force_mae": 0.25})
    recorder.progressed(11, {"loss": 0.5})  # too soon after the first to be worth a write
    recorder.progressed(30, {"loss": 0.4, "epoch": 3.0})
    table = pq.read_table(tmp_path / "runs" / "r1" / "metrics" / "002-00000010.parquet")
    assert dict(zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True)) == {
        "train/loss": 1.0,
        "valid/force_mae": 0.25,
    }
    news = json.loads(store.read("runs/r1/live.json"))
    assert (news["completed"], news["total"], news["now"]["loss"]) == (30, 30, 0.4)
    assert described(news) == {"epoch": "3.0", "loss": "0.4", "force MAE": "250.0 meV/Å"}
    assert [values["loss"] for values in emitted] == [2.0, 0.4]
