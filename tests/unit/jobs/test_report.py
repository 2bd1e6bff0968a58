"""Reports: everything is in the one file, nothing is fetched, nothing a user wrote becomes HTML."""

import json
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from cluster.errors import NotFoundError
from cluster.runs import RunError, create_run, happen
from cluster.store import Store, open_store
from jobs.checkpoints import RunCheckpoints
from jobs.recording.events import event, write_event
from jobs.recording.history import as_parquet, metrics_key, row_of, table_of
from jobs.report.curves import POINTS, draw, learning_panels, machine_panels, memory_bars, thinned
from jobs.report.demo import write_demo_report
from jobs.report.figures import parity, trial_curves
from jobs.report.page import Section, Tile, page, table
from jobs.report.run import write_run_report
from jobs.report.sharding import Sharding, read_sharding, rows
from jobs.report.sources import Curve, read_curves
from jobs.spec.strategy import Checkpoint
from jobs.state.piece import Piece
from jobs.world import World

ALLOWED_ADDRESSES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, never fetched
TRIALS = [
    {"trial": 3, "parameters": {"model.params.lmax": 2}, "status": "complete", "steps": 60, "value": 0.1,
     "seconds": 4.0, "curve": [[30, 0.2], [60, 0.1]]},
    {"trial": 1, "parameters": {"model.params.lmax": 1}, "status": "failed", "steps": 0, "value": None, "seconds": 0.0,
     "curve": []},
]  # fmt: skip


class Checked(HTMLParser):
    """Refuses what a self-contained page must not have, and a tag that is not closed in order."""

    VOID = frozenset({"meta", "br", "img", "path", "use", "image", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:")), f"{tag} fetches {value}"
            if name == "id":
                self.ids.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def checked(text: str) -> Checked:
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert set(re.findall(r"https?://[\w./-]+", re.sub(r"<(td|p|footer)[^>]*>.*?</\1>", "", text))) <= ALLOWED_ADDRESSES
    return parser


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def measured(store: Store, run: str, attempt: int, rows: list[dict[str, float]]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    table = table_of([row_of(int(row["step"]), attempt, now, row) for row in rows])
    store.write(metrics_key(run, attempt, 0), as_parquet(table))


def predicted(store: Store, run: str) -> None:
    rng = np.random.default_rng(0)
    energies, forces = rng.normal(size=20), rng.normal(size=(20, 9))
    sink = BytesIO()
    columns = {
        "id": [str(i) for i in range(20)],
        "atoms": [3] * 20,
        "energy": energies,
        "predicted_energy": energies + 0.03,
        "forces": list(forces),
        "predicted_forces": list(forces + 0.1),
    }
    pq.write_table(pa.table(columns), sink)
    store.write(f"runs/{run}/predictions.parquet", sink.getvalue())


def whole(store: Store) -> dict[str, Any]:
    rows = [{"step": s, "loss": 1 / s, "valid/loss": 1 / s, "valid/force_mae": 1 / s} for s in (100, 200, 300)]
    measured(store, "train-1", 1, rows)
    predicted(store, "check-1")
    store.write("runs/sweep-1/trials.json", json.dumps(TRIALS).encode())
    return {
        "dataset": "ethanol-xtb@1",
        "run": "train-1",
        "model": "ethanol@1",
        "endpoint": "http://127.0.0.1:8000",
        "metrics": {
            "force_mae_ev_per_ang": 0.1,
            "force_mean_abs_ev_per_ang": 0.8,
            "energy_mae_per_atom_ev": 0.01,
            "baseline_energy_mae_per_atom_ev": 0.02,
            "rotation_rel_error": 3e-6,
        },
        "seconds": {"label": 20.0, "total": 200.0},
        "runs": {"sweep": "sweep-1", "train": "train-1", "check": "check-1"},
    }


def test_the_demo_report_is_one_file_with_every_part(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "demo" / "report.html"
    write_demo_report(store, whole(store), path)
    text = path.read_text(encoding="utf-8")
    parser = checked(text)
    assert text.count("<svg") == 4  # energies, forces, curves, trials
    said = " ".join(parser.texts)
    for part in ("12.5% of the mean absolute force", "the training mean: 20", "3.0e-06", "ethanol-xtb@1", "failed"):
        assert part in said
    assert len(text) < 600_000
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_inner_names_of_figures_do_not_clash(store: Store, tmp_path: Path) -> None:
    write_demo_report(store, whole(store), tmp_path / "report.html")
    ids = checked((tmp_path / "report.html").read_text(encoding="utf-8")).ids
    assert len(ids) > 50
    assert len(ids) == len(set(ids))


def test_a_summary_with_hardly_anything_still_gives_a_page(store: Store, tmp_path: Path) -> None:
    write_demo_report(store, {"model": "a@1"}, tmp_path / "report.html")
    assert "<svg" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_that_look_like_html_stay_text() -> None:
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, [Tile(evil, evil, evil)], [Section(evil, table([evil], [[evil]]), evil)], evil)
    checked(text)
    assert evil not in text


def test_a_script_in_a_page_is_caught_by_the_check() -> None:
    with pytest.raises(AssertionError):
        checked("<main><script>alert(1)</script></main>")
    with pytest.raises(AssertionError):
        checked('<main><img src="http://elsewhere/a.png"></main>')


def test_figures_take_the_colour_of_the_page() -> None:
    steps = np.arange(1.0, 5)
    curves = {"loss": Curve(steps, 1 / steps), "valid/loss": Curve(steps, 2 / steps)}
    figure = draw(learning_panels(curves), curves, [], "curves", "curves")
    assert "currentColor" in figure
    assert "#0a0b0c" not in figure
    assert "font-family" not in figure


def test_the_same_figure_is_drawn_the_same_twice() -> None:
    x = np.linspace(0, 1, 50)
    assert parity(x, x**2, "forces", "eV/Å") == parity(x, x**2, "forces", "eV/Å")
    assert "MAE 0.16" in parity(x, x**2, "forces", "eV/Å")


def test_parity_does_not_depend_on_the_origin_of_energies() -> None:
    x = np.linspace(0, 1, 50)
    near, far = (re.findall(r">([^<>]+)</text>", parity(x + o, x + o, "energy", "eV", centred=True)) for o in (0, 64))
    assert near == far


def test_nothing_measured_draws_nothing() -> None:
    assert draw(learning_panels({}), {}, [], "curves", "curves") == ""
    assert memory_bars({}) == ""
    assert trial_curves([TRIALS[1]], "valid/loss") == ""


def test_a_step_measured_again_after_a_resume_counts_once(store: Store) -> None:
    measured(store, "r1", 1, [{"step": 100, "train/loss": 2.0}, {"step": 200, "loss": 1.0}])
    measured(store, "r1", 2, [{"step": 200, "loss": 0.5}])
    curve = read_curves(store, "r1")["loss"]
    assert (curve.steps.tolist(), curve.values.tolist()) == ([100, 200], [2.0, 0.5])


def test_the_report_of_a_failed_run_says_why(store: Store, tmp_path: Path) -> None:
    create_run(store, kind="train", name="ethanol", spec="kind: train\nname: ethanol\n", run_id="r1")
    happen(store, "r1", "start")
    error = RunError(message="the loss is not finite <here>", rank=1, log="runs/r1/driver.log")
    happen(store, "r1", "fail", error=error)
    write_run_report(store, "r1", tmp_path / "r.html")
    said = " ".join(checked((tmp_path / "r.html").read_text(encoding="utf-8")).texts)
    assert "the loss is not finite <here>" in said
    assert "rank 1; log: runs/r1/driver.log" in said
    assert "kind: train" in said


def test_the_command_writes_where_it_is_told_and_a_dry_run_writes_nothing(store: Store, tmp_path: Path) -> None:
    import typer

    from jobs.report.cli import report

    app = typer.Typer()
    app.command()(report)
    create_run(store, kind="train", name="ethanol", spec="kind: train\n", run_id="r1")
    out = tmp_path / "page.html"
    arguments = ["r1", "--out", str(out), "--store", store.uri]
    assert CliRunner().invoke(app, [*arguments, "--dry-run"]).exit_code == 0
    assert not out.exists()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    checked(out.read_text(encoding="utf-8"))
    assert isinstance(CliRunner().invoke(app, ["r2", "--store", store.uri]).exception, NotFoundError)


def trained(store: Store, run: str, scratch: Path) -> None:
    """A run that was resumed, left out a step, and has a checkpoint of one rank."""
    steps = [{"step": s, "loss": 1 / s, "lr": 0.1, "step_seconds": 0.1, "atoms_per_second": 50.0} for s in range(1, 11)]
    measured(store, run, 1, [*steps, {"step": 10, "valid/loss": 0.5, "memory/rank0": 2.0**30, "memory/rank1": 2.0**29}])
    for one in (
        event(4, "skipped", {"loss": None, "samples": ["<a>", "b"]}, attempt=1),
        event(5, "restarted", {"why": "rank 1: killed"}, attempt=1),
        event(5, "resumed", {"workers": 2}, attempt=2),
        event(5, "best", {"valid/loss": 0.6}, attempt=2),
        event(10, "best", {"valid/loss": 0.5}, attempt=2),
    ):
        write_event(store, run, one)
    checkpoints = RunCheckpoints(store, run, World(), Checkpoint(), scratch)
    slots = {name: {"weight": Piece(0, torch.ones(300))} for name in ("value", "exp_avg")}
    checkpoints.save(10, slots, {"weight": (300,)}, {"reader": {}}, best=False)
    checkpoints.finish()


def test_the_report_of_a_training_run_shows_how_it_learned_what_happened_and_who_held_what(
    store: Store, tmp_path: Path
) -> None:
    create_run(store, kind="train", name="ethanol", spec="kind: train\n", run_id="r1")
    trained(store, "r1", tmp_path)
    write_run_report(store, "r1", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    parser = checked(text)
    assert len(parser.ids) == len(set(parser.ids))
    said = " ".join(parser.texts)
    for part in (
        "best valid/loss 0.5 at step 10",  # tiles
        "atoms/s 50 median",
        "peak memory 1 GiB the largest of 2 ranks",
        "resumed 1 1 steps left out",
        "rank 1: killed",  # events
        "samples <a>, b",
        "checkpoint of step 10",  # sharding
        "1.17 KiB 1.17 KiB 2.34 KiB",
    ):
        assert part in re.sub(r"\s+", " ", said)
    assert said.count("best valid/loss") == 1
    assert text.count("<svg") == 3  # curves, speed, memory
    assert "left out" in said


def test_ranks_that_hold_the_same_are_one_row() -> None:
    sharding = Sharding(5, ("value", "exp_avg"), ({"value": 2048}, *[{"value": 1024, "exp_avg": 512}] * 7))
    assert rows(sharding) == [
        ["0", "2 KiB", "0 B", "2 KiB"],
        ["1 to 7, each", "1 KiB", "512 B", "1.5 KiB"],
        ["all", "9 KiB", "3.5 KiB", "12.5 KiB"],
    ]


def test_a_damaged_checkpoint_leaves_the_rest_of_the_report(store: Store, tmp_path: Path) -> None:
    trained(store, "r1", tmp_path)
    store.write("runs/r1/checkpoints/00000010/COMMIT.json", b"{")
    assert read_sharding(store, "r1") is None


def test_a_long_curve_is_drawn_as_its_mean_and_the_range_around_it() -> None:
    steps = np.arange(100_000.0)
    values = np.where(steps == 50_000, 100.0, 1.0)
    values[7] = math.nan
    centres, means, least, most = thinned(Curve(steps, values))
    assert len(centres) == POINTS
    assert (least.min(), most.max()) == (1.0, 100.0)
    assert means.max() == pytest.approx(1 + 99 / 250)


def test_a_quantity_that_was_never_measured_has_no_panel() -> None:
    ones = Curve(np.arange(3.0), np.ones(3))
    zeros = Curve(np.arange(3.0), np.zeros(3))
    shown = machine_panels({"samples_per_second": ones, "images_per_second": ones, "flops_per_second": zeros})
    assert [panel.title for panel in shown] == ["images a second"]
    learned = learning_panels({"loss": ones, "valid/force_mae": ones, "valid/energy_mae_per_atom": ones})
    assert [panel.title for panel in learned] == ["loss", "force MAE, meV/Å", "energy MAE, meV/atom"]
