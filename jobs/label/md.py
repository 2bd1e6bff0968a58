"""Molecular dynamics, block by block: Langevin NVT (Vanden-Eijnden and Ciccotti 2006), centre of mass held.

A block takes a state and gives frames and the next state, so a trajectory can stop and go on anywhere between
blocks. Shapes: F frames, N atoms. Positions in angstrom, energies in eV, forces in eV/angstrom.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, CalculatorError
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from cluster.errors import UserError
from jobs.label.geometry import Floats, Geometry
from jobs.label.labels import Labels, can, compute_labels, reason
from jobs.spec.label import MolecularDynamics


@dataclass(frozen=True)
class State:
    """Where a trajectory is: all that the next block depends on."""

    positions: Floats  # (N, 3) angstrom
    momenta: Floats  # (N, 3) ASE units
    generator: dict[str, Any]  # state of a PCG64; integers beyond 64 bits, which JSON carries


@dataclass(frozen=True)
class Failure:
    """A frame the method could not compute."""

    frame: int  # number within the trajectory; -1 during equilibration
    message: str


@dataclass
class Block:
    """What one block of a trajectory gave."""

    numbers: list[int]  # of each kept frame, within the trajectory
    positions: list[Floats]  # each (N, 3) angstrom
    labels: list[Labels]
    temperatures: list[float]  # kelvin, instantaneous
    failures: list[Failure] = field(default_factory=list)


def trajectory_seed(seed: int, trajectory: int) -> np.random.SeedSequence:
    """Independent random numbers for each trajectory, the same whatever their number and order."""
    return np.random.SeedSequence(entropy=seed, spawn_key=(trajectory,))


def first_state(geometry: Geometry, settings: MolecularDynamics, seed: np.random.SeedSequence) -> State:
    """Momenta drawn from the Maxwell-Boltzmann distribution, the structure as a whole at rest."""
    generator = np.random.Generator(np.random.PCG64(seed))
    moving = _moving(geometry)
    thermalize_momenta(moving, settings.temperature_K, rng=generator)
    return _state(moving, generator)


def check_first_geometry(geometry: Geometry, calculator: Calculator) -> None:
    """Compute the first geometry once. Raises UserError: a method that fails here fails at every frame."""
    atoms = geometry.atoms()
    formula = atoms.get_chemical_formula()
    atoms.calc = calculator
    if not can(calculator, "forces"):
        raise UserError("the method computes no forces, and molecular dynamics follows them")
    try:
        compute_labels(atoms, stress=False)
    except CalculatorError as error:
        raise UserError(f"the method cannot compute the first geometry of {formula}: {error}") from error


def run_block(
    geometry: Geometry,
    state: State,
    settings: MolecularDynamics,
    make_calculator: Callable[[], Calculator],
    frames: range,
) -> tuple[Block, State]:
    """Run from `state` until the frames of this block (numbered within the trajectory) are due, at constant volume.

    The block with frame 0 equilibrates first. A frame whose energy cannot be computed is recorded and left
    out; the dynamics goes on from the last good geometry with momenta drawn again, as it has no forces to go
    on with.
    """
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state.generator
    atoms = _moving(geometry)
    atoms.set_positions(state.positions, apply_constraint=False)
    atoms.set_momenta(state.momenta, apply_constraint=False)
    block = Block([], [], [], [])
    for frame, steps in _plan(settings, frames):
        good = atoms.get_positions()
        try:
            if atoms.calc is None:
                atoms.calc = make_calculator()
            _advance(atoms, settings, generator, steps)
            labels = compute_labels(atoms, stress=geometry.has_stress and can(atoms.calc, "stress"))
        except CalculatorError as error:
            block.failures.append(Failure(frame, reason(error)))
            atoms.set_positions(good, apply_constraint=False)
            atoms.calc = None  # its cached wave function belongs to the geometry that failed
            thermalize_momenta(atoms, settings.temperature_K, rng=generator)
            continue
        if frame >= 0:
            block.numbers.append(frame)
            block.positions.append(atoms.get_positions())
            block.labels.append(labels)
            block.temperatures.append(float(atoms.get_temperature()))
    return block, _state(atoms, generator)


def _plan(settings: MolecularDynamics, frames: range) -> Iterator[tuple[int, int]]:
    """(frame or -1, steps to it) for each stretch of the block."""
    if 0 in frames and settings.steps_before:
        yield -1, settings.steps_before
    for frame in frames:
        yield frame, settings.steps_between


def _advance(atoms: Any, settings: MolecularDynamics, generator: np.random.Generator, steps: int) -> None:
    # fixcm=False: ASE 3.28 deprecates it as it does not sample NVT strictly; the FixCom constraint does.
    dynamics: Any = Langevin(
        atoms,
        settings.timestep_fs * units.fs,
        temperature_K=settings.temperature_K,
        friction=settings.friction / units.fs,
        fixcm=False,
        rng=generator,
    )
    dynamics.run(steps)


def _moving(geometry: Geometry) -> Any:
    atoms = geometry.atoms()
    atoms.set_constraint(FixCom())
    return atoms


def _state(atoms: Any, generator: np.random.Generator) -> State:
    return State(atoms.get_positions(), atoms.get_momenta(), dict(generator.bit_generator.state))
