"""A real endpoint: Ray Serve on an embedded session, a small untrained potential from a registry, plain HTTP."""

import concurrent.futures
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from cluster.context import RunContext
from cluster.errors import ClusterError, UserError
from cluster.progress import Progress
from cluster.registry import move_alias, publish_model
from cluster.session import open_session
from cluster.store import Store, open_store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import load_model, save_model
from equimodels.models.graph import AtomGraph, Structure
from serve.client import EndpointClient, RefusedError
from serve.deploy import Endpoint, deploy, run, withdraw
from serve.record import load_record
from serve.spec import EndpointSpec

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

CUTOFF = 4.0
TOKEN = "token-of-the-integration-test"
FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.0, -2042.0],
    "force_rms": 1.0,
    "force_mean_abs": 0.7,
    "energy_rms_per_atom": 0.1,
    "mean_neighbours": 5.0,
}
POTENTIAL = ModelDescription(
    name="gaunt_potential",
    params={"lmax": 1, "channels": 4, "layers": 1, "cutoff": CUTOFF},
    embedding={"radial": {"name": "bessel", "params": {"number": 4}}},
    facts=FACTS,
)
WATER = {"numbers": [8, 1, 1], "positions": [[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]]}


@dataclass(frozen=True)
class Site:
    """A session with a store that has a model, and how to make contexts of runs on it."""

    store: Store
    folder: Path  # of the model's files
    context: RunContext
    token_file: Path

    def spec(self, **changes: Any) -> EndpointSpec:
        base: dict[str, Any] = {
            "spec_version": 1,
            "kind": "endpoint",
            "name": "water",
            "model": "water@prod",
            "task": "energy_forces",
            "replicas": {"cpus": 0.5},
            "http": {"port": 0},
            "auth": {"token_file": str(self.token_file)},
        }
        return EndpointSpec.model_validate({**base, **changes})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("serve")
    store, folder, token_file = open_store(str(base / "store")), base / "model", base / "tokens"
    torch.manual_seed(0)
    model = assemble(POTENTIAL)
    with torch.no_grad():
        for parameter in model.parameters():  # a fresh readout is zero, and zero forces would prove nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(folder, model, POTENTIAL)
    ref = publish_model(store, "water", folder, {"task": "energy_forces", "run": "test"})
    move_alias(store, "water", "prod", ref.version, who="test", why="test")
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    with open_session(home=base / "home", cpus=2) as session:
        context = RunContext(
            run_id="endpoint-water-1",
            store=store,
            progress=Progress(),
            workdir=base,
            resume=False,
            stop_requested=lambda: False,
            session=session,
        )
        yield Site(store, folder, context, token_file)


@pytest.fixture(scope="module")
def refused_port(site: Site) -> str:
    """What happens with a port in use, before anything else is deployed on this session."""
    from ray import serve as ray_serve

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ClusterError) as caught:
            deploy(site.spec(http={"port": server.getsockname()[1]}), site.context)
        assert not ray_serve.status().applications
        assert not ray_serve.status().proxies
    return str(caught.value)


@pytest.fixture(scope="module")
def endpoint(site: Site, refused_port: str) -> Iterator[Endpoint]:
    yield deploy(site.spec(), site.context)
    withdraw("water", site.context)


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[EndpointClient]:
    with EndpointClient(endpoint.url, token=TOKEN) as client:
        yield client


def test_a_port_in_use_is_refused_before_anything_is_deployed(refused_port: str) -> None:
    assert "is in use by another process; nothing was deployed" in refused_port


def test_the_endpoint_says_what_the_published_model_says(site: Site, client: EndpointClient) -> None:
    answer = client.energy_forces([WATER, WATER])
    structure = Structure.of(np.array(WATER["numbers"]), np.array(WATER["positions"]), CUTOFF)
    expected = load_model(site.folder)(AtomGraph.collate([structure]).to(dtype=torch.float32))
    assert answer["model"] == "water@1"
    assert answer["units"]["forces"] == "eV/angstrom"
    for result in answer["results"]:
        assert result["energy"] == pytest.approx(float(expected.energy[0]), rel=1e-6)
        np.testing.assert_allclose(result["forces"], expected.forces.detach().numpy(), atol=1e-5)
    assert np.abs(answer["results"][0]["forces"]).max() > 1e-3


def test_plain_http_needs_the_token(endpoint: Endpoint) -> None:
    url = f"{endpoint.url}/v1/energy_forces"
    body = {"structures": [WATER]}
    without = httpx.post(url, json=body, trust_env=False)
    wrong = httpx.post(url, json=body, headers={"Authorization": "Bearer wrong"}, trust_env=False)
    right = httpx.post(url, json=body, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
    assert [answer.status_code for answer in (without, wrong, right)] == [401, 401, 200]


def test_health_openapi_and_docs_are_served(endpoint: Endpoint) -> None:
    assert httpx.get(f"{endpoint.url}/healthz", trust_env=False).json() == {"status": "ok", "model": "water@1"}
    assert "/v1/energy_forces" in httpx.get(f"{endpoint.url}/openapi.json", trust_env=False).json()["paths"]
    page = httpx.get(f"{endpoint.url}/docs", trust_env=False)
    assert page.headers["content-type"].startswith("text/html")
    assert "eV/angstrom" in page.text


def test_malformed_requests_are_refused_and_good_ones_still_answered(client: EndpointClient) -> None:
    gold = {**WATER, "numbers": [79, 1, 1]}
    close = {**WATER, "positions": [[0, 0, 0], [0, 0, 0.01], [0, 0, 1]]}
    for body, words in (
        ({"oops": 1}, "required"),
        ({"structures": [WATER, gold]}, r"structures\[1\].numbers\[0\]: atomic number 79 \(Au\)"),
        ({"structures": [close]}, "angstrom apart"),
    ):
        with pytest.raises(RefusedError, match=words) as caught:
            client.post("/v1/energy_forces", body)
        assert caught.value.status == 422
        assert len(client.energy_forces([WATER])["results"]) == 1


def test_the_record_names_the_token_file_and_never_the_token(site: Site, endpoint: Endpoint) -> None:
    record = load_record(site.store, "water")
    assert (record.state, record.url, record.model, record.reference) == ("up", endpoint.url, "water@1", "water@prod")
    assert (record.run_id, record.token_file) == ("endpoint-water-1", str(site.token_file))
    for path in Path(site.store.uri.removeprefix("file://")).rglob("*.json"):
        assert TOKEN not in path.read_text()


@pytest.mark.slow
def test_a_killed_replica_costs_retries_and_no_error(endpoint: Endpoint) -> None:
    (victim,) = _replica_pids("water")

    def ask(number: int) -> int:
        with EndpointClient(endpoint.url, token=TOKEN, retries=60) as client:
            done, until = 0, time.monotonic() + 3
            while time.monotonic() < until or done == 0:
                done += len(client.energy_forces([WATER])["results"])
        return done

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        time.sleep(1)
        os.kill(victim, signal.SIGKILL)
        assert all(future.result() > 0 for future in asking)
    with EndpointClient(endpoint.url, token=TOKEN, retries=60) as client:
        client.energy_forces([WATER])
    assert _replica_pids("water") != [victim]


def test_a_second_endpoint_needs_a_prefix_of_its_own(site: Site, endpoint: Endpoint) -> None:
    with pytest.raises(ClusterError, match=r"http\.prefix / is taken by endpoint water"):
        deploy(site.spec(name="other"), site.context)
    port = int(endpoint.url.rpartition(":")[2])
    with pytest.raises(ClusterError, match=f"listens on 127.0.0.1, port {port} already"):
        deploy(site.spec(name="other", http={"port": 1 if port != 1 else 2}), site.context)
    other = deploy(site.spec(name="other", http={"port": port, "prefix": "/other"}, auth=None), site.context)
    try:
        assert other.url == f"{endpoint.url}/other"
        assert httpx.get(f"{other.url}/docs", trust_env=False).text.count("/other/v1/energy_forces") > 0
        with EndpointClient(other.url) as client:
            assert client.model()["endpoint"] == "other"
    finally:
        withdraw("other", site.context)
    assert load_record(site.store, "other").state == "down"
    with EndpointClient(endpoint.url, token=TOKEN) as client:
        client.health()


def test_what_the_spec_asks_and_cannot_have_is_said_before_deployment(site: Site) -> None:
    with pytest.raises(UserError, match=r"model: .*watre.*did you mean 'water'"):
        deploy(site.spec(model="watre@prod"), site.context)
    with pytest.raises(UserError, match=r"alias 'prd'.*did you mean 'prod'"):
        deploy(site.spec(model="water@prd"), site.context)
    with pytest.raises(UserError, match="cannot do embed"):
        deploy(site.spec(task="embed"), site.context)
    with pytest.raises(UserError, match="3 replicas of 1 CPU"):
        deploy(site.spec(replicas={"min": 3, "max": 3}), site.context)


def test_the_runner_stays_until_it_is_stopped_and_takes_the_endpoint_down(site: Site, endpoint: Endpoint) -> None:
    looks: list[str] = []
    port = int(endpoint.url.rpartition(":")[2])

    def stop() -> bool:
        """True once the endpoint has answered while the runner holds it."""
        try:
            record = load_record(site.store, "held")
        except UserError:
            return False
        looks.append(json.dumps(httpx.get(f"{record.url}/healthz", trust_env=False).json()))
        return len(looks) >= 2

    context = RunContext(
        run_id="endpoint-held-1",
        store=site.store,
        progress=Progress(),
        workdir=site.context.workdir,
        resume=False,
        stop_requested=stop,
        session=site.context.session,
    )
    outputs = run(site.spec(name="held", http={"port": port, "prefix": "/held"}), context)
    assert outputs["url"] == f"{endpoint.url}/held"
    assert all('"ok"' in look for look in looks)
    assert load_record(site.store, "held").state == "down"
    # The endpoint at / is asked now, under a path that it does not have.
    assert httpx.get(f"{endpoint.url}/held/healthz", trust_env=False).status_code == 401


def _replica_pids(name: str) -> list[int]:
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()["applications"][name]["deployments"]["endpoint"]
    return [replica["pid"] for replica in details["replicas"] if replica["state"] == "RUNNING"]
