"""An endpoint over HTTP: the interface of `serve`, spoken by its description only (the two packages never meet)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from cluster.errors import ClusterError, UserError
from jobs.data.states import NEUTRAL_SINGLET
from jobs.evaluation.frames import Floats, Lattice, Prediction, State

TIMEOUT_S = 60.0


class Endpoint:
    """Behind the `Predictor` protocol; a context manager that closes its connections."""

    def __init__(
        self, url: str, *, token: str | None = None, batch: int = 32, transport: httpx.BaseTransport | None = None
    ) -> None:
        """token: sent as a bearer token. batch: rows a request. Raises ClusterError where nothing answers at `url`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)
        self._url, self._batch = url, batch
        try:
            served = self._ask("GET", "/v1/model")
            self._model = str(served["model"])
            # An endpoint of an earlier version does not say: rather no figures than those of other structures.
            self._told = bool(served.get("facts", {}).get("charge_spin", True))
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """name@version and the address."""
        return f"{self._model} at {self._url}"

    @property
    def model(self) -> str:
        """name@version of the model that answers."""
        return self._model

    def energy_forces(
        self,
        numbers: Sequence[NDArray[Any]],
        positions: Sequence[Floats],
        lattices: Sequence[Lattice] | None = None,
        states: Sequence[State] | None = None,
    ) -> Prediction:
        """numbers: B times (n,); positions: B times (n, 3) angstrom.

        Raises UserError for periodic structures, and for charges and spins where the model would be told them.
        """
        if any(pbc.any() for _, pbc in lattices or ()):
            raise UserError(
                "endpoints take no periodic structures yet", hint="evaluate the model itself: model: NAME@V"
            )
        if self._told and any(state != NEUTRAL_SINGLET for state in states or ()):
            raise UserError(
                f"endpoints take no charges and spins yet, and {self._model} may need them",
                hint=f"evaluate the model itself: model: {self._model}",
            )
        rows = [{"numbers": z.tolist(), "positions": r.tolist()} for z, r in zip(numbers, positions, strict=True)]
        results = [
            result
            for at in range(0, len(rows), self._batch)
            for result in self._ask("POST", "/v1/energy_forces", {"structures": rows[at : at + self._batch]})["results"]
        ]
        return Prediction(
            np.array([result["energy"] for result in results], dtype=np.float64),
            [np.array(result["forces"], dtype=np.float64).reshape(-1, 3) for result in results],
        )

    def embed(self, pixels: NDArray[np.float32]) -> Floats:
        """pixels: (B, C, H, W). Returns (B, D), normalised as the endpoint does."""
        answers = [
            self._ask("POST", "/v1/embed", {"images": pixels[at : at + self._batch].tolist()})["embeddings"]
            for at in range(0, len(pixels), self._batch)
        ]
        return np.array([row for answer in answers for row in answer], dtype=np.float64)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ClusterError(
                f"no answer from {self._url}{path}: {error}", hint="is the endpoint up? `equi endpoints` lists them"
            ) from error
        if answer.status_code in (401, 403):
            raise UserError(f"{self._url} refuses the token ({answer.status_code})", hint="give its token_file")
        if answer.is_error:
            raise UserError(f"{self._url}{path} answers {answer.status_code}: {_reason(answer)}")
        try:
            return answer.json()
        except ValueError as error:
            raise UserError(f"{self._url}{path} does not answer in JSON; is it an endpoint of equi?") from error


def read_token(path: str | None) -> str | None:
    """The first line of a token file that is neither empty nor a comment. Raises UserError."""
    if path is None:
        return None
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"the token file {path} cannot be read: {error.strerror}") from error
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            return line
    raise UserError(f"the token file {path} holds no token")


def _reason(answer: httpx.Response) -> str:
    """The endpoint's own words where it has any, else the start of the body."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase
