"""Peers of the benchmarks in environments of their own: how a process is asked, and how it fails."""

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
CASES = """
import os
PACKAGES = ("numpy",)
asked = []

def doubled(number):
    print("a package that prints")
    asked.append(number)
    return {"doubled": 2 * number, "asked": asked}

def surroundings():
    return [os.environ.get("OMP_NUM_THREADS"), os.environ.get("PYTHONPATH")]

def dies():
    os.write(2, b"out of luck")
    os._exit(3)
"""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    from peers import session

    return session


@pytest.fixture
def cases(tmp_path: Path) -> Callable[[str], Path]:
    def written(source: str) -> Path:
        path = tmp_path / "cases.py"
        path.write_text(source)
        return path

    return written


def test_a_peer_answers_by_the_functions_of_its_file_and_keeps_its_state(
    session: ModuleType, cases: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    with session.Peer(sys.executable, cases(CASES), threads=2) as peer:
        assert peer.versions == {name: metadata.version(name) for name in ("torch", "numpy")}
        assert peer.ask("doubled", number=2) == {"doubled": 4, "asked": [2]}
        assert peer.ask("doubled", number=3) == {"doubled": 6, "asked": [2, 3]}
        assert peer.ask("surroundings") == ["2", None]


def test_an_error_of_a_function_is_told_and_the_peer_goes_on(session: ModuleType, cases: Callable[[str], Path]) -> None:
    with session.Peer(sys.executable, cases(CASES)) as peer:
        with pytest.raises(RuntimeError, match=r"cases\.py: Traceback(.|\n)*KeyError: 'halved'"):
            peer.ask("halved", number=2)
        assert peer.ask("doubled", number=2)["doubled"] == 4


def test_a_peer_that_ends_is_told_with_what_it_said(session: ModuleType, cases: Callable[[str], Path]) -> None:
    with (
        session.Peer(sys.executable, cases(CASES)) as peer,
        pytest.raises(RuntimeError, match=r"ended with 3: (.|\n)*out of luck"),
    ):
        peer.ask("dies")


def test_a_file_that_cannot_be_run_is_told_at_the_start(session: ModuleType, cases: Callable[[str], Path]) -> None:
    with pytest.raises(RuntimeError, match="No module named 'no_such_package'"):
        session.Peer(sys.executable, cases("import no_such_package"))


def test_a_missing_environment_is_left_out_and_said_so(
    session: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "ENVIRONMENTS", tmp_path)
    assert session.peer_of("mace", "mace_blocks.py") is None
    assert "mace is left out: `make bench-peers`" in capsys.readouterr().err


def test_every_peer_has_pinned_requirements_and_the_makefile_makes_its_environment() -> None:
    makefile = (FOLDER.parent / "Makefile").read_text()
    (peers,) = [line for line in makefile.splitlines() if line.startswith("bench-peers:")]
    files = list((FOLDER / "peers").glob("requirements-*.txt"))
    assert len(files) == 3
    for path in files:
        assert path.stem.removeprefix("requirements-") in peers
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert lines
        assert all("==" in line for line in lines)


@pytest.mark.parametrize("backward", [False, True])
def test_the_stopwatch_calls_at_least_three_times_and_differentiates_where_asked(
    session: ModuleType, backward: bool
) -> None:
    from peers.stopwatch import timed

    calls = []
    x, fixed, learned = torch.ones(3, requires_grad=True), torch.ones(3), torch.ones((), requires_grad=True)

    def function(x: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return learned * x * fixed

    assert timed(function, (x, fixed), (learned,), backward=backward, seconds=0) > 0
    assert calls == [False, *[backward] * 3]
