"""The files of infra/ agree with the sources: images, scrape configuration, rules."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cluster.kuberay.pods import USER
from cluster.metrics import METRICS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
IMAGES = sorted((INFRA / "docker").glob("*.Dockerfile"))
PROMETHEUS = INFRA / "prometheus"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def instructions(path: Path) -> list[str]:
    """The instructions of a Dockerfile, continuation lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [line for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_there_is_an_image_with_and_one_without_cuda() -> None:
    assert [path.name for path in IMAGES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


def test_all_images_have_the_same_base_because_ray_wants_one_python_in_a_cluster() -> None:
    bases = {line.split()[1] for path in IMAGES for line in instructions(path) if line.startswith("FROM")}
    assert len(bases) == 1
    (base,) = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)  # pinned to the patch release


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_ends_as_the_user_that_the_pods_run_as(path: Path) -> None:
    users = [line.split()[1] for line in instructions(path) if line.startswith("USER")]
    assert users[-1] == f"{USER}:{USER}"
    after = instructions(path)[instructions(path).index(f"USER {users[-1]}") :]
    assert not any(line.startswith("RUN") for line in after)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_an_image_installs_the_hashed_lock_and_the_pinned_torch(path: Path) -> None:
    text = "\n".join(instructions(path))
    pinned = re.search(r'"(torch==[\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert pinned[1] in text
    for lock in ("requirements-build.lock", "requirements.lock"):
        assert re.search(rf"--no-deps --require-hashes .*-r {lock}", text)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_everything_an_image_copies_is_let_through_by_dockerignore(path: Path) -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in instructions(path)
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert set(copied) == let_through


def test_the_list_of_nodes_is_asked_for_with_a_token_file_and_no_token() -> None:
    (job,) = load(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    (discovery,) = job["http_sd_configs"]
    assert discovery["url"].endswith("/api/prometheus/sd")
    assert set(discovery["authorization"]) == {"type", "credentials_file"}


def test_rules_ask_for_series_of_the_table_or_of_ray_itself() -> None:
    known = {series for metric in METRICS.values() for series in metric.series}
    for rule in load(PROMETHEUS / "rules.yml")["groups"][0]["rules"]:
        asked = set(re.findall(r"\bray_\w+", rule["expr"]))
        assert asked
        assert {name for name in asked if name != "ray_actors"} <= known


def test_every_alert_has_a_test() -> None:
    alerts = {rule["alert"] for rule in load(PROMETHEUS / "rules.yml")["groups"][0]["rules"]}
    cases = [case for test in load(PROMETHEUS / "rules_test.yml")["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts


def test_the_dashboard_is_provisioned_as_data_not_as_a_secret() -> None:
    (provider,) = load(INFRA / "grafana" / "provisioning" / "dashboards" / "equimodels.yaml")["providers"]
    assert provider["type"] == "file"
    (source,) = load(INFRA / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    assert "secureJsonData" not in source


@needs_promtool
def test_prometheus_accepts_configuration_and_rules() -> None:
    for arguments in (["check", "config", "--syntax-only", "prometheus.yml"], ["check", "rules", "rules.yml"]):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ray_equi_samples_total[5m]", "ray_equi_sample_total[5m]"),
        ("sum by (run_id) (rate(ray_equi_samples_total[5m])) == 0", "rate(ray_equi_samples_total[5m]) == 0"),
        ("> 0.05", "> 0.005"),
    ],
)
def test_a_wrong_rule_fails_its_test(right: str, wrong: str, tmp_path: Path) -> None:
    rules = (PROMETHEUS / "rules.yml").read_text()
    assert right in rules
    (tmp_path / "rules.yml").write_text(rules.replace(right, wrong))
    shutil.copy(PROMETHEUS / "rules_test.yml", tmp_path)
    assert promtool("test", "rules", "rules_test.yml", folder=tmp_path).returncode != 0
