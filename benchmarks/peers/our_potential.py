"""Our potential of Gaunt products, for `worker` in the project's environment."""

from typing import Any

import torch
from frames import Frames, batch_of
from torch import Tensor, nn
from training import Entry, asked

from equimodels.models.gaunt_potential import GauntPotential, GauntPotentialConfig
from equimodels.models.graph import AtomGraph
from equimodels.presets import PRESETS

PACKAGES = ("equimodels",)


def entry(training: Frames, number: int = 8, **settings: Any) -> Entry:
    """A fresh potential of preset M and these settings; `number` of radial functions."""
    config = GauntPotentialConfig(**(dict(PRESETS["gaunt_potential"]["M"]) | settings))
    facts = GauntPotential.gather_facts(
        config,
        (
            (training.numbers, *sample)
            for sample in zip(training.positions, training.energies, training.forces, strict=True)
        ),
    )
    numbers = torch.tensor(sorted(set(training.numbers.tolist())))

    def collate(positions: Any) -> AtomGraph:
        batch = batch_of(training.numbers, positions, config.cutoff)
        shifts = batch.positions.new_zeros(batch.edges.shape[1], 3)
        return AtomGraph(numbers[batch.kinds], batch.positions, batch.edges, shifts, batch.owner, batch.frames)

    embedding = {"radial": {"name": "bessel", "params": {"number": number}}}
    return Entry(GauntPotential(config, embedding=embedding, facts=facts), collate, _found)


def _found(module: nn.Module, graph: AtomGraph) -> tuple[Tensor, Tensor]:
    energy, forces = module(graph)
    return energy.float(), forces


def answer(what: str, **arguments: Any) -> Any:
    """See `training.asked`."""
    return asked(entry, what, **arguments)
