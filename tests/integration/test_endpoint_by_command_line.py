"""`equi deploy`, `query`, `endpoints`, `undeploy` as a user types them: a driver in the background, real Ray Serve."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cluster.registry import move_alias, publish_model
from cluster.store import open_store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import save_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

POTENTIAL = ModelDescription(
    name="gaunt_potential",
    params={"lmax": 0, "channels": 2, "layers": 1, "cutoff": 4.0},
    embedding={"radial": {"name": "bessel", "params": {"number": 4}}},
    facts={
        "species": [1, 8],
        "reference_energies": [-13.0, -2042.0],
        "force_rms": 1.0,
        "force_mean_abs": 0.7,
        "energy_rms_per_atom": 0.1,
        "mean_neighbours": 5.0,
    },
)
SPEC = """
spec_version: 1
kind: endpoint
name: water
model: water@prod
task: energy_forces
replicas: {{cpus: 0.5}}
http: {{port: 0}}
auth: {{token_file: {tokens}}}
"""


def equi(folder: Path, *arguments: str, code: int = 0) -> str:
    """Standard output of one command; its exit code is `code`, and it shows no traceback."""
    ended = subprocess.run(
        [sys.executable, "-c", "from cluster.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "EQUI_STORE": str(folder / "store"), "EQUI_HOME": str(folder / "home")},
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout if code == 0 else ended.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a tiny model, a token file and a spec."""
    torch.manual_seed(0)
    save_model(tmp_path / "model", assemble(POTENTIAL), POTENTIAL)
    store = open_store(str(tmp_path / "store"))
    ref = publish_model(store, "water", tmp_path / "model", {"run": "test"})
    move_alias(store, "water", "prod", ref.version, who="test", why="test")
    (tmp_path / "tokens").write_text(secrets.token_hex(32))
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "endpoint.yaml").write_text(SPEC.format(tokens=tmp_path / "tokens"))
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n")
    return tmp_path


def test_an_endpoint_is_deployed_asked_listed_and_taken_down(folder: Path) -> None:
    spec = str(folder / "endpoint.yaml")
    wrong = equi(folder, "deploy", spec, "--set", "model=watr@prod", "--set", "replicas.gpus=9", code=2)
    assert "did you mean 'water'" in wrong
    assert "Nothing was submitted." in wrong
    record = json.loads(equi(folder, "deploy", spec, "--json"))
    try:
        assert (record["state"], record["model"]) == ("up", "water@1")
        table = equi(folder, "query", "water", "--structure", str(folder / "water.xyz"))
        assert "-2068" in table  # the references of one oxygen and two hydrogens: a fresh readout adds nothing
        assert "eV/angstrom" in table
        body = '{"structures": [{"numbers": [79], "positions": [[0, 0, 0]]}]}'
        assert "79 (Au)" in equi(folder, "query", "water", "--body", body, code=2)
        assert json.loads(equi(folder, "endpoints", "--json"))[0]["state"] == "up"
        port = record["url"].rpartition(":")[2]
        taken = equi(folder, "deploy", spec, "--set", "name=other", "--set", f"http.port={port}", code=2)
        assert f"port {port} on 127.0.0.1 is in use" in taken
    finally:
        equi(folder, "undeploy", "water")
    assert [e["state"] for e in json.loads(equi(folder, "endpoints", "--json"))] == ["down"]
    assert "cannot be reached" in equi(folder, "query", "water", "--structure", str(folder / "water.xyz"), code=2)
