"""What an interatomic potential must keep to be of use in simulations, as tests a plug-in inherits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equimodels.models.graph import AtomGraph, Structure
from equimodels.models.stress import with_stress
from equimodels.symmetry.groups import random_rotations
from equimodels.testing.potential import PotentialContract
from equimodels.testing.tolerances import EQUIVARIANCE, same

Model = Callable[..., Any]
FAR = 1000.0  # angstrom; beyond the reach of any number of layers


class ModelContract(PotentialContract):
    """`PotentialContract`, and what simulations need; subclass in the same way.

    Called as model(graph, False) the potential gives energies that can be differentiated by positions and shifts.
    """

    def evaluate(
        self, model: Model, structures: list[Any], dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor]:
        """Energies and forces of structures."""
        energy, forces = model(self.graph(structures, dtype))
        return energy, forces

    def check_padding(self, model: Model) -> None:
        """Atoms of a structure that nobody asks for, and edges between them longer than the cutoff, change nothing."""
        molecules = self.molecules()
        energy, forces = self.evaluate(model, molecules)
        apart = self.cutoff * np.array([[0.0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]])
        padding = Structure.of(np.resize(self.species, 4), apart, 2.5 * self.cutoff)
        parts = [Structure.of(numbers, positions, self.cutoff) for numbers, positions in molecules]
        padded_energy, padded_forces = model(AtomGraph.collate([*parts, padding]))
        tolerance = EQUIVARIANCE[torch.float64]
        same(padded_energy[:-1], energy, tolerance, "the energy depends on the padding")
        same(padded_forces[:-4], forces, tolerance, "the forces depend on the padding")

    def check_extensive(self, model: Model) -> None:
        """Far apart, two molecules have the sum of their energies, and atoms those of single ones and no forces."""
        (numbers, x), (others, y) = self.molecules()
        both = np.concatenate([numbers, others]), np.concatenate([x, y + FAR])
        energy, forces = self.evaluate(model, [(numbers, x), (others, y)])
        together, pulled = self.evaluate(model, [both])
        same(together, energy.sum()[None], 1e-12, "the energy of two molecules is not the sum")
        same(pulled, forces, 1e-9, "a molecule feels another one that is far away")  # far out, coordinates are coarser
        species = np.array(self.species)
        alone, none = self.evaluate(model, [(species[k : k + 1], np.zeros((1, 3))) for k in range(len(species))])
        assert alone.isfinite().all(), "an isolated atom has no energy"
        assert not none.any(), "an isolated atom feels a force"
        apart = FAR * np.arange(len(species))[:, None] * np.ones(3)
        total, still = self.evaluate(model, [(species, apart)])
        same(total, alone.sum()[None], 1e-12, "the energy of isolated atoms is not the sum")
        assert not still.any(), "isolated atoms feel forces"

    def check_pairs(self, model: Model) -> None:
        """Two atoms push or pull along their line, equally, whatever its direction: the poles of harmonics included."""
        generator = torch.Generator().manual_seed(2)
        directions = torch.cat([torch.eye(3).double(), -torch.eye(3).double(), random_rotations(2, generator)[:, 0]])
        numbers = np.array([self.species[0], self.species[-1]])
        for fraction in (0.05, 0.25, 0.5, 0.8):
            length = fraction * self.cutoff
            pairs = [(numbers, np.stack([np.zeros(3), length * direction])) for direction in directions.numpy()]
            energy, forces = self.evaluate(model, pairs)
            assert energy.isfinite().all(), f"the energy of two atoms {length:.2f} angstrom apart is not finite"
            assert forces.isfinite().all(), f"the force of two atoms {length:.2f} angstrom apart is not finite"
            first, second = forces.reshape(-1, 2, 3).unbind(1)
            size = float(forces.abs().max())
            same(first, -second, 1e-10, "two atoms do not feel opposite forces", size)
            along = (second * directions).sum(dim=1, keepdim=True)
            same(second, along * directions, 1e-10, "two atoms are pushed off their line", size)
            same(along, along[:1].expand_as(along), 1e-9, "the force of a pair depends on its direction", size)

    def check_smooth(self, model: Model) -> None:
        """Energy, force and its slope go to zero together when an atom leaves at the cutoff."""
        numbers, positions = self.molecules(1)[0]
        centred = positions - positions.mean(axis=0)
        last = centred[np.linalg.norm(centred, axis=1).argmax()]
        outwards = last / np.linalg.norm(last)  # in this direction the last atom to be left is that one
        atoms = np.append(numbers, self.species[0])

        def at(fractions: NDArray[Any]) -> tuple[Tensor, Tensor]:
            """Energy and outward force of an atom so many cutoffs away."""
            places = [np.vstack([centred, last + fraction * self.cutoff * outwards]) for fraction in fractions]
            energy, forces = self.evaluate(model, [(atoms, place) for place in places])
            return energy, forces.reshape(len(fractions), -1, 3)[:, -1] @ torch.from_numpy(outwards)

        def slopes(fractions: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
            """Energy beside that of the atom gone, force, slope of the force."""
            gone, (energy, force) = at(np.array([2.0]))[0], at(fractions)
            slope = (at(fractions + 1e-5)[1] - at(fractions - 1e-5)[1]) / (2e-5 * self.cutoff)
            return energy - gone, force, slope

        # What has two continuous derivatives is of size 1e-12, 1e-8, 1e-4 here, times at most 100.
        near, typical = slopes(np.array([1 - 1e-4, 1 + 1e-4])), slopes(np.linspace(0.5, 0.95, 10))
        names = ("energy", "force", "slope of the force")
        for name, edge, inside, allowed in zip(names, near, typical, (1e-8, 1e-5, 2e-2), strict=True):
            same(edge, torch.zeros_like(edge), allowed, f"the {name} jumps at the cutoff", float(inside.abs().max()))

    def check_many(self, model: Model, times: int = 12) -> None:
        """5,184 atoms, in float32: a crystal described by 12 x 12 x 12 cells feels what it feels in one."""
        numbers, positions, cell = self.crystal()
        positions, cell = 1.2 * positions, 1.2 * cell  # fewer neighbours, less memory
        steps = np.indices((times, times, times)).reshape(3, -1).T @ cell
        many = np.tile(numbers, len(steps)), (steps[:, None] + positions).reshape(-1, 3), times * cell
        energy, forces = self.evaluate(model, [(numbers, positions, cell)], torch.float32)
        all_energy, all_forces = self.evaluate(model, [many], torch.float32)
        # 50 angstrom from the origin, float32 is 2e-6 angstrom wide.
        same(all_forces, forces.repeat(len(steps), 1), 1e-3, "an atom among many feels other forces")
        size = float(forces.abs().max())  # in eV of an angstrom: what an energy is to be compared with
        same(all_energy / len(steps), energy, 1e-3, "an atom among many has another energy", size)

    def check_stress(self, model: nn.Module) -> None:
        """The stress is what the energy of strained cells says, and turns with the crystal."""
        numbers, positions, cell = self.crystal()
        crystal, volume = self.graph([(numbers, positions, cell)], torch.float64), abs(np.linalg.det(cell))
        found = with_stress(model, crystal, torch.tensor([volume]))
        energy, forces = model(crystal)
        same(found.energy, energy, 1e-14, "the energy beside the stress is another one")
        same(found.forces, forces, 1e-10, "the forces beside the stress are others")
        ways, step = [], 1e-4
        for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
            for sign in (1, -1, 2, -2):
                strain = np.zeros((3, 3))
                strain[a, b] += sign * step / 2
                strain[b, a] += sign * step / 2
                ways.append((numbers, positions + positions @ strain, cell + cell @ strain))
        one, minus_one, two, minus_two = self.evaluate(model, ways)[0].reshape(6, 4).unbind(1)
        slope = (8 * (one - minus_one) - (two - minus_two)) / (12 * step * volume)
        stress = found.stress[0]
        upper = torch.stack([stress[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])
        same(upper, slope, 1e-6, "the stress is not the slope of the energy by the strain")
        same(stress, stress.mT, 1e-12, "the stress is not symmetric")

    def check_energy_is_conserved(self, model: Model, steps: int = 50) -> None:
        """In molecular dynamics the error of the energy is that of the integrator: halving the step quarters it."""
        numbers, positions = self.molecules(1)[0]
        largest = float(self.evaluate(model, [(numbers, positions)])[1].norm(dim=1).max())
        duration = (0.4 / largest) ** 0.5  # of unit masses, the fastest of which goes 0.2 angstrom
        coarse = self._drift(model, duration, steps)
        for halvings in range(1, 5):  # a steep potential needs short steps before the error is of second order
            fine = self._drift(model, duration, steps * 2**halvings)
            if 2.8 < coarse / fine < 5.7:
                return
            coarse, before = fine, coarse
        raise AssertionError(f"the energy drifts by {before:.1e} eV, and at half the step by {coarse:.1e} eV")

    def _drift(self, model: Model, duration: float, steps: int) -> float:
        """The largest change of the total energy on the way, by the scheme of Verlet with velocities."""
        numbers, positions = self.molecules(1)[0]
        step, velocities, totals = duration / steps, torch.zeros(positions.shape, dtype=torch.float64), []
        energy, forces = self.evaluate(model, [(numbers, positions)])
        for _ in range(steps):
            totals.append(float(energy) + 0.5 * float(velocities.square().sum()))
            velocities = velocities + 0.5 * step * forces
            positions = positions + step * velocities.numpy()
            energy, forces = self.evaluate(model, [(numbers, positions)])
            velocities = velocities + 0.5 * step * forces
        return max(abs(total - totals[0]) for total in totals)

    def test_padding_changes_nothing(self) -> None:
        self.check_padding(self.model(torch.float64))

    def test_energies_add_up_and_isolated_atoms_feel_nothing(self) -> None:
        self.check_extensive(self.model(torch.float64))

    def test_two_atoms_feel_opposite_forces_along_their_line(self) -> None:
        self.check_pairs(self.model(torch.float64))

    def test_nothing_jumps_at_the_cutoff_up_to_the_second_derivative(self) -> None:
        self.check_smooth(self.model(torch.float64))

    def test_five_thousand_atoms_feel_what_a_few_do(self) -> None:
        self.check_many(self.model(torch.float32))

    def test_the_stress_is_the_slope_of_the_energy(self) -> None:
        self.check_stress(self.model(torch.float64))

    def test_the_energy_is_conserved_in_molecular_dynamics(self) -> None:
        self.check_energy_is_conserved(self.model(torch.float64))
