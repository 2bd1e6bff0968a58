"""The command line in this process: `equi("models", "--json")` gives exit code, standard output and standard error.

And tables that can be published: `molecules(12)`.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from cluster import cli
from cluster.dataset.schema import STRUCTURES

Equi = Callable[..., tuple[object, str, str]]
Molecules = Callable[..., pa.Table]


@pytest.fixture
def molecules() -> Molecules:
    """Random molecules of 2 to 4 atoms, four to a trajectory; the last trajectory is the test split."""

    def make(rows: int = 12, seed: int = 0) -> pa.Table:
        random = np.random.default_rng(seed)
        groups = [f"t{row // 4}" for row in range(rows)]
        return pa.Table.from_pylist(
            [
                {
                    "id": f"frame-{row:03d}",
                    "numbers": random.choice([1, 6, 8], atoms).tolist(),
                    "positions": random.normal(size=3 * atoms).tolist(),
                    "energy": float(random.normal()),
                    "forces": random.normal(size=3 * atoms).tolist(),
                    "group": group,
                    "split": "test" if group == groups[-1] else "train",
                }
                for row, group in enumerate(groups)
                for atoms in [int(random.integers(2, 5))]
            ],
            schema=STRUCTURES,
        )

    return make


@pytest.fixture
def equi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Equi:
    monkeypatch.delenv("EQUI_STORE", raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run
