"""How fast a piece of work goes, as a run tells it."""

import io
import time

import pytest
from rich.console import Console

from cluster.progress import Progress, line_of


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def test_the_rate_is_the_mean_since_something_was_first_done(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(console=Console(file=out, width=100)).task("label", 100, "structures", rated=True) as task:
        now[0] = 150.0  # processes start
        task.advance(20)
        assert task.rate is None  # one point is no rate
        now[0] = 160.0
        task.advance(30, failed=1)
        assert task.rate == pytest.approx(3.0)
        assert task.left_s == pytest.approx(50 / 3)
        assert line_of(task.to_json()) == "label: 50/100 structures · 3 structures/s · failed 1 · 17 s left"
    now[0] = 1000.0
    assert task.rate == pytest.approx(3.0)  # its clock has stopped
    assert "3 structures/s" in out.getvalue()


def test_the_rate_is_told_only_where_it_was_asked_for(out: io.StringIO) -> None:
    with Progress(console=Console(file=out, width=100)).task("ingest", 2, "steps") as task:
        task.advance(1)
        task.advance(1)
        assert task.to_json()["rate"] is None
    assert "steps/s" not in out.getvalue()


def test_progress_that_an_older_release_wrote_is_still_shown() -> None:
    old = {"title": "a", "completed": 1, "total": None, "unit": "b", "info": {}, "left_s": None, "ended": False}
    assert line_of(old) == "a: 1 b"
