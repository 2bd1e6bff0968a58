"""What every interatomic potential promises, as tests a plug-in inherits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from equimodels.models.graph import AtomGraph, Structure
from equimodels.symmetry.groups import Orthogonal
from equimodels.testing.tolerances import DTYPES, EQUIVARIANCE, same


class PotentialContract:
    """Subclass as `class TestMyPotential(PotentialContract)` with `build` and `cutoff`; pytest does the rest.

    A potential maps an `AtomGraph` to (energy (B,) float64, forces (N, 3)). Each promise is a `check_...` method that
    takes a model and raises AssertionError, so that it can be shown to fail; one of the inherited tests shows it.
    """

    cutoff: ClassVar[float] = 5.0  # angstrom
    species: ClassVar[tuple[int, ...]] = (1, 6, 8)

    def build(self) -> nn.Module:
        """The potential under test, in the default dtype, for `species` and `cutoff`."""
        raise NotImplementedError

    def model(self, dtype: torch.dtype) -> nn.Module:
        """The potential with weights none of which is zero, in eval mode."""
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build()
        for parameter in model.parameters():
            if not parameter.detach().any():  # a readout that starts at zero would hide whatever comes before it
                with torch.no_grad():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return model.to(dtype).eval()

    def molecules(self, count: int = 2) -> list[tuple[Any, Any]]:
        """`count` random arrangements (numbers, positions) of 5, 6, ... atoms, none closer than 0.9 angstrom."""
        random = np.random.default_rng(0)
        return [(random.choice(self.species, size), _scatter(random, size)) for size in range(5, 5 + count)]

    def crystal(self) -> tuple[Any, Any, Any]:
        """A crystal (numbers, positions, cell) of three atoms in a skewed cell, in which atoms see their own images."""
        cell = np.array([[3.1, 0.0, 0.0], [0.7, 3.4, 0.0], [-0.4, 0.9, 3.9]])
        fractional = np.array([[0.05, 0.1, 0.0], [0.55, 0.45, 0.3], [0.2, 0.7, 0.65]])
        return np.resize(self.species, 3), fractional @ cell, cell

    def graph(self, structures: Sequence[tuple[Any, ...]], dtype: torch.dtype, reach: float | None = None) -> AtomGraph:
        """The graph of molecules and crystals with edges as far as `reach`, the cutoff unless given."""
        reach = self.cutoff if reach is None else reach
        return AtomGraph.collate(
            [
                Structure.of(numbers, positions, reach, dtype, cell=cell[0] if cell else None)
                for numbers, positions, *cell in structures
            ]
        )

    def check_equivariance(self, model: Callable[..., Any], dtype: torch.dtype) -> None:
        """Energies stay and forces turn under rotations, reflections and translations; both follow a permutation."""
        molecules, tolerance = self.molecules(), EQUIVARIANCE[dtype]
        energy, forces = model(self.graph(molecules, dtype))
        generator = torch.Generator().manual_seed(1)
        for element in [*Orthogonal().sample(4, generator), -torch.eye(3, dtype=torch.float64)]:
            turned = [(numbers, positions @ element.numpy().T) for numbers, positions in molecules]
            moved_energy, moved_forces = model(self.graph(turned, dtype))
            same(moved_energy, energy, tolerance, "the energy changes under a rotation or reflection")
            expected = (forces.double() @ element.T).to(dtype)
            same(moved_forces, expected, tolerance, "the forces do not turn with the molecule")
        shifted = [(numbers, positions + np.array([3.0, -2.0, 1.0])) for numbers, positions in molecules]
        moved_energy, moved_forces = model(self.graph(shifted, dtype))
        same(moved_energy, energy, tolerance, "the energy changes under a translation")
        same(moved_forces, forces, tolerance, "the forces change under a translation")
        reversed_energy, reversed_forces = model(self.graph([(n[::-1], x[::-1]) for n, x in molecules[:1]], dtype))
        same(reversed_energy, energy[:1], tolerance, "the energy depends on the order of the atoms")
        same(reversed_forces.flip(0), forces[: len(reversed_forces)], tolerance, "the forces depend on the order")

    def check_batching(self, model: nn.Module) -> None:
        """A structure gives the same alone and in company."""
        molecules = self.molecules()
        energy, forces = model(self.graph(molecules, torch.float64))
        alone = [model(self.graph([molecule], torch.float64)) for molecule in molecules]
        tolerance = EQUIVARIANCE[torch.float64]
        same(torch.cat([result[0] for result in alone]), energy, tolerance, "the energy depends on the batch")
        same(torch.cat([result[1] for result in alone]), forces, tolerance, "the forces depend on the batch")

    def check_locality(self, model: nn.Module) -> None:
        """Edges longer than the cutoff change nothing, so nothing jumps when an atom crosses it."""
        far = [(np.array(self.species[:2]), np.array([[0.0, 0, 0], [self.cutoff * 1.001, 0, 0]]))]
        molecules = [*self.molecules(), *far]
        near, wide = (model(self.graph(molecules, torch.float64, reach * self.cutoff)) for reach in (1, 2))
        same(wide[0], near[0], 1e-10, "an edge longer than the cutoff changes the energy")
        same(wide[1], near[1], 1e-10, "an edge longer than the cutoff changes the forces")

    def check_periodic(self, model: Callable[..., Any]) -> None:
        """A crystal is the same in one cell or four, moved by lattice vectors, and turned; forces are a gradient."""
        numbers, positions, cell = self.crystal()
        energy, forces = model(self.graph([(numbers, positions, cell)], torch.float64))
        steps = np.array([[a, b, 0] for a in (0, 1) for b in (0, 1)]) @ cell
        four = np.tile(numbers, 4), (steps[:, None] + positions).reshape(-1, 3), cell * [[2], [2], [1]]
        four_energy, four_forces = model(self.graph([four], torch.float64))
        same(four_energy / 4, energy, 1e-9, "the energy of an atom changes when the cell is described four times")
        same(four_forces, forces.repeat(4, 1), 1e-9, "the forces change when the cell is described four times")
        away = positions + np.array([[0, 0, 0], [1, 0, -2], [0, 3, 1]]) @ cell
        away_energy, away_forces = model(self.graph([(numbers, away, cell)], torch.float64))
        same(away_energy, energy, 1e-9, "the energy changes when an atom moves by a lattice vector")
        same(away_forces, forces, 1e-9, "the forces change when an atom moves by a lattice vector")
        turn = Orthogonal().sample(1, torch.Generator().manual_seed(1))[0]
        turned = numbers, positions @ turn.numpy().T, cell @ turn.numpy().T
        turned_energy, turned_forces = model(self.graph([turned], torch.float64))
        same(turned_energy, energy, 1e-9, "the energy changes when a crystal is turned")
        same(turned_forces, forces @ turn.T, 1e-9, "the forces do not turn with the crystal")
        self.check_conservative(model, (numbers, positions, cell))

    def check_conservative(self, model: Callable[..., Any], structure: tuple[Any, ...] | None = None) -> None:
        """Forces are minus the gradient of the energy: against differences of the total energy, to 1e-6."""
        numbers, positions, *cell = self.molecules(1)[0] if structure is None else structure
        _, forces = model(self.graph([(numbers, positions, *cell)], torch.float64))
        size = 5e-5  # angstrom
        step = size * np.eye(positions.size).reshape(-1, *positions.shape)
        # All at once, each coordinate two steps ahead and behind: one call of the model, not twelve an atom.
        moved = [(numbers, positions + way, *cell) for way in np.concatenate([step, -step, 2 * step, -2 * step])]
        one, minus_one, two, minus_two = model(self.graph(moved, torch.float64))[0].reshape(4, -1)
        # Exact to the fourth power of the step.
        slope = (8 * (one - minus_one) - (two - minus_two)) / (12 * size)
        same(forces, -slope.reshape(positions.shape), 1e-6, "the forces are not the gradient of the energy")

    def check_trainable(self, model: nn.Module) -> None:
        """The parameter gradient of a loss on the forces, against a central difference in a random direction."""
        graph = self.graph(self.molecules(), torch.float64)
        model.train()
        parameters: list[Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        generator = torch.Generator().manual_seed(2)
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.1 for p in parameters]

        def loss() -> Tensor:
            _, forces = model(graph)
            value: Tensor = forces.square().mean().log()
            return value

        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        analytic = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True) if g is not None)
        step, values = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=sign * step)
            values.append(float(loss().detach()))
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=-sign * step)
        numeric = (values[0] - values[1]) / (2 * step)
        error = abs(analytic - numeric) / abs(numeric)
        assert error < 1e-4, f"the second derivative is wrong: {analytic:.6e} against {numeric:.6e}"

    def test_energies_are_invariant_and_forces_equivariant(self) -> None:
        for dtype in DTYPES:
            self.check_equivariance(self.model(dtype), dtype)

    def test_float64_is_far_more_exact_than_float32(self) -> None:
        # Otherwise what looks like rounding is a mistake.
        graph = self.graph(self.molecules(), torch.float64)
        forces = {dtype: self.model(dtype)(graph.to(dtype=dtype))[1].double() for dtype in DTYPES}
        error = (forces[torch.float32] - forces[torch.float64]).abs().max() / forces[torch.float64].abs().max()
        assert 1e-9 < error < 1e-3, f"float32 differs from float64 by {error:.1e}"

    def test_a_model_that_prefers_a_direction_is_caught(self) -> None:
        model = self.model(torch.float64)

        def tilted(graph: AtomGraph) -> tuple[Tensor, Tensor]:
            energy, forces = model(graph)
            return energy, forces + 1e-6 * forces.abs().max() * forces.new_tensor([0.0, 0.0, 1.0])

        try:
            self.check_equivariance(tilted, torch.float64)
        except AssertionError:
            return
        raise AssertionError("forces tilted by one part in a million passed as equivariant")

    def test_a_structure_gives_the_same_in_any_batch(self) -> None:
        self.check_batching(self.model(torch.float64))

    def test_what_is_beyond_the_cutoff_does_not_matter(self) -> None:
        self.check_locality(self.model(torch.float64))

    def test_forces_are_minus_the_gradient_of_the_energy(self) -> None:
        self.check_conservative(self.model(torch.float64))

    def test_a_crystal_is_the_same_however_it_is_described(self) -> None:
        self.check_periodic(self.model(torch.float64))

    def test_a_model_that_ignores_the_lattice_is_caught(self) -> None:
        model = self.model(torch.float64)

        def without_images(graph: AtomGraph) -> Any:
            inside = ~graph.shifts.any(dim=1)
            return model(replace(graph, edges=graph.edges[:, inside], shifts=graph.shifts[inside]))

        def without_shifts(graph: AtomGraph) -> Any:
            apart = graph.edges[0] != graph.edges[1]  # an atom and its own image would be on one spot
            return model(replace(graph, edges=graph.edges[:, apart], shifts=0 * graph.shifts[apart]))

        for blind in (without_images, without_shifts):
            try:
                self.check_periodic(blind)
            except AssertionError:
                continue
            raise AssertionError(f"a model {blind.__name__.replace('_', ' ')} passed as periodic")

    def test_forces_can_be_trained_on(self) -> None:
        self.check_trainable(self.model(torch.float64))

    def test_results_do_not_depend_on_the_gradient_mode_of_the_caller(self) -> None:
        model, graph = self.model(torch.float64), self.graph(self.molecules(), torch.float64)
        energy, forces = model(graph)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                inside = model(graph)
            assert torch.equal(inside[0], energy), mode.__name__
            assert torch.equal(inside[1], forces), mode.__name__


def _scatter(random: np.random.Generator, size: int) -> Any:
    """(size, 3) positions in a ball, one by one, no two closer than 0.9 angstrom."""
    placed = np.zeros((1, 3))
    while len(placed) < size:
        candidate = random.normal(scale=1.3, size=3)
        if np.linalg.norm(placed - candidate, axis=1).min() > 0.9:
            placed = np.vstack([placed, candidate])
    return placed
