"""Molecular dynamics in blocks: reproducible, resumable, honest about failures. A spring model stands for chemistry."""

from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.calculators.emt import EMT

from cluster.errors import UserError
from jobs.label.chunks import Chunk, Plan, decode, encode
from jobs.label.geometry import Geometry
from jobs.label.md import check_first_geometry, first_state, run_block, trajectory_seed
from jobs.label.molecules import molecule
from jobs.spec.label import MolecularDynamics

WATER = molecule("water")
START = Geometry.of(WATER)
SETTINGS = MolecularDynamics(temperature_K=300, frames=6, every_fs=2, timestep_fs=0.5, equilibrate_fs=5)


class Springs(Calculator):
    """Harmonic bonds between all pairs: quick, smooth, and rotation-invariant as a molecule should be."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        rest = WATER.get_all_distances() + np.eye(3)
        vector = self.atoms.positions[:, None] - self.atoms.positions[None]
        length = np.linalg.norm(vector, axis=-1) + np.eye(3)
        self.results["energy"] = 10.0 * float(((length - rest) ** 2).sum()) / 2
        self.results["forces"] = -20.0 * ((length - rest)[..., None] * vector / length[..., None]).sum(axis=1)


class Breaking(Springs):
    """Springs that cannot be computed on the calls whose numbers are in `broken`."""

    calls = 0
    broken: frozenset[int] = frozenset()

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        Breaking.calls += 1
        if Breaking.calls in self.broken:
            raise CalculationFailed("SCF not converged\n in 250 cycles")
        super().calculate(*args, **kwargs)


class Divided(Springs):
    """Springs that give no number."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"] * np.nan


def start(trajectory: int = 0, seed: int = 0) -> Any:
    return first_state(START, SETTINGS, trajectory_seed(seed, trajectory))


def frames_of(*blocks: range, seed: int = 0, trajectory: int = 0) -> np.ndarray:
    state, positions = start(trajectory, seed), []
    for frames in blocks:
        block, state = run_block(START, state, SETTINGS, Springs, frames)
        positions += block.positions
    return np.array(positions)


def test_the_same_seed_gives_identical_frames() -> None:
    np.testing.assert_array_equal(frames_of(range(6)), frames_of(range(6)))


@pytest.mark.parametrize("other", [{"seed": 1}, {"trajectory": 1}])
def test_another_seed_or_trajectory_gives_other_frames(other: dict[str, int]) -> None:
    assert np.abs(frames_of(range(6)) - frames_of(range(6), **other)).max() > 1e-3


def test_two_blocks_give_the_frames_of_one() -> None:
    np.testing.assert_array_equal(frames_of(range(6)), frames_of(range(2), range(2, 6)))


def test_a_block_goes_on_bit_for_bit_from_a_chunk_that_was_stored() -> None:
    block, state = run_block(START, start(), SETTINGS, Springs, range(2))
    stored = decode(encode(Chunk("digest", 0, range(2), block, state)))
    again, _ = run_block(START, stored.state, SETTINGS, Springs, range(2, 6))
    np.testing.assert_array_equal(frames_of(range(6)), np.array(stored.block.positions + again.positions))
    assert (stored.frames, stored.digest, stored.block.numbers) == (range(2), "digest", [0, 1])
    assert [labels.energy for labels in stored.block.labels] == [labels.energy for labels in block.labels]
    np.testing.assert_array_equal(stored.block.labels[1].forces, block.labels[1].forces)
    assert stored.block.labels[1].stress is None


def test_labels_are_the_energy_and_its_gradient_not_the_constrained_forces() -> None:
    block, _ = run_block(START, start(), SETTINGS, Springs, range(2))
    atoms = WATER.copy()
    atoms.set_positions(block.positions[1])
    atoms.calc = Springs()
    assert block.labels[1].energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(block.labels[1].forces, atoms.get_forces(), atol=1e-12)


def test_the_molecule_as_a_whole_stays_where_it_is() -> None:
    block, state = run_block(START, start(), SETTINGS, Springs, range(6))
    moved = WATER.copy()
    moved.set_positions(block.positions[-1])
    np.testing.assert_allclose(moved.get_center_of_mass(), WATER.get_center_of_mass(), atol=1e-10)
    np.testing.assert_allclose(state.momenta.sum(axis=0), 0, atol=1e-10)


def test_the_thermostat_holds_the_temperature() -> None:
    settings = MolecularDynamics(temperature_K=400, frames=600, every_fs=4, timestep_fs=1, equilibrate_fs=100)
    state = first_state(START, settings, trajectory_seed(3, 0))
    block, _ = run_block(START, state, settings, Springs, range(600))
    # 2.4 ps with a memory of 50 fs: about 50 independent kinetic energies of 6 degrees of freedom, 8% of scatter.
    assert np.mean(block.temperatures) == pytest.approx(400, rel=0.25)


def test_a_frame_that_cannot_be_computed_is_left_out_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaking, "calls", 0)
    monkeypatch.setattr(Breaking, "broken", frozenset({22}))  # 11 calls equilibrate, 4 for each frame: frame 2
    block, _ = run_block(START, start(), SETTINGS, Breaking, range(6))
    assert [(failure.frame, failure.message) for failure in block.failures] == [(2, "SCF not converged in 250 cycles")]
    assert block.numbers == [0, 1, 3, 4, 5]
    assert np.isfinite([labels.energy for labels in block.labels]).all()


def test_without_failures_every_frame_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaking, "broken", frozenset())
    block, _ = run_block(START, start(), SETTINGS, Breaking, range(6))
    assert (block.numbers, block.failures) == ([0, 1, 2, 3, 4, 5], [])


def test_a_method_that_fails_on_the_first_geometry_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaking, "calls", 0)
    monkeypatch.setattr(Breaking, "broken", frozenset({1}))
    with pytest.raises(UserError, match="cannot compute the first geometry of H2O"):
        check_first_geometry(START, Breaking())


def test_a_method_that_gives_no_number_is_an_error() -> None:
    with pytest.raises(UserError, match="not finite"):
        check_first_geometry(START, Divided())


def test_a_method_without_forces_is_an_error() -> None:
    calculator = Springs()
    calculator.implemented_properties = ("energy",)
    with pytest.raises(UserError, match="computes no forces"):
        check_first_geometry(START, calculator)


def test_a_crystal_moves_in_its_cell_and_has_stress() -> None:
    copper = bulk("Cu", cubic=True)
    geometry = Geometry.of(copper)
    block, state = run_block(geometry, first_state(geometry, SETTINGS, trajectory_seed(0, 0)), SETTINGS, EMT, range(2))
    stored = decode(encode(Chunk("digest", 0, range(2), block, state)))
    copper.set_positions(block.positions[1])
    copper.calc = EMT()
    np.testing.assert_allclose(stored.block.labels[1].stress, copper.get_stress(voigt=False), atol=1e-12)
    np.testing.assert_allclose(stored.block.labels[1].forces, copper.get_forces(), atol=1e-12)


def test_a_plan_covers_every_frame_once() -> None:
    assert Plan(frames=60, size=25).chunks() == [range(25), range(25, 50), range(50, 60)]
    assert Plan(frames=25, size=25).chunks() == [range(25)]
