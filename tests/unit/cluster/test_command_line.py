"""The front door: what is imported when, and how each way of ending becomes an exit code."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from cluster import cli
from cluster.commands.lazy import Command, Group
from cluster.errors import ClusterError, UserError

# Without pydantic: typer itself imports it where it is installed.
HEAVY = ("ray", "torch", "pyarrow", "boto3", "ruamel", "numpy", "deepspeed", "fastapi")


def user_error() -> None:
    raise ClusterError("the cluster refuses the token", hint="see --token-file")


def our_fault() -> None:
    raise RuntimeError("a bug")


def interrupted() -> None:
    raise KeyboardInterrupt


def carried_over() -> None:
    """As Ray raises it: an error that is a UserError too, with a remote traceback as its text."""

    class RayTaskError(UserError):
        cause = UserError("no dataset 'x'")

        def __str__(self) -> str:
            return "Traceback of another process"

    raise RayTaskError("")


def add(a: Annotated[int, typer.Argument()], twice: bool = False) -> None:
    """Add nothing."""
    typer.echo(a * (1 + twice))


def bracketed(url: Annotated[str, typer.Option(help="A host[:port][/path].")] = "") -> None:
    """Fetch host[:port][/path]."""


@pytest.fixture(autouse=True)
def own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        function.__name__.replace("_", "-"): Command(f"{__name__}:{function.__name__}", "A test.")
        for function in (user_error, our_fault, interrupted, carried_over, add, bracketed)
    }
    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, **own, "group": Group("Nested.", own)})


def test_a_users_error_is_told_without_a_traceback_and_ends_with_2(equi) -> None:
    assert equi("user-error") == (2, "", "the cluster refuses the token\n  see --token-file\n")


def test_our_own_fault_leaves_as_it_is(equi) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["our-fault"])


def test_an_interrupt_ends_with_130(equi) -> None:
    assert equi("interrupted")[0] == 130


def test_an_error_that_ray_carried_over_is_told_in_its_own_words(equi) -> None:
    assert equi("carried-over") == (2, "", "no dataset 'x'\n")


def test_arguments_and_options_reach_a_lazy_command(equi) -> None:
    assert equi("add", "21", "--twice") == (0, "42\n", "")
    assert equi("group", "add", "3") == (0, "3\n", "")


def test_help_is_plain_text(equi) -> None:
    assert "host[:port][/path]" in equi("bracketed", "--help")[1]


def test_wrong_arguments_end_with_2(equi) -> None:
    code, _, err = equi("add", "many")
    assert code == 2
    assert "Usage: equi add" in err


def test_an_unknown_command_is_answered_with_the_nearest_one(equi) -> None:
    code, _, err = equi("valdate")
    assert code == 2
    assert "Did you mean 'validate'?" in err


def test_the_version_is_printed(equi) -> None:
    code, out, _ = equi("--version")
    assert code == 0
    assert out.startswith("equimodels 0.")


def test_the_help_of_a_lazy_command_shows_its_own_options(equi) -> None:
    code, out, _ = equi("add", "-h")
    assert code == 0
    assert "--twice" in out
    assert "Add nothing." in out


def imported_by(*arguments: str) -> set[str]:
    """The heavy packages that a new process has imported when `equi ...` ends."""
    program = (
        "import sys\n"
        "from cluster.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('IMPORTED', *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "IMPORTED", done.stderr
    return set(last) & set(HEAVY)


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") == set()
    assert imported_by("data", "--help") == set()


def test_the_check_for_heavy_imports_can_fail() -> None:
    assert "pyarrow" in imported_by("data", "ls", "--help")


def test_validating_a_cluster_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("spec_version: 1\nkind: cluster\nbackend: local\n")
    assert imported_by("validate", str(tmp_path / "c.yaml")) == {"ruamel"}


def test_a_spec_with_an_error_ends_a_process_with_2_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("spec_version: 1\nkind: cluster\nbackend: locl\n")
    done = subprocess.run(
        [sys.executable, "-c", "from cluster.cli import main; main()", "validate", "c.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "c.yaml:3:1  backend\n"
        "  found text 'locl'; did you mean 'local'?\n"
        "  allowed: local, address, kuberay\n"
        "1 problem. Nothing was submitted.\n"
    )


def test_our_own_fault_ends_a_process_with_1_and_a_traceback() -> None:
    program = (
        "from cluster import cli\nfrom cluster.commands.lazy import Command\n"
        "cli.COMMANDS['broken'] = Command('cluster.cli:nothing_of_that_name', '')\ncli.main(['broken'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def commands(table: dict[str, Command | Group], words: tuple[str, ...] = ()) -> list[tuple[str, Command]]:
    found = []
    for name, entry in table.items():
        if isinstance(entry, Group):
            found += commands(dict(entry.commands), (*words, name))
        else:
            found.append((" ".join((*words, name)), entry))
    return found


@pytest.mark.parametrize(("name", "entry"), commands(cli.COMMANDS))
def test_every_command_of_the_table_exists_and_explains_itself(equi, name: str, entry: Command) -> None:
    module = entry.function.partition(":")[0]
    assert importlib.util.find_spec(module) is not None
    if not module.startswith(
        ("cluster.commands.demo", "serve", "jobs")
    ):  # those import Ray or PyTorch: their own tests
        code, out, _ = equi(*name.split(), "--help")
        assert code == 0
        assert f"Usage: equi {name}" in out


@pytest.mark.parametrize(("name", "entry"), commands(cli.COMMANDS))
def test_every_command_has_a_line_of_help_that_fits(name: str, entry: Command) -> None:
    assert entry.help.endswith(".")
    assert len(entry.help) <= 70


@pytest.mark.parametrize(("name", "entry"), commands(cli.COMMANDS))
def test_every_command_is_documented(name: str, entry: Command) -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    assert f"`equi {name}" in page.read_text(encoding="utf-8")


def test_validate_tells_programs_everything(equi, tmp_path: Path) -> None:
    spec = tmp_path / "c.yaml"
    spec.write_text("spec_version: 1\nkind: cluster\nbackend: address\naddress: http://head:8265\nbakend: 1\n")
    code, out, err = equi("validate", str(spec), "--json", "--set", "store=3")
    assert (code, err) == (2, "")
    answer = json.loads(out)
    assert answer["valid"] is False
    assert [(p["path"], p["line"], p["source"]) for p in answer["problems"]] == [
        ("bakend", 5, str(spec)),
        ("store", 0, "--set store=3"),
    ]


def test_validate_shows_the_resolved_spec_without_its_secrets(equi, tmp_path: Path) -> None:
    spec = tmp_path / "c.yaml"
    spec.write_text("spec_version: 1\nkind: cluster\nbackend: local\n")
    assert equi("validate", str(spec)) == (0, f"{spec} is a valid spec of kind cluster. Nothing was submitted.\n", "")
    code, out, _ = equi("validate", str(spec), "--json", "--set", "store=s3://bucket/x")
    assert code == 0
    assert json.loads(out)["spec"]["store"] == "s3://bucket/x"


def test_schema_lists_the_kinds_and_prints_one(equi) -> None:
    assert equi("schema")[1].split() >= ["kind", "is", "label"]
    assert json.loads(equi("schema", "cluster")[1])["title"] == "ClusterSpec"
    code, _, err = equi("schema", "clutser")
    assert code == 2
    assert "did you mean 'cluster'?" in err
