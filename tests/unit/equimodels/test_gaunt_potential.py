"""What the Gaunt potential does beyond the contract of potentials: facts, scales, species, dtypes."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from equimodels.errors import SettingError
from equimodels.models.atomic_facts import atomic_facts
from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph, Structure
from equimodels.ops import GauntProduct

SMALL = GauntPotentialConfig(channels=4, radial_hidden=8)
EMBEDDING = {"radial": {"name": "bessel", "params": {"number": 4}}}


def samples(count=6, seed=0):
    """Clusters of H, C and O with energies of -10, -20 and -30 eV an atom."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        numbers = random.choice([1, 6, 8], size=random.integers(3, 7))
        positions = random.uniform(0, 1, (len(numbers), 3)) + 1.5 * np.arange(len(numbers))[:, None]
        energy = float(sum({1: -10.0, 6: -20.0, 8: -30.0}[int(number)] for number in numbers))
        made.append((numbers, positions, energy, random.normal(size=(len(numbers), 3))))
    return made


def potential(seed=0, facts=None):
    torch.manual_seed(seed)
    facts = GauntPotential.gather_facts(SMALL, samples()) if facts is None else facts
    return GauntPotential.build(SMALL, EMBEDDING, facts)


def graph(labelled, dtype=torch.float64):
    return AtomGraph.collate([Structure.of(numbers, x, 5.0, dtype) for numbers, x, _, _ in labelled])


def test_reference_energies_are_found_by_least_squares():
    facts = atomic_facts(samples(), 5.0)
    assert facts["species"] == [1, 6, 8]
    assert facts["reference_energies"] == pytest.approx([-10, -20, -30], abs=1e-9)
    assert facts["energy_rms_per_atom"] == pytest.approx(0, abs=1e-9)


def test_one_composition_still_gives_references_that_add_up():
    numbers, positions, _, forces = samples(1)[0]
    facts = atomic_facts([(numbers, positions, energy, forces) for energy in (-4209.0, -4211.0)], 5.0)
    total = sum(facts["reference_energies"][facts["species"].index(number)] for number in numbers)
    assert total == pytest.approx(-4210.0, rel=1e-12)


def test_scales_are_those_of_the_definition():
    labelled = samples()
    facts = atomic_facts(labelled, 5.0)
    forces = np.concatenate([force.ravel() for *_, force in labelled])
    assert facts["force_rms"] == pytest.approx(np.sqrt((forces**2).mean()))
    assert facts["force_mean_abs"] == pytest.approx(np.abs(forces).mean())
    assert facts["mean_neighbours"] == pytest.approx(graph(labelled).edges.shape[1] / facts["atoms"])


def test_facts_survive_json_exactly():
    facts = atomic_facts(samples(), 5.0)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize(
    ("labelled", "match"),
    [
        ([], "no atoms"),
        ([(np.array([1]), np.zeros((1, 3)), -1.0, np.zeros((1, 3)))], "all zero"),
        ([(np.array([1]), np.zeros((1, 3)), float("nan"), np.ones((1, 3)))], "structure 0 .* not finite"),
    ],
)
def test_samples_that_give_no_facts_are_refused(labelled, match):
    with pytest.raises(SettingError, match=match):
        atomic_facts(labelled, 5.0)


def test_energies_are_float64_with_references_at_full_precision():
    facts = GauntPotential.gather_facts(SMALL, samples()) | {"reference_energies": [-13.6, -1029.5, -17660.123456789]}
    model = potential(facts=facts).float().double().float().eval()
    numbers = np.array([8, 8])
    far = AtomGraph.collate([Structure.of(numbers, np.array([[0.0, 0, 0], [100, 0, 0]]), 5.0, torch.float32)])
    scaled = model.atomic_energies(far, model._kind(far.numbers), far.positions).double().sum() * model.scale
    energy = model(far).energy
    assert energy.dtype == torch.float64
    assert_close(energy[0] - scaled, torch.tensor(2 * -17660.123456789, dtype=torch.float64), rtol=0, atol=1e-9)


def test_forces_come_in_the_dtype_of_the_model():
    forces = potential().float()(graph(samples())).forces
    assert forces.dtype == torch.float32


def test_forces_can_be_left_out():
    model = potential().eval()
    with torch.no_grad():
        energy, forces = model(graph(samples()), with_forces=False)
    assert forces.shape == (0, 3)
    assert_close(energy, model(graph(samples())).energy)


@pytest.mark.parametrize("number", [7, 0, 200, -1])
def test_an_element_it_was_not_made_for_is_refused(number):
    lonely = AtomGraph.collate([Structure.of(np.array([1, number]), np.array([[0.0, 0, 0], [1, 0, 0]]), 5.0)])
    with pytest.raises(SettingError, match=rf"\[{number}\].*\[1, 6, 8\]"):
        potential()(lonely)


def test_a_single_atom_has_an_energy_and_no_force():
    energy, forces = potential().eval()(AtomGraph.collate([Structure.of(np.array([6]), np.zeros((1, 3)), 5.0)]))
    assert energy.isfinite().all()
    assert torch.equal(forces, torch.zeros(1, 3))


def test_in_eval_mode_nothing_of_the_graph_is_kept():
    energy, forces = potential().eval()(graph(samples()))
    assert not energy.requires_grad
    assert not forces.requires_grad


def test_the_second_derivative_by_positions_is_right():
    model, small = potential().double().train(), graph(samples(1))
    with torch.no_grad():
        model.readout_last.normal_()

    def forces(positions):
        return model(AtomGraph(small.numbers, positions, small.edges, small.shifts, small.owner, 1)).forces

    assert torch.autograd.gradcheck(forces, small.positions.requires_grad_())


def test_the_product_can_be_exchanged():
    class Reference(torch.nn.Module):
        """Products one after the other, without a shared grid."""

        def __init__(self, lmax, lmax_out, order):
            super().__init__()
            self.shape, self.lmax_out = (lmax, order), lmax_out
            self.steps = torch.nn.ModuleList(GauntProduct(k * lmax, lmax, (k + 1) * lmax) for k in range(1, order))

        def forward(self, x, weights):
            factor = first = x / (self.shape[0] + 1)
            keep = (self.lmax_out + 1) ** 2
            total = weights[..., :1] * factor[..., :keep]
            for k, step in enumerate(self.steps, start=1):
                factor = step(factor, first)
                total = total + weights[..., k : k + 1] * factor[..., :keep]
            return total

    class Products:
        def convolution(self, lmax_in, lmax_filter, lmax_out):
            from equimodels.ops import GauntConvolution

            return GauntConvolution(lmax_in, lmax_filter, lmax_out, degree=12)

        def power(self, lmax_in, lmax_out, order):
            return Reference(lmax_in, lmax_out, order)

    usual = potential().double().eval()
    other = GauntPotential(
        SMALL, embedding=EMBEDDING, facts=GauntPotential.gather_facts(SMALL, samples()), products=Products()
    )
    other = other.double().eval()
    other.load_state_dict(usual.state_dict())
    for found, expected in zip(other(graph(samples())), usual(graph(samples())), strict=True):
        assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"lmax": 7}, "lmax"),
        ({"channels": 0}, "channels"),
        ({"cutoff": 0}, "cutoff"),
        ({"many_body_order": 5}, "many"),
        ({"lmax_between": 3}, "lmax_between"),
    ],
)
def test_a_bad_setting_is_refused_by_name(params, field):
    with pytest.raises(SettingError, match=field):
        GauntPotentialConfig(**params)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"force_rms": 0.0}, "force_rms"),
        ({"species": [1]}, "reference energy"),
        ({"mean_neighbours": -1.0}, "mean_neighbours"),
        ({"species": [0, 6, 8]}, "1 to 118"),
    ],
)
def test_facts_that_do_not_fit_are_refused(change, match):
    with pytest.raises(SettingError, match=match):
        potential(facts=GauntPotential.gather_facts(SMALL, samples()) | change)


def test_missing_facts_are_named():
    with pytest.raises(SettingError, match="reference_energies, force_rms"):
        potential(facts={"species": [1], "mean_neighbours": 1.0})
