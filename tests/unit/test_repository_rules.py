"""Rules that no linter knows: what is never called, how files are named and how long they may be."""

import ast
import re
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("equimodels", "cluster", "jobs", "serve")
FORBIDDEN_NAMES = {"utils", "common", "helpers", "types", "logging", "queue", "json", "misc"}
LONGEST = 600
# Put together here, so that this file does not contain what it looks for.
STOPS_EVERYTHING = [re.compile(r"\bray[\"',\s]+" + "stop" + r"\b"), re.compile("Autoscaling" + "Cluster")]
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:wo" + r"rk|ro" + r"ot)/[\w.]")


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, and new ones that are not ignored, that exist."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z", *patterns]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def code_only(source: str) -> str:
    """Python without comments and docstrings: those may warn of what the code must not do."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def stops_everything(source: str) -> bool:
    """Whether the code would end Ray processes that are not its own."""
    if not any(pattern.search(source) for pattern in STOPS_EVERYTHING):
        return False  # parsing takes the time of this test
    code = code_only(source)
    return any(pattern.search(code) for pattern in STOPS_EVERYTHING)


def prints(source: str) -> bool:
    """Whether the code calls the built-in print."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def names_a_machine(text: str) -> bool:
    """Whether the text has an absolute path that only one machine has."""
    return MACHINE_PATHS.search(text) is not None


def test_nothing_ends_the_ray_processes_of_others() -> None:
    assert [path for path in tracked("*.py") if stops_everything(path.read_text())] == []


def test_ending_the_ray_processes_of_others_is_noticed() -> None:
    stop = "st" + "op"
    assert stops_everything(f'subprocess.run("ray {stop} --force", shell=True)')
    assert stops_everything(f'subprocess.run(["ray", "{stop}"])')
    assert stops_everything("from ray.cluster_utils import Autoscaling" + "Cluster")
    assert not stops_everything(f'"""Never call ray {stop}."""\nray.shutdown()')


def test_no_file_has_a_name_that_says_nothing_or_hides_the_standard_library() -> None:
    assert [path for path in tracked("*.py") if path.stem in FORBIDDEN_NAMES] == []


def test_no_source_file_is_longer_than_600_lines() -> None:
    assert [path for path in tracked("*.py") if len(path.read_text().splitlines()) > LONGEST] == []


def test_the_four_packages_belong_to_this_distribution_alone() -> None:
    owners = packages_distributions()
    assert {name: sorted(set(owners[name])) for name in PACKAGES} == {name: ["equimodels"] for name in PACKAGES}


def test_no_package_prints() -> None:
    sources = [path for path in tracked("*.py") if path.relative_to(ROOT).parts[0] in PACKAGES]
    assert len(sources) > 50
    assert [path for path in sources if prints(path.read_text())] == []
    assert prints("def f():\n    print('x')\n")
    assert not prints("console.print('x')")


def test_no_file_names_a_path_of_one_machine() -> None:
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".Dockerfile", ""}
    wrong = [
        path
        for path in tracked()
        if path.suffix in suffixes and names_a_machine(path.read_bytes().decode(errors="replace"))
    ]
    assert wrong == []


def test_a_path_of_one_machine_is_noticed() -> None:
    assert names_a_machine('open("/wo' + 'rk/main/x")')
    assert names_a_machine("see /ro" + "ot/.cache")
    assert not names_a_machine("http://host/path and net/wo" + "rk/x and /workspace/x")


def test_no_package_imports_relatively() -> None:
    for path in tracked("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level > 0), path
