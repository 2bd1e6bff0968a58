"""`equi query`: what may be asked about, and how an answer is shown."""

from pathlib import Path

import pytest
from ase import Atoms

from cluster.errors import UserError
from cluster.store import open_store
from serve import cli
from serve.question import read_body, read_structures, show_energies
from serve.record import EndpointRecord, write_record

WATER = "3\n\nO 0 0 0.1\nH 0 0.7 -0.4\nH 0 -0.7 -0.4\n"


def test_every_frame_of_a_file_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "two.xyz"
    path.write_text(WATER + WATER.replace("0.1", "0.2"))
    first, second = read_structures(path)
    assert first["numbers"] == [8, 1, 1]
    assert (first["positions"][0], second["positions"][0]) == ([0.0, 0.0, 0.1], [0.0, 0.0, 0.2])


def test_a_periodic_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell.extxyz"
    Atoms("H", cell=[5, 5, 5], pbc=True).write(path)
    with pytest.raises(UserError, match="periodic"):
        read_structures(path)


def test_a_file_that_holds_no_structure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.xyz"
    path.write_text("hello\n")
    with pytest.raises(UserError, match="cannot be read as structures"):
        read_structures(path)
    with pytest.raises(UserError, match="is no file"):
        read_structures(tmp_path / "absent.xyz")


def test_a_body_may_be_text_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    path.write_text('{"a": 1}')
    assert read_body('{"a": 1}') == read_body(f"@{path}") == {"a": 1}
    with pytest.raises(UserError, match="not JSON"):
        read_body("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_body(f"@{tmp_path / 'absent'}")


def test_the_table_names_units_model_and_every_atom(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {
        "model": "m@1",
        "units": {"energy": "eV", "forces": "eV/angstrom"},
        "results": [{"energy": -2.5, "forces": [[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]}],
    }
    show_energies([{"numbers": [8, 1]}], answer)
    shown = capsys.readouterr().out
    for words in ("energy, eV", "-2.500000", "5.0000", "m@1", "eV/angstrom", "O", "H"):
        assert words in shown


def endpoint(url: str, token_file: Path) -> EndpointRecord:
    return EndpointRecord(
        name="e",
        url=url,
        model="m@1",
        reference="m",
        task="embed",
        run_id="r",
        state="up",
        token_file=str(token_file),
    )


def test_a_record_cannot_send_a_token_to_another_machine(tmp_path: Path) -> None:
    tokens, store = tmp_path / "tokens", str(tmp_path / "store")
    tokens.write_text("t" * 32)
    tokens.chmod(0o600)
    write_record(open_store(store), endpoint("http://127.0.0.1:1", tokens))
    assert cli._reach("e", None, store) == ("http://127.0.0.1:1", "t" * 32, "embed")
    write_record(open_store(store), endpoint("http://203.0.113.1:1", tokens))
    assert cli._reach("e", None, store) == ("http://203.0.113.1:1", None, "embed")
    assert cli._reach("e", tokens, store)[1] == "t" * 32  # the user may


def test_nothing_to_ask_is_a_clear_error() -> None:
    with pytest.raises(UserError, match="nothing to ask"):
        cli.query("e", store="unused")


def test_a_spec_of_another_kind_is_not_deployed(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text("spec_version: 1\nkind: cluster\nbackend: local\n")
    with pytest.raises(UserError, match="`equi submit` takes it"):
        cli.deploy(spec)


def test_undeploying_an_endpoint_whose_run_is_gone_says_that_it_is_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    write_record(open_store(store), endpoint("http://127.0.0.1:1", tmp_path))
    cli.undeploy("e", store=store, dry_run=True)
    assert "Nothing was done" in capsys.readouterr().out
    cli.endpoints(store=store)
    assert "no answer" in capsys.readouterr().out
    cli.undeploy("e", store=store)
    cli.endpoints(store=store)
    assert "down" in capsys.readouterr().out
