"""Groups of processes that the tests of a session share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import ranks`: pytest's importlib mode leaves the path alone

from ranks import Ranks


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Ranks]:
    """Two processes in a gloo group."""
    ranks = Ranks(2)
    yield ranks
    ranks.close()


@pytest.fixture(scope="session")
def one_rank() -> Iterator[Ranks]:
    """One process in a gloo group of its own, as DeepSpeed needs it."""
    ranks = Ranks(1)
    yield ranks
    ranks.close()
