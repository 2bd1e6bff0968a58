"""What a structure must be, and that its answer is the model's own; the model is a spring between neighbours."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from equimodels.models.graph import AtomGraph
from serve.predictors.energy import EnergyForces, EnergyPredictor
from serve.rejection import RejectedError
from serve.schemas import StructureIn
from serve.spec import Limits

CUTOFF = 3.0


class Out(NamedTuple):
    energy: Tensor
    forces: Tensor


class Springs:
    """Double of a potential: each directed edge holds |r|^2 / 4 eV. A lithium atom (3) makes its energy NaN."""

    def __call__(self, graph: AtomGraph) -> Out:
        vectors = graph.positions[graph.edges[1]] - graph.positions[graph.edges[0]]
        per_edge = (vectors**2).sum(-1) / 4
        energy = torch.zeros(graph.structures, dtype=torch.float64).index_add(
            0, graph.owner[graph.edges[0]], per_edge.double()
        )
        poison = torch.where(graph.numbers == 3, torch.nan, 0.0).double()
        forces = torch.zeros_like(graph.positions).index_add(0, graph.edges[0], vectors)
        return Out(energy.index_add(0, graph.owner, poison), forces)


def predictor(dtype: torch.dtype = torch.float64, budget: int = 1000, **limits: Any) -> EnergyPredictor:
    return EnergyPredictor(
        Springs(), species=[8, 1, 3], cutoff=CUTOFF, facts={}, limits=Limits(**limits), budget=budget, dtype=dtype
    )


def structure(positions: Any, numbers: list[int] | None = None) -> StructureIn:
    positions = np.asarray(positions, dtype=float)
    return StructureIn.model_construct(numbers=numbers or [1] * len(positions), positions=positions.tolist())


def direct(positions: Any) -> EnergyForces:
    """The slow twin: every pair, one at a time, in float64."""
    x = np.asarray(positions, dtype=float)
    energy, forces = 0.0, np.zeros_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            r = x[j] - x[i]
            if i != j and np.linalg.norm(r) <= CUTOFF:
                energy += (r @ r) / 4
                forces[i] += r
    return EnergyForces(energy, forces)


def grid(seed: int, count: int) -> np.ndarray:
    """Atoms at least 0.6 angstrom apart."""
    random = np.random.default_rng(seed)
    cells = random.permutation(27)[:count]
    return np.stack([cells // 9, cells // 3 % 3, cells % 3], axis=1) + random.uniform(-0.2, 0.2, (count, 3))


def test_structures_of_one_batch_are_answered_as_if_alone() -> None:
    model = predictor()
    structures = [grid(seed, count) for seed, count in enumerate((1, 9, 2, 17))]
    answers = model.predict([model.prepare(structure(x)) for x in structures])
    for x, answer in zip(structures, answers, strict=True):
        assert isinstance(answer, EnergyForces)
        assert answer.energy == pytest.approx(direct(x).energy, rel=1e-12)
        np.testing.assert_allclose(answer.forces, direct(x).forces, atol=1e-12)


def test_a_molecule_far_from_the_origin_loses_no_digits_in_float32() -> None:
    model, x = predictor(torch.float32), grid(0, 9)
    near, far = (model.predict([model.prepare(structure(x + shift))])[0] for shift in (0.0, 30_000.0))
    assert isinstance(near, EnergyForces)
    assert isinstance(far, EnergyForces)
    assert far.energy == pytest.approx(near.energy, rel=1e-6)
    # The control: in float32 the shifted coordinates themselves keep three decimals only.
    assert np.abs((x + 30_000.0).astype(np.float32) - 30_000.0 - x).max() > 1e-4


def test_an_answer_that_is_not_finite_fails_that_structure_only() -> None:
    model = predictor()
    good = model.prepare(structure([[0, 0, 0], [1, 0, 0]]))
    poison = model.prepare(structure([[0, 0, 0], [1, 0, 0]], [3, 1]))
    first, second, third = model.predict([good, poison, good])
    assert isinstance(second, RejectedError)
    assert second.code == "not_finite"
    assert isinstance(first, EnergyForces)
    assert isinstance(third, EnergyForces)


@pytest.mark.parametrize(
    ("positions", "numbers", "code", "where", "words"),
    [
        ([[0, 0, 0], [1, 0, 0]], [1, 79], "unknown_species", ("numbers", 1), r"79 \(Au\).*1 \(H\), 3 \(Li\), 8 \(O\)"),
        ([[0, 0, 0], [1, 0, 0]], [1], "wrong_shape", ("positions",), "2 positions for 1"),
        ([[0, 0, 0], [1, float("nan"), 0]], None, "bad_position", ("positions", 1), "not finite"),
        ([[0, 0, 0], [1, 0, 0], [2, 0, 1e9]], None, "bad_position", ("positions", 2), "angstrom from the origin"),
        ([[0, 0, 0], [1, 0, 0], [1, 0.1, 0]], None, "too_close", ("positions", 2), "0.100 angstrom apart"),
        ([[5, 0, 0], [1, 0, 0], [1, 0, 0]], None, "too_close", ("positions", 2), "atoms 1 and 2 are 0.000"),
    ],
)
def test_a_structure_the_model_cannot_take_is_refused_in_plain_words(
    positions: Any, numbers: list[int] | None, code: str, where: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(RejectedError, match=words) as caught:
        predictor().prepare(structure(positions, numbers))
    assert (caught.value.status, caught.value.code, caught.value.where) == (422, code, where)


def test_a_structure_above_the_budget_is_refused_before_its_neighbours_are_sought() -> None:
    with pytest.raises(RejectedError) as caught:
        predictor(budget=2).prepare(structure([[0, 0, 0]] * 3))  # coincident, which would be the next complaint
    assert caught.value.status == 413


def test_a_structure_with_too_many_pairs_is_refused() -> None:
    crowd = np.stack(np.meshgrid(*[np.arange(5) * 0.5] * 3), axis=-1).reshape(-1, 3)
    with pytest.raises(RejectedError, match="neighbour pairs") as caught:
        predictor(max_pairs=1000).prepare(structure(crowd))
    assert (caught.value.status, caught.value.code) == (413, "too_dense")
    predictor(max_pairs=125 * 124).prepare(structure(crowd))


def test_the_probe_is_answered_whatever_the_smallest_distance() -> None:
    for model in (predictor(), predictor(min_distance_ang=2.5)):
        assert isinstance(model.predict([model.probe()])[0], EnergyForces | RejectedError)
        assert model.cost(model.probe()) == 2
