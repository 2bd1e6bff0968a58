"""The HTTP interface, asked without a server; the model is a double."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from cluster.metrics import METRICS
from serve.app import Served, build_app
from serve.auth import Tokens

ETHANOL = {"numbers": [6, 8, 1], "positions": [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]]}


def structure(x: float = 1.0, atoms: int = 1) -> dict[str, Any]:
    return {"numbers": [6] * atoms, "positions": [[x, float(k), 0.0] for k in range(atoms)]}


def post(body: Any, path: str = "/v1/energy_forces", **options: Any) -> Any:
    async def session(client: httpx.AsyncClient) -> httpx.Response:
        if isinstance(body, bytes):
            return await client.post(path, content=body, headers={"Content-Type": "application/json"}, **options)
        return await client.post(path, json=body, **options)

    return session


def get(path: str, **options: Any) -> Any:
    async def session(client: httpx.AsyncClient) -> httpx.Response:
        return await client.get(path, **options)

    return session


def test_each_structure_gets_its_energy_and_forces_with_units(ask: Any, spring: Any) -> None:
    answer = ask(spring, post({"structures": [ETHANOL, structure(2.0)]}))
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "spring@3"
    assert body["units"] == {"energy": "eV", "forces": "eV/angstrom", "positions": "angstrom"}
    assert body["results"][0]["energy"] == pytest.approx((14 + 1 + 0.25) / 2)
    assert body["results"][0]["forces"] == [[-1.0, -2.0, -3.0], [0.0, -1.0, 0.0], [-0.5, 0.0, 0.0]]
    assert body["results"][1]["energy"] == pytest.approx(2.0)


def test_requests_that_come_together_share_a_forward(ask: Any, spring: Any) -> None:
    async def session(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(post({"structures": [structure(float(k))]})(client) for k in range(6)))

    answers = ask(spring, session, batching={"max_atoms": 100, "max_wait_ms": 200})
    assert [a.json()["results"][0]["energy"] for a in answers] == [k * k / 2 for k in range(6)]
    assert max(spring.batches) > 1


def test_the_neighbours_of_a_poison_structure_are_answered(ask: Any, spring: Any) -> None:
    async def session(client: httpx.AsyncClient) -> list[httpx.Response]:
        bodies = [{"structures": [structure(x)]} for x in (1.0, 13.0, 14.0, 2.0)]
        return await asyncio.gather(*(post(body)(client) for body in bodies))

    answers = ask(spring, session, batching={"max_atoms": 100, "max_wait_ms": 200})
    assert [answer.status_code for answer in answers] == [200, 500, 500, 200]
    assert answers[1].json()["error"]["where"] == ["structures", 0]
    assert answers[2].json()["error"]["code"] == "not_finite"


@pytest.mark.parametrize(
    ("body", "where", "words"),
    [
        ({}, ["structures"], "required"),
        ({"structures": []}, ["structures"], "at least 1"),
        ({"structures": [{"numbers": [6]}]}, ["structures", 0, "positions"], "required"),
        ({"structures": [{"numbers": [0], "positions": [[0, 0, 0]]}]}, ["structures", 0, "numbers", 0], "greater"),
        ({"structures": [{"numbers": [6], "positions": [[0, 0]]}]}, ["structures", 0, "positions", 0], "at least 3"),
        ({"structures": [structure()], "structurs": []}, ["structurs"], "Extra"),
        (b'{"structures": [{"numbers": [6], "positions": [[NaN, 0, 0]]}]}', None, "finite"),
        (b'{"structures": [{"numbers": [6], "positions": [[1e999, 0, 0]]}]}', None, "finite"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_at_its_place(
    ask: Any, spring: Any, body: Any, where: list[Any] | None, words: str
) -> None:
    answer = ask(spring, post(body))
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["where"] == (where or ["structures", 0, "positions", 0, 0])
    assert spring.batches == []


def test_what_the_predictor_refuses_is_placed_in_the_request(ask: Any, spring: Any) -> None:
    answer = ask(spring, post({"structures": [structure(), {**ETHANOL, "numbers": [6, 79, 1]}]}))
    assert answer.status_code == 422
    assert answer.json()["error"]["where"] == ["structures", 1, "numbers", 1]


@pytest.mark.parametrize("body", [b"{", b"not json", b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused_and_the_next_request_is_answered(
    ask: Any, spring: Any, body: bytes
) -> None:
    async def session(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        return await post(body)(client), await post({"structures": [structure()]})(client)

    bad, good = ask(spring, session)
    assert bad.status_code in (400, 422)
    assert set(bad.json()["error"]) == {"code", "message", "where"}
    assert good.status_code == 200


def test_a_structure_above_the_budget_is_too_large(ask: Any, spring: Any) -> None:
    answer = ask(spring, post({"structures": [structure(), structure(atoms=101)]}))
    assert answer.status_code == 413
    assert answer.json()["error"]["where"] == ["structures", 1]


def test_too_many_structures_in_one_request_are_refused(ask: Any, spring: Any) -> None:
    answer = ask(spring, post({"structures": [structure()] * 3}), limits={"max_items_per_request": 2})
    assert answer.status_code == 413
    assert "at most 2" in answer.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_body_is_refused_whether_or_not_its_length_is_announced(ask: Any, spring: Any, announced: bool) -> None:
    content = json.dumps({"structures": [structure()] * 1000}).encode()

    async def chunks() -> Any:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    async def session(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(
            "/v1/energy_forces",
            content=content if announced else chunks(),
            headers={"Content-Type": "application/json"},
        )

    answer = ask(spring, session, limits={"max_body_mb": 0.01})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_full_queue_answers_503_with_retry_after(ask: Any, spring: Any) -> None:
    spring.delay_s = 0.05

    async def session(client: httpx.AsyncClient) -> list[httpx.Response]:
        body = {"structures": [structure(), structure()]}
        return await asyncio.gather(*(post(body)(client) for _ in range(12)))

    answers = ask(
        spring,
        session,
        batching={"max_atoms": 1, "max_wait_ms": 0},
        limits={"max_queued_items": 4, "max_items_per_request": 2},
    )
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert any(answer.status_code == 200 for answer in answers)


def test_a_request_that_takes_too_long_is_answered_504(ask: Any, spring: Any) -> None:
    spring.delay_s = 0.3
    answer = ask(spring, post({"structures": [structure()]}), limits={"timeout_s": 0.05})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "timeout"


def test_health_is_a_probe_through_the_model(ask: Any, spring: Any) -> None:
    assert ask(spring, get("/healthz")).json() == {"status": "ok", "model": "spring@3"}
    assert spring.batches == [1]
    spring.broken = True
    sick = ask(spring, get("/healthz"))
    assert sick.status_code == 503
    assert sick.json()["error"]["code"] == "unhealthy"


def test_many_who_ask_for_health_cost_one_probe(ask: Any, spring: Any) -> None:
    async def session(client: httpx.AsyncClient) -> None:
        await asyncio.gather(*(client.get("/healthz") for _ in range(20)))

    ask(spring, session)
    assert spring.batches == [1]


def test_the_model_route_says_what_is_served_and_refused(ask: Any, spring: Any) -> None:
    body = ask(spring, get("/v1/model")).json()
    assert (body["endpoint"], body["model"], body["reference"]) == ("spring", "spring@3", "spring@prod")
    assert body["facts"]["species"] == [1, 6, 8]
    assert body["limits"]["batching"]["budget"] == 100


def test_unknown_paths_and_verbs_have_the_same_shape_of_error(ask: Any, spring: Any) -> None:
    assert ask(spring, get("/v1/nothing")).json()["error"]["code"] == "not_found"
    assert ask(spring, get("/v1/energy_forces")).json()["error"]["code"] == "method_not_allowed"
    assert ask(spring, post({}, "/v1/embed")).status_code == 404  # another task has no route here


def test_an_endpoint_of_images_embeds_and_guards_its_space(ask: Any, grey: Any) -> None:
    changes: dict[str, Any] = {"task": "embed", "batching": {"max_pixels": 64}}
    images = [[[0.0, 1.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 0.0]]]
    body = ask(grey, post({"images": images}, "/v1/embed"), **changes).json()
    assert body["embeddings"] == [[0.0, 1.0], [1.0, 0.0]]
    assert (body["space"], body["dim"], body["normalised"]) == ("grey-000000000000", 2, True)
    same = ask(grey, post({"images": images, "space": body["space"]}, "/v1/embed"), **changes)
    other = ask(grey, post({"images": images, "space": "red-1"}, "/v1/embed"), **changes)
    assert (same.status_code, other.status_code) == (200, 409)


def test_the_openapi_document_is_valid_and_names_units(ask: Any, spring: Any, grey: Any, token: str) -> None:
    plain = ask(spring, get("/openapi.json")).json()
    guarded = ask(spring, get("/openapi.json"), tokens=[token]).json()
    images = ask(grey, get("/openapi.json"), task="embed", batching={}).json()
    for document in (plain, guarded, images):
        validate(document)
    assert "securitySchemes" not in plain["components"]
    assert guarded["paths"]["/v1/energy_forces"]["post"]["security"]
    fields = plain["components"]["schemas"]["EnergyForcesOut"]["properties"]
    assert "eV/angstrom" in fields["forces"]["description"]
    assert "/v1/embed" in images["paths"]


def test_the_example_of_the_openapi_document_is_answered(ask: Any, spring: Any) -> None:
    document = ask(spring, get("/openapi.json")).json()
    example = document["components"]["schemas"]["EnergyForcesRequest"]["example"]
    assert ask(spring, post(example)).status_code == 200


class Recorder:
    """Double of a meter."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []
        self.statuses: list[str] = []

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self.seen.append((name, amount))
        self.statuses.append(labels["status"])

    def set(self, name: str, value: float) -> None:
        self.seen.append((name, value))

    def observe(self, name: str, value: float) -> None:
        self.seen.append((name, value))


def test_requests_and_batches_are_measured_by_names_of_the_table(make_spec: Any, spring: Any, token: str) -> None:
    meter: Any = Recorder()

    async def main() -> None:
        app = build_app(Served.of(make_spec(), "spring@3", spring, meter), tokens=Tokens([token]))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://endpoint") as client:
            body = {"structures": [structure(), structure()]}
            await client.post("/v1/energy_forces", json=body, headers={"Authorization": f"Bearer {token}"})
            await client.post("/v1/energy_forces", json=body)
            await client.get("/healthz")

    asyncio.run(main())
    assert {name for name, _ in meter.seen} <= METRICS.keys()
    assert meter.statuses == ["200", "401"]  # a refusal counts, a probe does not
    assert ("equi_batch_items", 2) in meter.seen
