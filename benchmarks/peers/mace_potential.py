"""MACE as its training command builds it, for `worker` in MACE's environment."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")  # TorchScript, which it compiles with, has been deprecated by torch
import mace  # noqa: E402, F401  # first: it lets its e3nn load constants, which torch refuses since 2.6
from e3nn import o3  # noqa: E402
from frames import Batch, Frames, batch_of  # noqa: E402
from mace.modules import ScaleShiftMACE, gate_dict, interaction_classes  # noqa: E402
from training import Entry, asked  # noqa: E402

PACKAGES = ("mace-torch", "e3nn")
CUTOFF = 5.0  # angstrom


def entry(training: Frames, channels: int = 32) -> Entry:
    """MACE with so many channels of degrees 0 and 1; what else its command sets by default."""
    species = np.unique(training.numbers)
    batch = batch_of(training.numbers, training.positions[:50], CUTOFF)
    module = ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(species),
        hidden_irreps=o3.Irreps(f"{channels}x0e + {channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(species)),
        avg_num_neighbors=batch.edges.shape[1] / len(batch.owner),
        atomic_numbers=species.tolist(),
        correlation=3,
        gate=gate_dict["silu"],
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=float(np.sqrt((training.forces**2).mean())),
        atomic_inter_shift=0.0,
    )
    return Entry(module, lambda positions: _given(batch_of(training.numbers, positions, CUTOFF), len(species)), _found)


def _given(batch: Batch, species: int) -> dict[str, Tensor]:
    zeros = torch.zeros(batch.edges.shape[1], 3)
    return {
        "positions": batch.positions,
        "node_attrs": nn.functional.one_hot(batch.kinds, species).float(),
        "edge_index": batch.edges,
        "shifts": zeros,
        "unit_shifts": zeros,
        "cell": torch.zeros(3 * batch.frames, 3),
        "batch": batch.owner,
        "ptr": torch.arange(batch.frames + 1) * (len(batch.owner) // batch.frames),
        "head": torch.zeros(batch.frames, dtype=torch.long),
    }


def _found(module: nn.Module, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    found = module(given, training=module.training)
    return found["energy"], found["forces"]


def answer(what: str, **arguments: Any) -> Any:
    """See `training.asked`."""
    return asked(entry, what, **arguments)
