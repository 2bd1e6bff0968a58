"""Benchmarks of training on GPUs: no Ray, a clear end without a GPU, and the goals of `strategies.py`."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def strategies(benchmarks: None) -> ModuleType:
    import strategies

    return strategies


def test_what_runs_on_gpus_imports_where_there_is_no_ray() -> None:
    names = "strategies, strategies_rank, two_phase, service_overhead, service_overhead_rank"
    script = f"import sys; sys.modules['ray'] = None; import {names}"
    done = subprocess.run([sys.executable, "-c", script], cwd=FOLDER, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_the_program_ends_and_says_what_is_missing(
    benchmarks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchrun import CPU_RANKS, ranks_on

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks_on("cpu") == CPU_RANKS
    with pytest.raises(SystemExit) as ended:
        ranks_on("cuda")
    assert ended.value.code == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


def test_memory_is_that_of_the_fullest_rank_beside_one_process(strategies: ModuleType) -> None:
    ranks = [{"FSDP2": {"moments": 400, "parameters": 200}}, {"FSDP2": {"moments": 480, "parameters": 240}}]
    (row,) = strategies.memory_rows(ranks, numbers=100)
    assert row["optimizer, of one process"] == row["parameters, of one process"] == 0.6


def test_ratios_are_medians_of_those_of_a_turn(strategies: ModuleType) -> None:
    times = {strategies.PLAIN: [[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]], "DDP": [[2.0, 1.0], [2.0, 3.0], [6.0, 4.0]]}
    plain, ddp = strategies.time_rows(times)
    assert (plain["time, ratio"], plain["processor time, ratio"]) == (1, 1)
    assert (ddp["ms a step"], ddp["time, ratio"], ddp["processor time, ratio"]) == (2000, 1.5, 1.5)
