"""One training loop for every potential, so that only the models differ. Nothing of the project or of a peer in it.

Shapes: B structures of n atoms each.
"""

import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from frames import Frames, frames
from stopwatch import median
from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """A potential to train. collate makes the input of some structures (positions (B, n, 3)), outside of the clock.

    predict: energies (B,) eV less the mean, forces (B n, 3) eV/angstrom, with a graph while the module trains.
    """

    module: nn.Module
    collate: Callable[[Any], Any]
    predict: Callable[[nn.Module, Any], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How to train. Rates fall by the share of the time that has passed, so that every potential ends its schedule."""

    batch: int = 5
    rate: float = 0.01
    last_rate: float = 1e-4
    flat: float = 0.1  # share of the time at the first rate; exponential from there on
    warm: int = 100  # steps of rising rate
    energy_weight: float = 1.0  # of the squared error an atom, 1 / eV^2
    force_weight: float = 100.0  # of the squared error of a component, angstrom^2 / eV^2
    clip: float = 10.0  # norm of the gradient
    average: float = 0.99  # decay of the averaged weights that are tested
    amsgrad: bool = True


def train(entry: Entry, training: Frames, validation: Frames, recipe: Recipe, seconds: float, seed: int) -> Any:
    """The module with averaged weights after so many seconds of steps, and what happened: steps, epochs, rows."""
    module = entry.module.train()
    averaged = copy.deepcopy(module).requires_grad_(False)
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.rate, amsgrad=recipe.amsgrad)
    order, spent, steps, told = np.random.default_rng(seed), 0.0, 0, 60.0
    forces = torch.from_numpy(training.forces).float()
    energies = torch.from_numpy(training.energies).float()
    while spent < seconds:
        for chosen in np.array_split(order.permutation(len(training)), len(training) // recipe.batch):
            batch = entry.collate(training.positions[chosen])
            wanted, energy = forces[chosen].flatten(0, 1), energies[chosen]
            start = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = _rate(recipe, spent / seconds, steps)
            found, felt = entry.predict(module, batch)
            per_atom = (found - energy) / len(training.numbers)
            loss = recipe.energy_weight * per_atom.square().mean()
            loss = loss + recipe.force_weight * (felt - wanted).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
            optimizer.step()
            decay = min(recipe.average, (1 + steps) / (10 + steps))
            with torch.no_grad():
                torch._foreach_lerp_(list(averaged.parameters()), list(module.parameters()), 1 - decay)
            spent += time.perf_counter() - start
            steps += 1
            if spent >= seconds:
                break
            if spent > told:
                told += 60
                say(seconds=round(spent), steps=steps, loss=float(loss), valid=errors(entry, averaged, validation))
    return averaged, {"steps": steps, "epochs": round(steps * recipe.batch / len(training), 1)}


def _rate(recipe: Recipe, passed: float, step: int) -> float:
    falling = max(0.0, (passed - recipe.flat) / (1 - recipe.flat))
    rising = min(1.0, (step + 1) / recipe.warm)
    return float(rising * recipe.rate * (recipe.last_rate / recipe.rate) ** falling)


def errors(entry: Entry, module: nn.Module, frames: Frames, batch: int = 50) -> dict[str, float]:
    """Mean absolute errors, energy in meV and force components in meV/angstrom."""
    module.eval()
    energy, force = [], []
    for start in range(0, len(frames), batch):
        part = frames.part(start, start + batch)
        found, felt = entry.predict(module, entry.collate(part.positions))
        energy.append((found.detach().numpy() - part.energies).ravel())
        force.append((felt.detach().numpy().reshape(part.forces.shape) - part.forces).ravel())
    module.train()
    return {
        name: round(1e3 * float(np.abs(np.concatenate(all_)).mean()), 3)
        for name, all_ in (("energy", energy), ("force", force))
    }


def asked(entry_of: Callable[..., Entry], what: str, **arguments: Any) -> Any:
    """What `worker` is asked for: "train" (`trained`) or "time" (`inference`)."""
    return {"train": trained, "time": inference}[what](entry_of, **arguments)


def trained(
    entry_of: Callable[..., Entry],
    *,
    molecule: str,
    seed: int,
    seconds: float,
    settings: Any,
    recipe: Any,
    threads: int,
) -> dict[str, Any]:
    """Train a fresh potential for so many seconds of steps; what happened and the errors of the test frames."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    training, validation, tested = frames(molecule)
    entry = entry_of(training, **settings)
    parameters = sum(parameter.numel() for parameter in entry.module.parameters())
    module, happened = train(entry, training, validation, Recipe(**recipe), seconds, seed)
    return {**happened, "parameters": parameters, **errors(entry, module, tested)}


def inference(
    entry_of: Callable[..., Entry], *, molecule: str, structures: int, seconds: float, settings: Any, threads: int
) -> float:
    """Milliseconds of energies and forces of so many structures at once: the median of the calls."""
    torch.set_num_threads(threads)
    training, _, tested = frames(molecule)
    entry = entry_of(training, **settings)
    module, given = entry.module.eval(), entry.collate(tested.positions[:structures])
    return median(lambda: entry.predict(module, given), seconds, least=5)


def say(**told: Any) -> None:
    """One line of JSON, of how it goes."""
    sys.stderr.write(json.dumps(told) + "\n")
    sys.stderr.flush()
