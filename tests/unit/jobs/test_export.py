"""`equi export` and published models: whole weights of a checkpoint as a folder that the whole platform loads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from cluster.cli import main
from cluster.errors import UserError
from cluster.registry import publish_model
from cluster.runs import create_run
from cluster.store import Store
from equimodels.assemble import ModelDescription, assemble
from equimodels.checkpoint import load_model, save_model
from equimodels.integrations.exported import load_exported
from equimodels.models.graph import AtomGraph, Structure
from jobs.checkpoints import RunCheckpoints, open_checkpoint
from jobs.spec.strategy import Checkpoint
from jobs.state.export import open_width, write_model
from jobs.state.piece import Piece, Slots
from jobs.state.program import Form, write_program
from jobs.training.posthoc import Snapshot, mixture
from jobs.world import World

POTENTIAL = ModelDescription(
    "gaunt_potential",
    {"lmax": 1, "channels": 4, "layers": 1, "cutoff": 3.0, "radial_hidden": 8},
    {"radial": {"name": "bessel", "params": {"number": 4}}},
    {
        "species": [1, 8],
        "reference_energies": [-13.6, -2041.0],
        "energy_rms_per_atom": 0.1,
        "force_rms": 1.0,
        "mean_neighbours": 4.0,
    },
)
# Importing Inductor makes torch use its own deprecated compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
Weights = dict[str, Tensor]
Equi = Callable[..., tuple[int, str, str]]


def weights(seed: int) -> Weights:
    torch.manual_seed(seed)
    return {name: value.detach().clone() for name, value in assemble(POTENTIAL).named_parameters()}


def slots(**whole: Weights) -> Slots:
    return {slot: {name: Piece(0, value.reshape(-1)) for name, value in one.items()} for slot, one in whole.items()}


@pytest.fixture
def run(store: Store, tmp_path: Path) -> str:
    """A run with checkpoints of steps 1 and 2."""
    create_run(store, kind="train", name="small", spec="", run_id="r1")
    checkpoints = RunCheckpoints(store, "r1", World(), Checkpoint(), tmp_path, model=POTENTIAL.to_json())
    shapes = {name: tuple(value.shape) for name, value in weights(0).items()}
    for step in (1, 2):
        state = slots(value=weights(step), average=weights(10), best=weights(20), exp_avg=weights(30))
        checkpoints.save(step, state, shapes, {}, best=False)
    checkpoints.finish()
    return "r1"


def same(folder: Path, wanted: Weights) -> bool:
    return all(torch.equal(value, wanted[name]) for name, value in load_model(folder).named_parameters())


@pytest.fixture
def equi(store: Store, capsys: pytest.CaptureFixture[str]) -> Equi:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--store", store.uri])
        captured = capsys.readouterr()
        return int(str(ended.value.code)), captured.out, captured.err

    return call


def test_the_folder_is_a_model_with_the_weights_of_the_slot(store: Store, run: str, tmp_path: Path) -> None:
    drawn = torch.random.get_rng_state()
    manifest = write_model(open_checkpoint(store, run), "best", POTENTIAL, tmp_path / "model")
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert (manifest["step"], manifest["slot"]) == (2, "best")
    assert same(tmp_path / "model", weights(20))


def test_buffers_come_from_the_description(store: Store, run: str, tmp_path: Path) -> None:
    write_model(open_checkpoint(store, run), "value", POTENTIAL, tmp_path / "model")
    loaded, fresh = dict(load_model(tmp_path / "model").named_buffers()), dict(assemble(POTENTIAL).named_buffers())
    assert fresh
    assert all(torch.equal(loaded[name], fresh[name]) for name in fresh)


def test_equi_export_writes_the_best_of_the_newest(run: str, equi: Equi, tmp_path: Path) -> None:
    code, out, _ = equi("export", run, "--out", str(tmp_path / "model"))
    assert (code, out) == (0, f"wrote best of step 2 to {tmp_path / 'model'}\n")
    assert same(tmp_path / "model", weights(20))


def test_step_and_slot_say_which(run: str, equi: Equi, tmp_path: Path) -> None:
    code, out, _ = equi("export", run, "--step", "1", "--slot", "value", "--out", str(tmp_path / "model"), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["step"], found["slot"], found["folder"]) == (1, "value", str(tmp_path / "model"))
    assert same(tmp_path / "model", weights(1))


def test_a_dry_run_writes_nothing(run: str, equi: Equi, tmp_path: Path) -> None:
    code, out, _ = equi("export", run, "--out", str(tmp_path / "model"), "--dry-run")
    assert (code, out) == (0, f"would write best of step 2 to {tmp_path / 'model'}\n")
    assert not (tmp_path / "model").exists()


def test_a_width_is_put_together_from_the_checkpoints_that_are_kept(store: Store, equi: Equi, tmp_path: Path) -> None:
    create_run(store, kind="train", name="small", spec="", run_id="r4")
    checkpoints = RunCheckpoints(store, "r4", World(), Checkpoint(), tmp_path)
    shapes, held = {name: tuple(value.shape) for name, value in weights(0).items()}, {}
    for updates in (100, 200):
        held |= {(updates, width): weights(updates + place) for place, width in enumerate((0.05, 0.1))}
        averages = {f"average/{width}": held[updates, width] for width in (0.05, 0.1)}
        state = slots(value=weights(updates), **averages)
        checkpoints.save(updates, state, shapes, {"updates": updates}, best=False)
    checkpoints.finish()
    mixed = mixture([Snapshot(*key) for key in held], Snapshot(200, 0.07))
    expected = {
        name: sum(w * one[name].double() for w, one in zip(mixed, held.values(), strict=True)) for name in shapes
    }
    write_model(open_width(store, "r4", None, 0.07), "average/0.07", POTENTIAL, tmp_path / "model")
    assert same(tmp_path / "model", {name: value.float() for name, value in expected.items()})
    with pytest.raises(UserError, match=r"at most 0\.28"):
        open_width(store, "r4", None, 0.5)


def test_without_averages_of_chosen_widths_there_is_no_width(run: str, equi: Equi, tmp_path: Path) -> None:
    code, _, err = equi("export", run, "--width", "0.1", "--out", str(tmp_path / "model"))
    assert code == 2
    assert "schedule.posthoc_ema" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--slot", "exp_avg"), "the checkpoint of step 2 has no weights 'exp_avg'\n  allowed: average, best, value"),
        (("--step", "3"), "run r1 has no committed checkpoint of step 3\n  allowed: 1, 2"),
    ],
)
def test_what_is_not_there_is_refused(run: str, equi: Equi, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, _, err = equi("export", run, *words, "--out", str(tmp_path / "model"), "--dry-run")
    assert (code, err.strip()) == (2, told)


def test_a_folder_that_is_in_use_is_refused(run: str, equi: Equi, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    code, _, err = equi("export", run, "--out", str(tmp_path / "full"))
    assert (code, err) == (2, f"{tmp_path / 'full'} exists already\n  allowed: a new or empty folder\n")


def test_a_run_without_checkpoints_and_no_run_at_all_are_refused(store: Store, equi: Equi, tmp_path: Path) -> None:
    create_run(store, kind="train", name="small", spec="", run_id="r2")
    code, _, err = equi("export", "r2", "--out", str(tmp_path / "model"))
    assert (code, err) == (2, "run r2 has no committed checkpoint\n")
    assert equi("export", "r3", "--out", str(tmp_path / "model"))[0] == 2


def test_a_published_model_is_written_as_it_was_published(store: Store, run: str, equi: Equi, tmp_path: Path) -> None:
    write_model(open_checkpoint(store, run), "best", POTENTIAL, tmp_path / "made")
    facts = {"task": "energy_forces", "run": run, "metrics": {}, "spec": {}, "dataset": None, "code_version": "test"}
    publish_model(store, "small", tmp_path / "made", facts)
    out = tmp_path / "model"
    assert equi("export", "small@1", "--out", str(out), "--dry-run") == (0, f"would write small@1 to {out}\n", "")
    assert not out.exists()
    assert equi("export", "small@1", "--out", str(out)) == (0, f"wrote small@1 to {out}\n", "")
    assert same(out, weights(20))
    code, _, err = equi("export", "small@2", "--out", str(tmp_path / "other"))
    assert (code, "small" in err) == (2, True)
    code, _, err = equi("export", "small@1", "--out", str(tmp_path / "other"), "--slot", "average")
    assert (code, "--slot" in err) == (2, True)
    assert not (tmp_path / "other").exists()


def test_a_potential_is_also_one_file_that_runs_without_its_code(run: str, equi: Equi, tmp_path: Path) -> None:
    out, asked = tmp_path / "model", ("--program", "exported")
    said = f"write best of step 2 to {out}, with program.pt2\n"
    assert equi("export", run, *asked, "--out", str(out), "--dry-run") == (0, f"would {said}", "")
    code, told, _ = equi("export", run, *asked, "--out", str(out), "--json")
    assert (code, json.loads(told)["program"]) == (0, str(out / "program.pt2"))
    water = molecule("H2O")
    structure = Structure.of(water.numbers, water.positions, 3.0)
    energy, forces, _ = load_exported(out / "program.pt2")(structure)
    wanted = load_model(out)(AtomGraph.collate([structure]).to(dtype=torch.float32))
    assert energy == pytest.approx(float(wanted.energy), rel=1e-9)
    torch.testing.assert_close(forces, wanted.forces, rtol=0, atol=1e-5)


def test_without_a_compiler_nothing_is_written(run: str, equi: Equi, tmp_path: Path) -> None:
    out = tmp_path / "model"
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        code, _, err = equi("export", run, "--program", "compiled", "--out", str(out))
    assert (code, "--program compiled: CXX is 'no-such-compiler'; allowed: a C++ compiler" in err) == (2, True)
    assert not out.exists()


def test_what_is_no_potential_has_no_program(tmp_path: Path) -> None:
    params = {"dim": 8, "layers": 1, "heads": 1, "patch": 2, "tap": 1}
    facts = {"shape": [1, 4, 4], "mean": [0.5], "std": [0.5]}
    described = ModelDescription("diffusion_transformer", params, {}, facts)
    save_model(tmp_path / "seer", assemble(described), described)
    with pytest.raises(UserError, match=r"a DiffusionTransformer is no potential: .* has the model, and no program"):
        write_program(tmp_path / "seer", Form.exported)
    told = ModelDescription(
        "gaunt_potential", {**POTENTIAL.params, "charge_spin": True}, POTENTIAL.embedding, POTENTIAL.facts
    )
    save_model(tmp_path / "told", assemble(told), told)
    with pytest.raises(UserError, match="charge_spin"):
        write_program(tmp_path / "told", Form.exported)


def test_weights_of_another_model_are_refused(store: Store, run: str, tmp_path: Path) -> None:
    for params, told in (({"channels": 8}, r"is \(.*\) there and \(.*\) here"), ({"layers": 2}, "is not in both")):
        other = ModelDescription(POTENTIAL.name, {**POTENTIAL.params, **params}, POTENTIAL.embedding, POTENTIAL.facts)
        with pytest.raises(UserError, match=f"the checkpoint is of another model: .* {told}"):
            write_model(open_checkpoint(store, run), "best", other, tmp_path / "model")
