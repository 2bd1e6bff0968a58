"""From a file to a checked spec: kinds, versions, and complaints of a kind's own check."""

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ConfigDict

from cluster.errors import UserError
from cluster.front_door import KINDS, Kind, resolve
from cluster.spec import load
from cluster.spec.complaints import Complaint, Surroundings
from cluster.spec.description import ClusterSpec
from cluster.spec.load import load_spec
from cluster.spec.problems import SpecError

GOOD = """\
spec_version: 1
kind: cluster
backend: kuberay
store: s3://my-bucket/equimodels
workers:
  gpu: {type: h200, per_node: 8, count: {min: 0, max: 16}}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "c.yaml").write_text(text)
        return tmp_path / "c.yaml"

    return write


def told(path: Path, *overrides: str, **surroundings: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides, **surroundings)
    return str(caught.value).replace(str(path), "c.yaml")


def test_a_spec_is_loaded_with_its_kind_and_every_default(write) -> None:
    loaded = load_spec(write(GOOD), ["workers.gpu.cpus=32"])
    assert loaded.kind == "cluster"
    assert isinstance(loaded.spec, ClusterSpec)
    group = loaded.resolved()["workers"]["gpu"]
    assert (group["type"], group["cpus"], group["memory"]) == ("h200", 32, "16Gi")
    assert group["count"] == {"min": 0, "max": 16}


def test_what_is_resolved_is_a_valid_spec_again(write) -> None:
    resolved = load_spec(write(GOOD)).resolved()
    assert ClusterSpec.model_validate(resolved).model_dump(mode="json", by_alias=True) == resolved


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kind: clutser", "c.yaml:2:1  kind\n  found text 'clutser'; did you mean 'cluster'?\n  allowed: label, "),
        ("kind: [a]", "c.yaml:2:1  kind\n  found a list of 1\n"),
        ("kind:", "c.yaml:2:1  kind\n  found nothing (null)\n"),
        ("name: x", "c.yaml:1:1  kind\n  is missing\n  allowed: label, "),
    ],
)
def test_without_a_known_kind_the_kinds_are_named(write, line: str, message: str) -> None:
    assert message in told(write(GOOD.replace("kind: cluster", line)))


@pytest.mark.parametrize("version", ["2", "'1'", "true", "1.5"])
def test_another_version_of_the_spec_is_refused_and_nothing_else_is_said(write, version: str) -> None:
    text = told(write(GOOD.replace("spec_version: 1", f"spec_version: {version}") + "unknown: 1\n"))
    assert "c.yaml:1:1  spec_version\n  found " in text
    assert text.endswith("\n1 problem. Nothing was submitted.")


def test_the_version_is_not_optional(write) -> None:
    assert "spec_version\n  is missing" in told(write(GOOD.replace("spec_version: 1\n", "")))


def test_an_empty_file_is_one_problem(write) -> None:
    assert told(write("")).splitlines()[1:] == [
        "  the file is empty",
        "  allowed: a mapping that begins with spec_version and kind",
        "1 problem. Nothing was submitted.",
    ]


def test_duplicate_keys_are_told_beside_the_problems_of_the_schema(write) -> None:
    text = told(write(GOOD + "store: s3://other\nnmae: x\n"))
    assert "c.yaml:7:1  store\n  is given twice; the first is in line 4" in text
    assert "c.yaml:8:1  nmae\n  unknown setting; did you mean 'name'?" in text
    assert text.endswith("2 problems. Nothing was submitted.")


def test_an_unknown_key_does_not_hide_what_the_check_has_to_say(write) -> None:
    text = told(write(GOOD + "nmae: x\n"), "workers.gpu.typ=1", "workers.gpu.type=~")
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "c.yaml:6:21  workers.gpu.per_node",
        "c.yaml:7:1  nmae",
        "--set workers.gpu.typ=1  workers.gpu.typ",
        "3 problems. Nothing was submitted.",
    ]


def test_a_value_that_does_not_fit_does_not_hide_it_either(write) -> None:
    text = told(write(GOOD), "workers.gpu.type=~", "head.cpus=many")
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "c.yaml:6:21  workers.gpu.per_node",
        "--set head.cpus=many  head.cpus",
        "2 problems. Nothing was submitted.",
    ]


def test_the_default_that_stands_in_for_such_a_value_is_nobodys_mistake(write, monkeypatch) -> None:
    complaints = [Complaint(("head", "cpus"), "too many"), Complaint(("store",), "is not there")]
    monkeypatch.setattr(Kind, "complaints", lambda *arguments: complaints)
    assert "too many" in told(write(GOOD + "head: {cpus: 8}\n"))
    text = told(write(GOOD + "head: {cpus: many}\n"))
    assert "too many" not in text
    assert "is not there" in text


def test_a_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_spec(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("overrides", "complaints"),
    [
        (["workers.gpu.type=~"], ["c.yaml:6:21  workers.gpu.per_node"]),
        (["workers.gpu.per_node=0"], ["c.yaml:6:9  workers.gpu.type"]),
        (["store=.equi", "token_file=x"], ["--set store=.equi  store", "--set token_file=(hidden)  token_file"]),
        (["workers={}"], ["--set workers={}  workers"]),
        (["backend=address"], ["c.yaml:3:1  backend", "c.yaml:5:1  workers"]),
        (["backend=local"], ["c.yaml:5:1  workers"]),
        (["backend=address", "address=head:6379"], ["c.yaml:5:1  workers", "--set address=head:6379  address"]),
    ],
)
def test_what_does_not_go_together_is_complained_about_at_its_place(
    write, overrides: list[str], complaints: list[str]
) -> None:
    lines = told(write(GOOD), *overrides).splitlines()
    heads = [line for line in lines[:-1] if not line.startswith(" ")]
    if overrides == ["backend=address"]:
        # A setting that is missing is blamed on what is around it: here the top of the file.
        complaints = ["c.yaml:1:1  address", "c.yaml:5:1  workers"]
    assert heads == complaints


def test_the_capacity_of_a_cluster_is_that_of_its_groups_at_their_largest(write) -> None:
    assert load_spec(write(GOOD)).spec.most() == {"CPU": 64.0, "GPU": 128.0}


def complain(spec: Any, surroundings: Surroundings) -> list[Complaint]:
    store, capacity = surroundings.store, surroundings.capacity
    return [
        Complaint(("workers", "gpu", "per_node"), f"needs {store} {capacity}", "8 GPUs", "ask for less"),
        Complaint((), f"in {surroundings.folder}"),
    ]


def test_the_check_of_a_kind_is_told_its_surroundings_and_becomes_problems(write, monkeypatch) -> None:
    kinds = {"cluster": Kind("", "cluster.spec.description:ClusterSpec", None, f"{__name__}:complain")}
    monkeypatch.setattr(load, "KINDS", MappingProxyType(kinds))
    path = write(GOOD)
    text = told(path, store="a store", capacity={"GPU": 8.0})
    assert text == (
        f"c.yaml:1:1\n  in {path.parent}\n"
        "c.yaml:6:21  workers.gpu.per_node\n  needs a store {'GPU': 8.0}\n  allowed: 8 GPUs\n  ask for less\n"
        "2 problems. Nothing was submitted."
    )


def test_a_complaint_does_not_show_a_secret_of_the_spec(write, monkeypatch) -> None:
    def leak(spec: Any, surroundings: Surroundings) -> list[Complaint]:
        return [Complaint(("store",), "password hunter2XYZ is wrong", "not hunter2XYZ", "hunter2XYZ!")]

    monkeypatch.setattr(load, "KINDS", {"x": Kind("", "", None, "")})
    monkeypatch.setattr(Kind, "model", lambda self: Secretive)
    monkeypatch.setattr(Kind, "complaints", lambda self, spec, surroundings: leak(spec, surroundings))
    text = told(write("spec_version: 1\nkind: x\npassword: hunter2XYZ\n"))
    assert "hunter2XYZ" not in text
    assert text.count("(hidden)") == 3


class Secretive(ClusterSpec):
    """Any mapping is allowed."""

    model_config = ConfigDict(extra="allow")
    kind: str  # type: ignore[assignment]  # a wider type than the literal it replaces
    backend: str = "local"  # type: ignore[assignment]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_has_a_schema_that_begins_like_every_spec(name: str) -> None:
    schema = KINDS[name].model().model_json_schema(by_alias=True)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"]["const"] == name
    assert "kind" in schema["required"]
    assert schema["properties"]["spec_version"]["const"] == 1


def test_a_kind_that_is_not_run_says_so() -> None:
    with pytest.raises(LookupError, match="has no runner"):
        KINDS["cluster"].run()


def test_a_reference_that_leads_nowhere_is_our_fault() -> None:
    with pytest.raises(ModuleNotFoundError):
        resolve("cluster.nothing:here")
    with pytest.raises(AttributeError):
        resolve("cluster.errors:NothingOfThatName")


def test_every_name_behind_a_kind_leads_somewhere() -> None:
    program = (
        "from cluster.front_door import KINDS, resolve\n"
        "names = [name for kind in KINDS.values() for name in (kind.spec, kind.runner, kind.check) if name]\n"
        "print(sum(callable(resolve(name)) for name in names))"
    )  # in a process of its own: the runners import Ray, which reads its environment once
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    expected = sum(name is not None for kind in KINDS.values() for name in (kind.spec, kind.runner, kind.check))
    assert done.stdout.split() == [str(expected)], done.stderr
