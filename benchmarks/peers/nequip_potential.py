"""NequIP, for `worker` in its environment."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

warnings.simplefilter("ignore")
from frames import Batch, Frames, batch_of  # noqa: E402
from nequip.model import NequIPGNNModel  # noqa: E402
from nequip.utils.global_state import set_global_state  # noqa: E402
from training import Entry, asked  # noqa: E402

PACKAGES = ("nequip", "e3nn")
CUTOFF = 5.0  # angstrom


def entry(training: Frames, channels: int = 32, lmax: int = 2, layers: int = 3) -> Entry:
    """NequIP without odd parity, whose width, degree and depth are those of its tutorial for small molecules."""
    species = np.unique(training.numbers)
    batch = batch_of(training.numbers, training.positions[:50], CUTOFF)
    set_global_state(allow_tf32=False)
    module = NequIPGNNModel(
        seed=int(torch.initial_seed() % 2**31),
        model_dtype="float32",
        compile_mode="eager",
        r_max=CUTOFF,
        type_names=[str(number) for number in species],
        num_layers=layers,
        l_max=lmax,
        parity=False,
        num_features=channels,
        avg_num_neighbors=batch.edges.shape[1] / len(batch.owner),
        per_type_energy_scales=float(np.sqrt((training.forces**2).mean())),
    )
    return Entry(module, lambda positions: _given(batch_of(training.numbers, positions, CUTOFF)), _found)


def _given(batch: Batch) -> dict[str, Tensor]:
    return {
        "pos": batch.positions,
        "atom_types": batch.kinds,
        "edge_index": batch.edges,
        "batch": batch.owner,
        "num_atoms": torch.full((batch.frames,), len(batch.owner) // batch.frames),
    }


def _found(module: nn.Module, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    found = module(dict(given))
    return found["total_energy"].reshape(-1), found["forces"]


def answer(what: str, **arguments: Any) -> Any:
    """See `training.asked`."""
    return asked(entry, what, **arguments)
