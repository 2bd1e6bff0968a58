"""Each check of the contract of models can fail: what is slightly wrong is caught by the check that is for it."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import pytest
import torch

from equimodels.embeddings import bessel
from equimodels.errors import SettingError
from equimodels.models.invariant_potential import InvariantPotential, InvariantPotentialConfig
from equimodels.models.potential import EnergyForces
from equimodels.models.stress import with_stress
from equimodels.testing import ModelContract

EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 6}}}
FACTS = {
    "species": [1, 6, 8],
    "reference_energies": [-13.6, -1029.5, -2042.0],
    "force_rms": 1.2,
    "mean_neighbours": 5.0,
}


class Contract(ModelContract):
    """Not collected by its name: the contract of the smallest potential."""

    def build(self):
        config = InvariantPotentialConfig(channels=8, layers=2, radial_hidden=8)
        return InvariantPotential(config, embedding=EMBEDDING, facts=FACTS)


CONTRACT = Contract()


@cache
def model():
    return CONTRACT.model(torch.float64)


def changed(energy=lambda graph, value: value, forces=lambda graph, value: value):
    """The model with something done to its results."""

    def call(graph, with_forces=True):
        found = model()(graph, with_forces)
        return EnergyForces(energy(graph, found.energy), forces(graph, found.forces))

    return call


def mean_size(graph):
    return torch.full((graph.structures,), len(graph.owner) / graph.structures, dtype=torch.float64)


def test_a_model_that_counts_what_is_beside_a_structure_is_caught():
    sees_the_batch = changed(energy=lambda graph, value: value + 1e-3 * mean_size(graph))
    with pytest.raises(AssertionError, match="padding"):
        CONTRACT.check_padding(sees_the_batch)


def test_a_model_whose_energy_is_not_a_sum_is_caught():
    per_structure = changed(energy=lambda graph, value: value + 1e-3)
    with pytest.raises(AssertionError, match="not the sum"):
        CONTRACT.check_extensive(per_structure)


def test_an_isolated_atom_that_moves_by_itself_is_caught():
    drifting = changed(forces=lambda graph, value: value + 1e-12)
    with pytest.raises(AssertionError, match="feels a force"):
        CONTRACT.check_extensive(drifting)


def test_a_pair_that_is_pushed_off_its_line_is_caught():
    turn = torch.tensor([[1.0, 1e-6, 0], [-1e-6, 1, 0], [0, 0, 1]], dtype=torch.float64)
    with pytest.raises(AssertionError, match="off their line"):
        CONTRACT.check_pairs(changed(forces=lambda graph, value: value @ turn))


@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_a_cutoff_with_fewer_than_two_derivatives_is_caught(monkeypatch, power):
    """The envelope (1 - u)^power has power - 1 continuous derivatives."""

    def envelope(distance, cutoff):
        u = (distance / cutoff).clamp(max=1.0)
        return (1 - u) ** power if power else (u < 1).to(distance)

    monkeypatch.setattr(bessel, "polynomial_cutoff", envelope)
    # Bessel functions are zero at the cutoff themselves, which would be one derivative more.
    monkeypatch.setattr(torch, "sin", torch.cos)
    expected = nullcontext() if power == 3 else pytest.raises(AssertionError, match="jumps at the cutoff")
    with expected:
        CONTRACT.check_smooth(model())


def test_stress_without_the_lattice_is_caught():
    def without_shifts(graph, with_forces=True):
        return model()(replace(graph, shifts=graph.shifts.detach()), with_forces)

    with pytest.raises(AssertionError, match="slope of the energy by the strain"):
        CONTRACT.check_stress(without_shifts)


def test_volumes_that_are_none_are_refused():
    crystal = CONTRACT.graph([CONTRACT.crystal()], torch.float64)
    for volumes in (torch.ones(2), torch.zeros(1)):
        with pytest.raises(SettingError, match="volumes"):
            with_stress(model(), crystal, volumes)


def test_molecules_have_no_stress_from_a_lattice_but_a_virial():
    graph = CONTRACT.graph(CONTRACT.molecules(), torch.float64)
    found = with_stress(model(), graph, torch.tensor([1.0, 2.0]))
    centred = graph.positions  # forces sum to zero, so the origin does not matter
    virial = torch.zeros(2, 3, 3).double().index_add(0, graph.owner, -centred[:, :, None] * found.forces[:, None, :])
    torch.testing.assert_close(found.stress * torch.tensor([1.0, 2.0])[:, None, None], virial, rtol=0, atol=1e-10)


def test_forces_that_do_work_on_a_round_trip_are_caught():
    def stirred(graph, value):
        return value + 0.02 * torch.linalg.cross(graph.positions, torch.tensor([0.0, 0, 1]).to(value).expand_as(value))

    with pytest.raises(AssertionError, match="drifts"):
        CONTRACT.check_energy_is_conserved(changed(forces=stirred))


def test_forces_wrong_by_two_parts_in_a_million_are_caught():
    CONTRACT.check_conservative(model())
    with pytest.raises(AssertionError, match="gradient"):
        CONTRACT.check_conservative(changed(forces=lambda graph, value: value * (1 + 2e-6)))
