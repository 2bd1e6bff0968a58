"""A model small enough to see through, and a way to ask an application without a server."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from serve.app import Served, build_app
from serve.auth import Tokens
from serve.predictors.energy import EnergyForces
from serve.rejection import RejectedError
from serve.schemas import StructureIn
from serve.spec import EndpointSpec

TOKEN = "a-token-of-some-length"


class SpringPredictor:
    """Double of a potential: energy = sum of |x|^2 / 2, force = -x. Gold (79) is unknown; a structure whose first
    coordinate is 13 is poison for the whole batch, 14 makes its own answer fail."""

    def __init__(self) -> None:
        self.facts = {"species": [1, 6, 8]}
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.delay_s = 0.0
        self.broken = False

    def prepare(self, raw: StructureIn) -> np.ndarray:
        if 79 in raw.numbers:
            raise RejectedError(
                422, "unknown_species", "atomic number 79 (Au)", where=("numbers", raw.numbers.index(79))
            )
        return np.asarray(raw.positions)

    def cost(self, item: np.ndarray) -> int:
        return len(item)

    def predict(self, items: list[np.ndarray]) -> Sequence[EnergyForces | Exception]:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.delay_s)
        if self.broken or any(item[0, 0] == 13.0 for item in items):
            raise ValueError("poison")
        self.batches.append(len(items))
        return [
            RejectedError(500, "not_finite", "the answer is not finite")
            if item[0, 0] == 14.0
            else EnergyForces(float((item**2).sum() / 2), -item)
            for item in items
        ]

    def probe(self) -> np.ndarray:
        return np.zeros((1, 3))


class GreyPredictor:
    """Double of a representation model: the embedding of an image is its first two pixels."""

    def __init__(self) -> None:
        self.facts = {"space": "grey-000000000000", "dim": 2}

    def prepare(self, raw: Any) -> np.ndarray:
        return np.asarray(raw, dtype=float)

    def cost(self, item: np.ndarray) -> int:
        return int(item.size)

    def predict(self, items: list[np.ndarray]) -> Sequence[np.ndarray]:
        return [item.ravel()[:2] for item in items]

    def probe(self) -> np.ndarray:
        return np.ones((2, 2))


def spec(**changes: Any) -> EndpointSpec:
    """An endpoint spec with changes by name."""
    base: dict[str, Any] = {
        "spec_version": 1,
        "kind": "endpoint",
        "name": "spring",
        "model": "spring@prod",
        "task": "energy_forces",
        "batching": {"max_atoms": 100, "max_wait_ms": 5},
    }
    return EndpointSpec.model_validate({**base, **changes})


@pytest.fixture
def make_spec() -> Callable[..., EndpointSpec]:
    return spec


@pytest.fixture
def spring() -> SpringPredictor:
    return SpringPredictor()


@pytest.fixture
def grey() -> GreyPredictor:
    return GreyPredictor()


@pytest.fixture
def token() -> str:
    return TOKEN


Session = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Run `session(client)` against an application in one event loop and return what it returns."""

    def run(
        predictor: Any, session: Session, *, tokens: Sequence[str] = (), root_path: str = "", **changes: Any
    ) -> Any:
        async def main() -> Any:
            served = Served.of(spec(**changes), "spring@3", predictor)
            app = build_app(served, tokens=Tokens(tokens) if tokens else None)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
                try:
                    return await session(client)
                finally:
                    served.batcher.close()

        return asyncio.run(main())

    return run
