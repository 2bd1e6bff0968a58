"""The one line that is shown while a run trains, at the widths that terminals have."""

import io
from typing import Any

import pytest
from rich.console import Console

from cluster.progress import Progress, duration, fitted, line_of
from jobs.report.line import described, seconds_left

NEWS: dict[str, Any] = {
    "completed": 1200,
    "total": 20000,
    "metric": "valid/force_mae",
    "restarts": 1,
    "now": {
        "loss": 0.012345,
        "samples_per_second": 812.4,
        "atoms_per_second": 26_010.0,
        "data_wait": 0.012,
        "skipped": 2.0,
        "flops_per_second": 3.1e12,
        "mfu": 0.31,
        "epoch": 3.4,
        "seconds_left": 7205.0,
    },
    "measured": {"valid/force_mae": 0.0314, "valid/loss": 0.02},
}


def line(width: int | None, news: dict[str, Any] = NEWS) -> str:
    task = {"title": "train", "completed": news["completed"], "total": news["total"], "unit": "steps", "ended": False}
    return line_of({**task, "info": described(news), "left_s": seconds_left(news)}, width)


COUNT, LEFT = "train: 1200/20000 steps", "2 h 0 min left"
FIRST = f"{COUNT} · loss 0.01235 · force MAE 31.4 meV/Å"
MIDDLE = f"{FIRST} · samples/s 812 · data wait 1%"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (40, f"{COUNT} · {LEFT}"),
        (80, f"{FIRST} · {LEFT}"),
        (120, f"{MIDDLE} · {LEFT}"),
        (None, f"{MIDDLE} · skipped 2 · restarts 1 · atoms/s 26k · FLOP/s 3.1T · MFU 31% · epoch 3.4 · {LEFT}"),
    ],
)
def test_a_narrow_line_loses_what_matters_least(width: int | None, shown: str) -> None:
    assert line(width) == shown
    assert width is None or len(shown) <= width


def test_a_line_never_exceeds_its_width() -> None:
    for width in range(1, 200):
        assert len(line(width)) <= width
    assert fitted(["abc"], ["d"], ["e"], 2) == "ab"


def test_before_anything_is_known_the_line_is_short_and_its_order_is_settled() -> None:
    assert line(None, {"completed": 0, "total": 10, "metric": "valid/force_mae"}) == "train: 0/10 steps"
    assert list(described({"metric": "valid/force_mae"})) == list(described(NEWS))


def test_images_are_counted_as_images_and_a_plain_metric_has_no_unit() -> None:
    news = {"now": {"samples_per_second": 5e3, "images_per_second": 5.123e3}, "measured": {"valid/loss": 0.5}}
    shown = {name: value for name, value in described(news).items() if value}
    assert shown == {"valid loss": "0.5", "images/s": "5.12k"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.4, "4 s"), (99.4, "99 s"), (100, "2 min"), (5999, "1 h 40 min"), (7200, "2 h 0 min"), (200_000, "2 d 7 h")],
)
def test_durations_have_the_units_that_matter(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_of_any_width_shows_one_line(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with Progress(console=console).task("train", 20000, "steps") as task:
        task.update(completed=1200, left_s=seconds_left(NEWS), **described(NEWS))
    drawn = [text for text in out.getvalue().replace("\r", "\n").split("\n") if "1200/20000" in text]
    assert drawn
    assert all(len(text.split("\x1b[2K")[-1].rstrip()) <= width for text in drawn)
    assert out.getvalue().count("\n") <= 2
