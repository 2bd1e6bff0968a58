"""KubeRay's own schemas accept the manifests, unknown fields refused. They come with EQUI_BENCH_DATA."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from cluster.kuberay.render import render_kuberay

pytestmark = [
    pytest.mark.bench_data,
    pytest.mark.skipif("EQUI_BENCH_DATA" not in os.environ, reason="EQUI_BENCH_DATA is not set"),
]

CLUSTER = """
spec_version: 1
kind: cluster
backend: kuberay
store: s3://bucket/equimodels
store_secret_name: store
service_account: trainer
environment: {AWS_DEFAULT_REGION: eu-west-1}
workers:
  cpu: {cpus: 8, memory: 32Gi, count: {min: 1, max: 4}}
  gpu: {type: h200, per_node: 8, cpus: 96, memory: 1Ti, count: {min: 0, max: 2}}
"""
TRAIN = """
spec_version: 1
kind: train
name: ethanol
data: {uri: "datasets/ethanol-xtb@1", batch: {structures: 16}}
model: {name: gaunt_potential, params: {lmax: 2, channels: 16, layers: 2, cutoff: 4.5}}
embedding: {radial: {name: bessel, params: {number: 8}}}
objective: {name: energy_force, params: {force_weight: 100.0}}
resources: {workers: 2, cpus_per_worker: 1, gpus_per_worker: 1}
"""
ENDPOINT = """
spec_version: 1
kind: endpoint
name: ethanol
model: ethanol@prod
task: energy_forces
auth: {token_file: ~/.equimodels/tokens}
"""


def closed(schema: Any) -> Any:
    """A copy of a Kubernetes schema for plain JSON schema validation.

    Kubernetes drops fields that an object's `properties` do not name, so a typo passes; here they are an error. A
    value marked int-or-string may be either, whatever else is written beside the mark.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    lists_its_fields = result.get("type") == "object" and isinstance(result.get("properties"), dict)
    if lists_its_fields and not result.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if result.get("x-kubernetes-int-or-string") is True:
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    return result


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """By kind, those of ray.io/v1."""
    found = {}
    folder = Path(os.environ["EQUI_BENCH_DATA"]) / "kuberay-crds"
    for path in sorted(folder.glob("*.yaml")):
        definition = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
        (version,) = [version for version in definition["versions"] if version["name"] == "v1"]
        schema = closed(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}  # checked by Kubernetes itself, not by the definition
        found[definition["names"]["kind"]] = schema
    return found


@pytest.fixture(scope="module")
def complaints(schemas: dict[str, Any]) -> Callable[[dict[str, Any]], list[str]]:
    validators = {kind: Draft7Validator(schema) for kind, schema in schemas.items()}
    return lambda manifest: [error.message for error in validators[manifest["kind"]].iter_errors(manifest)]


@pytest.fixture
def manifests(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """By kind, everything rendered but the ConfigMap, which is not KubeRay's."""
    return render(tmp_path, [])


def render(folder: Path, overrides: list[str]) -> dict[str, dict[str, Any]]:
    paths = []
    for name, text in (("cluster", CLUSTER), ("train", TRAIN), ("endpoint", ENDPOINT)):
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text)
    files = render_kuberay(paths, overrides)
    found = [document for content in files.values() for document in YAML(typ="safe").load_all(content)]
    return {document["kind"]: document for document in found if document["apiVersion"].startswith("ray.io/")}


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayService"])
def test_kuberay_accepts_the_manifest_without_an_unknown_field(kind: str, manifests: Any, complaints: Any) -> None:
    assert complaints(manifests[kind]) == []


@pytest.mark.parametrize(
    "override",
    ["queue=team-a", "head.image=other:1", "workers.gpu.node_selector={pool: big}", "idle_seconds=5"],
)
def test_kuberay_accepts_every_option_of_the_cluster(override: str, tmp_path: Path, complaints: Any) -> None:
    for manifest in render(tmp_path, [override]).values():
        assert complaints(manifest) == []


def test_a_misspelled_field_is_refused(manifests: Any, complaints: Any) -> None:
    wrong = copy.deepcopy(manifests["RayCluster"])
    group = wrong["spec"]["workerGroupSpecs"][0]
    group["minReplica"] = group.pop("minReplicas")
    said = " ".join(complaints(wrong))
    assert "'minReplica' was unexpected" in said
    assert "'minReplicas' is a required property" in said


def test_the_schema_as_it_is_would_not_notice_the_typo(manifests: Any, schemas: Any) -> None:
    """Why `closed` is there: the same manifest with one field too many, and the definition as KubeRay ships it."""
    path = Path(os.environ["EQUI_BENCH_DATA"]) / "kuberay-crds" / "ray.io_rayclusters.yaml"
    definition = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
    (version,) = [version for version in definition["versions"] if version["name"] == "v1"]
    wrong = copy.deepcopy(manifests["RayCluster"])
    wrong["spec"]["workerGroupSpecs"][0]["minReplica"] = 1
    assert list(Draft7Validator(version["schema"]["openAPIV3Schema"]).iter_errors(wrong)) == []
    assert list(Draft7Validator(schemas["RayCluster"]).iter_errors(wrong)) != []


def test_a_wrong_type_deep_inside_a_pod_is_refused(manifests: Any, complaints: Any) -> None:
    wrong = copy.deepcopy(manifests["RayJob"])
    head = wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    head["containers"][0]["ports"][0]["containerPort"] = "6379"
    assert complaints(wrong) == ["'6379' is not of type 'integer'"]
