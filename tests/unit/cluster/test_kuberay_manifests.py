"""What the manifests say. Whether KubeRay's schemas accept them is asked in test_kuberay_schemas.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from cluster import cli
from cluster.errors import UserError
from cluster.kuberay.manifests import RAY_VERSION
from cluster.kuberay.naming import run_name
from cluster.kuberay.render import render_kuberay
from cluster.kuberay.text import yaml_text
from cluster.spec.problems import SpecError
from serve.auth import read_tokens

CLUSTER = """
spec_version: 1
kind: cluster
backend: kuberay
store: s3://bucket/equimodels
store_secret_name: store
workers:
  cpu: {cpus: 8, memory: 32Gi, count: {min: 1, max: 4}}
  gpu: {type: h200, per_node: 8, cpus: 96, memory: 1Ti, count: {min: 0, max: 2}}
"""
LABEL = """
spec_version: 1
kind: label
name: ethanol-xtb
structures: {molecule: ethanol}
method: {name: tblite, params: {method: GFN2-xTB}}
sampling: {name: md, params: {temperature_K: 500, trajectories: 4, frames: 200, every_fs: 10}}
split: {by: trajectory, valid: 1, test: 1}
"""
TRAIN = """
spec_version: 1
kind: train
name: ethanol
data: {uri: "datasets/ethanol-xtb@1", batch: {structures: 16}}
model: {name: gaunt_potential, params: {lmax: 2, channels: 16, layers: 2, cutoff: 4.5}}
embedding: {radial: {name: bessel, params: {number: 8}}}
objective: {name: energy_force, params: {force_weight: 100.0}}
resources: {workers: 2, cpus_per_worker: 1, gpus_per_worker: 0}
"""
ENDPOINT = """
spec_version: 1
kind: endpoint
name: ethanol
model: ethanol@prod
task: energy_forces
auth: {token_file: ~/no/such/tokens}
"""


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, Path]:
    texts = {"cluster": CLUSTER, "label": LABEL, "train": TRAIN, "endpoint": ENDPOINT}
    paths = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    return paths


def documents(files: dict[str, bytes], start: str) -> list[dict[str, Any]]:
    (content,) = [content for name, content in files.items() if name.startswith(start)]
    return list(YAML(typ="safe").load_all(content))


def cluster_of(specs: dict[str, Path], *overrides: str) -> dict[str, Any]:
    return documents(render_kuberay([specs["cluster"]], overrides), "raycluster")[0]["spec"]


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def test_a_cluster_spec_alone_gives_a_cluster_alone(specs: dict[str, Path]) -> None:
    assert list(render_kuberay([specs["cluster"]])) == ["raycluster.yaml"]


def test_the_same_specs_give_the_same_bytes_in_any_order(specs: dict[str, Path]) -> None:
    paths = list(specs.values())
    assert render_kuberay(paths) == render_kuberay(paths[::-1])


def test_the_cluster_grows_by_autoscaler_v2_and_asks_for_a_token(specs: dict[str, Path]) -> None:
    spec = cluster_of(specs)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token", "secretName": "equimodels-token"}
    pods = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    assert {pod["spec"]["restartPolicy"] for pod in pods} == {"Never"}


def test_every_pod_runs_without_rights(specs: dict[str, Path]) -> None:
    spec = cluster_of(specs)
    for template in [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]:
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_worker_groups_are_those_of_the_spec(specs: dict[str, Path]) -> None:
    cpu, gpu = cluster_of(specs)["workerGroupSpecs"]
    assert [cpu["groupName"], cpu["minReplicas"], cpu["maxReplicas"]] == ["cpu", 1, 4]
    assert cpu["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "32Gi"}
    assert "nodeSelector" not in cpu["template"]["spec"]
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert gpu["template"]["spec"]["nodeSelector"] == {"equimodels/accelerator": "h200"}


def test_an_own_node_selector_replaces_ours(specs: dict[str, Path]) -> None:
    gpu = cluster_of(specs, "workers.gpu.node_selector={pool: big}")["workerGroupSpecs"][1]
    assert gpu["template"]["spec"]["nodeSelector"] == {"pool": "big"}


def test_the_head_takes_no_work(specs: dict[str, Path]) -> None:
    assert cluster_of(specs)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_ray_is_the_version_that_the_project_pins(specs: dict[str, Path]) -> None:
    pinned = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'"ray[train,tune,serve]=={RAY_VERSION}"' in pinned
    assert cluster_of(specs)["rayVersion"] == RAY_VERSION


def test_a_secret_is_a_name_in_every_manifest(specs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "EQUI_TOKEN"):
        monkeypatch.setenv(name, "hunter2-hunter2")
    for content in render_kuberay(list(specs.values())).values():
        assert b"hunter2" not in content
        for document in YAML(typ="safe").load_all(content):
            assert document["kind"] != "Secret"
    head = cluster_of(specs)["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["envFrom"] == [{"secretRef": {"name": "store"}}]


def test_a_secret_in_the_environment_of_the_nodes_is_refused_and_not_shown(specs: dict[str, Path]) -> None:
    with pytest.raises(SpecError) as refused:
        cluster_of(specs, "environment.AWS_SECRET_ACCESS_KEY=hunter2-hunter2")
    assert "no place for a secret" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_job_brings_its_spec_and_its_cluster(specs: dict[str, Path]) -> None:
    config, job = documents(render_kuberay([specs["cluster"], specs["label"]]), "rayjob")
    run = job["metadata"]["name"]
    assert config["metadata"]["name"] == run
    assert YAML(typ="safe").load(config["data"]["spec.yaml"])["sampling"]["params"]["temperature_K"] == 500
    assert f"--run {run} " in job["spec"]["entrypoint"]
    assert "--store s3://bucket/equimodels" in job["spec"]["entrypoint"]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "spec", "configMap": {"name": run}} in head["volumes"]
    mounted = {mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    assert any(f"--spec {folder}/spec.yaml" in job["spec"]["entrypoint"] for folder in mounted)


def test_another_content_is_another_run(specs: dict[str, Path]) -> None:
    before = set(render_kuberay([specs["cluster"], specs["label"]]))
    specs["label"].write_text(LABEL.replace("500", "501"))
    after = set(render_kuberay([specs["cluster"], specs["label"]]))
    assert len(before & after) == 1  # the cluster; the job has another name


def test_a_queue_gives_a_job_of_fixed_size(specs: dict[str, Path]) -> None:
    paths = [specs["cluster"], specs["label"]]
    _, job = documents(render_kuberay(paths, ["queue=team-a"]), "rayjob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [4, 2]
    _, job = documents(render_kuberay(paths), "rayjob")
    assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]


def test_an_endpoint_listens_inside_its_pod_and_reads_tokens_that_only_it_can_read(specs: dict[str, Path]) -> None:
    (service,) = documents(render_kuberay([specs["cluster"], specs["endpoint"]]), "rayservice")
    (application,) = YAML(typ="safe").load(service["spec"]["serveConfigV2"])["applications"]
    inside = application["args"]["spec"]
    assert (inside["http"]["host"], inside["http"]["port"]) == ("0.0.0.0", 8000)
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        (copy,) = pod["initContainers"]
        assert "umask 077" in copy["command"][-1]
        mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        assert str(Path(inside["auth"]["token_file"]).parent) in mounted
        assert {"secretName": "ethanol-tokens", "defaultMode": 0o440} in [v.get("secret") for v in pod["volumes"]]


def test_a_copy_made_that_way_is_a_token_file_and_the_mounted_secret_is_none(tmp_path: Path) -> None:
    secret, copies = tmp_path / "secret", tmp_path / "tokens"
    secret.mkdir()
    copies.mkdir()
    (secret / "tokens").write_text("a" * 64 + "\n")
    (secret / "tokens").chmod(0o440)
    subprocess.run(["sh", "-c", f"umask 077 && cp {secret}/* {copies}/"], check=True)
    assert read_tokens(copies / "tokens")
    with pytest.raises(UserError):
        read_tokens(secret / "tokens")


def test_the_application_of_a_service_is_one_that_serve_has(specs: dict[str, Path]) -> None:
    from cluster.front_door import resolve
    from serve.spec import EndpointSpec

    (service,) = documents(render_kuberay([specs["cluster"], specs["endpoint"]]), "rayservice")
    (application,) = YAML(typ="safe").load(service["spec"]["serveConfigV2"])["applications"]
    assert callable(resolve(application["import_path"]))
    assert EndpointSpec.model_validate(application["args"]["spec"]).name == "ethanol"


def test_ray_serve_itself_accepts_the_configuration_of_a_service(specs: dict[str, Path]) -> None:
    program = (
        "import sys, ray.serve.schema as schema; from ruamel.yaml import YAML\n"
        "schema.ServeDeploySchema.model_validate(YAML(typ='safe').load(sys.stdin.read()))\n"
    )  # in a process of its own: Ray reads its environment once, when it is imported

    def accepted(text: str) -> bool:
        command = [sys.executable, "-W", "ignore", "-c", program]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False).returncode == 0

    (service,) = documents(render_kuberay([specs["cluster"], specs["endpoint"]]), "rayservice")
    text = service["spec"]["serveConfigV2"]
    assert accepted(text)
    assert not accepted(text.replace("import_path:", "import_pth:"))


def test_an_endpoint_without_tokens_is_refused(specs: dict[str, Path]) -> None:
    specs["endpoint"].write_text(ENDPOINT.replace("auth: {token_file: ~/no/such/tokens}", ""))
    with pytest.raises(SpecError, match="needs tokens"):
        render_kuberay([specs["cluster"], specs["endpoint"]])


def test_replicas_larger_than_any_node_are_refused_with_their_place(specs: dict[str, Path]) -> None:
    specs["endpoint"].write_text(ENDPOINT + "replicas: {min: 1, max: 2, gpus: 9}\n")
    with pytest.raises(SpecError, match=r"endpoint.yaml:\d+:\d+  replicas.max") as refused:
        render_kuberay([specs["cluster"], specs["endpoint"]])
    assert "larger than any node" in str(refused.value)


def test_a_worker_larger_than_any_node_is_refused_with_its_place(specs: dict[str, Path]) -> None:
    assert len(render_kuberay([specs["cluster"], specs["train"]])) == 2
    specs["train"].write_text(TRAIN.replace("cpus_per_worker: 1", "cpus_per_worker: 97"))  # 224 in all nodes together
    with pytest.raises(SpecError, match=r"train.yaml:\d+:\d+  resources.workers") as refused:
        render_kuberay([specs["cluster"], specs["train"]])
    assert "97" in str(refused.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["label"], "found 0 specs of kind cluster"),
        (["cluster", "cluster"], "found 2 specs of kind cluster"),
        (["cluster", "label", "label"], "two of the specs would become"),
    ],
)
def test_specs_that_do_not_go_together_are_refused(specs: dict[str, Path], names: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        render_kuberay([specs[name] for name in names])


def test_a_cluster_of_another_backend_has_no_manifests(specs: dict[str, Path]) -> None:
    specs["cluster"].write_text("{spec_version: 1, kind: cluster, backend: local}")
    with pytest.raises(UserError, match="backend local"):
        render_kuberay([specs["cluster"]])


def test_names_that_kuberay_refuses_are_refused_here(specs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="Kubernetes object"):
        cluster_of(specs, f"name={'a' * 48}")
    assert len(run_name("label", "x" * 90, "")) <= 47
    assert run_name("label", "A_b.c", "1") != run_name("label", "A_b.c", "2")


def test_yaml_is_read_alike_by_both_versions_of_the_language() -> None:
    value = {
        "on": "no", "time": "12:30", "number": "1e3", "tilde": "~", "empty": "", "space": " a", "mark": "#x",
        "colon": "a: b", "lines": "x\n  y\n", "trailing": "a \nb\n", "octal": "0o17", "small": 1e-06, "large": 1.5e22,
        "negative": -2.5e-9, "flag": True, "none": None, "map": {}, "list": [], "nested": [{"a": ["b", 1]}],
    }  # fmt: skip
    text = yaml_text(value)
    assert yaml.safe_load(text) == value  # 1.1
    assert YAML(typ="safe").load(text) == value  # 1.2


def test_the_command_writes_all_files_or_says_which(
    specs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["cluster", "render", "kuberay", *map(str, specs.values()), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--dry-run", "--json"])
    assert ended.value.code == 0
    assert not out.exists()
    said = json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert sorted(str(path) for path in out.iterdir()) == sorted(said["files"])
    assert len(said["files"]) == 4


def test_nothing_is_written_when_one_spec_is_wrong(
    specs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs["cluster"].write_text(CLUSTER.replace("per_node: 8", "per_nod: 8"))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        cli.main(["cluster", "render", "kuberay", *map(str, specs.values()), "--out", str(out)])
    assert ended.value.code == 2
    assert not out.exists()
    assert "did you mean 'per_node'?" in capsys.readouterr().err
