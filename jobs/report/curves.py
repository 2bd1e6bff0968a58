"""Curves over the steps of a training run, what happened marked on them, and the memory of its workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

from jobs.recording.events import Event
from jobs.report.figures import BLUE, GREY, ORANGE, RED, STYLE, blank, logarithmic, svg
from jobs.report.sources import Curve, Floats

ACROSS = 3
POINTS = 400  # of a drawn curve; more are drawn as their mean and the range around it
BEGINNINGS = ("restarted", "resumed", "preempted", "changed")
MEMORY = "memory/rank"
_GIB = 2.0**30


@dataclass(frozen=True)
class Panel:
    """One quantity over the steps: of the training batches, of the validation split, or both."""

    title: str
    train: str | None = None
    valid: str | None = None
    factor: float = 1.0
    log: bool = False
    from_zero: bool = False


def learning_panels(curves: Mapping[str, Curve]) -> list[Panel]:
    """The loss, whatever is evaluated beside it, the learning rate and the norm of the gradients."""
    evaluated = [name for name in curves if name.startswith("valid/") and name != "valid/loss"]
    panels = [Panel("loss", "loss", "valid/loss", log=True)]
    panels += [_quantity(name) for name in sorted(evaluated, key=_telling)][: ACROSS - 1]
    panels += [Panel("learning rate", "lr"), Panel("norm of the gradients", "grad_norm", log=True)]
    return [panel for panel in panels if panel.train in curves or panel.valid in curves]


def machine_panels(curves: Mapping[str, Curve]) -> list[Panel]:
    """How fast it went, and what it waited for."""
    contents = [what for what in ("atoms", "images") if f"{what}_per_second" in curves] or ["samples"]
    panels = [Panel(f"{what} a second", f"{what}_per_second", from_zero=True) for what in contents[:1]]
    panels += [
        Panel("seconds a step", "step_seconds", from_zero=True),
        Panel("waiting for data, %", "data_wait", factor=100, from_zero=True),
        _flops(curves),
        Panel("MFU, %", "mfu", factor=100, from_zero=True),
    ]
    shown = [panel for panel in panels if panel.train in curves]
    return [panel for panel in shown if np.any(curves[str(panel.train)].values != 0)]


def _flops(curves: Mapping[str, Curve]) -> Panel:
    """In the unit that suits the machine."""
    largest = curves["flops_per_second"].values.max() if "flops_per_second" in curves else 0.0
    letter, factor = ("T", 1e-12) if largest >= 1e11 else ("G", 1e-9) if largest >= 1e8 else ("M", 1e-6)
    return Panel(f"{letter}FLOP/s of products", "flops_per_second", factor=factor, from_zero=True)


def draw(
    panels: Sequence[Panel], curves: Mapping[str, Curve], marks: Sequence[Event], name: str, description: str
) -> str:
    """The panels in rows; empty text where there are none.

    Dashed lines: the workers started again. Ticks at the bottom: steps left out. A diamond: the best evaluation.
    """
    if not panels:
        return ""
    rows, across = -(-len(panels) // ACROSS), min(ACROSS, len(panels))
    with mpl.rc_context(STYLE):
        figure = blank(3.5 * across, 2.5 * rows)
        for place, panel in enumerate(panels, start=1):
            _panel(figure.add_subplot(rows, across, place), panel, curves, marks)
        return svg(figure, name, description)


def memory_bars(curves: Mapping[str, Curve]) -> str:
    """Most memory that each rank has held, GiB; empty text where it was not measured."""
    peaks = {int(name.removeprefix(MEMORY)): curves[name].values.max() / _GIB for name in memory_names(curves)}
    if not peaks:
        return ""
    ranks = sorted(peaks)
    with mpl.rc_context(STYLE):
        figure = blank(min(10.5, 2.2 + 0.35 * len(ranks)), 2.2)
        axes = figure.add_subplot()
        axes.bar(ranks, [peaks[rank] for rank in ranks], color=BLUE, width=0.7)
        axes.set(xlabel="rank", ylabel="GiB")
        if len(ranks) <= 16:
            axes.set_xticks(ranks)
        return svg(figure, "memory", "Most memory that each rank has held")


def memory_names(curves: Mapping[str, Curve]) -> list[str]:
    """The curves of memory, one a rank."""
    return [name for name in curves if name.startswith(MEMORY)]


def thinned(curve: Curve) -> tuple[Floats, Floats, Floats, Floats]:
    """Steps, means, least and largest values of at most POINTS stretches of a curve."""
    there = np.isfinite(curve.values)
    steps, values = curve.steps[there], curve.values[there]
    if len(steps) <= POINTS:
        return steps, values, values, values
    parts = np.array_split(np.arange(len(steps)), POINTS)
    means = np.array([values[part].mean() for part in parts])
    least, most = (np.array([pick(values[part]) for part in parts]) for pick in (np.min, np.max))
    return np.array([steps[part].mean() for part in parts]), means, least, most


def _telling(name: str) -> tuple[int, str]:
    """Errors of forces before those of energies; what only describes the data comes last."""
    order = ("valid/force_mae", "valid/energy_mae_per_atom")
    last = len(order) + name.endswith("mean_abs")
    return (order.index(name) if name in order else last), name


def _quantity(name: str) -> Panel:
    plain = name.removeprefix("valid/")
    titles = {
        "force_mae": ("force MAE, meV/Å", 1000.0),
        "energy_mae_per_atom": ("energy MAE, meV/atom", 1000.0),
        "force_mean_abs": ("mean absolute force, eV/Å", 1.0),
    }
    title, factor = titles.get(plain, (plain.replace("_", " "), 1.0))
    return Panel(title, plain, name, factor, log=plain.endswith(("mae", "mae_per_atom")))


def _panel(axes: Any, panel: Panel, curves: Mapping[str, Curve], marks: Sequence[Event]) -> None:
    lowest = np.inf
    for name, colour, label in ((panel.train, GREY, "train"), (panel.valid, BLUE, "valid")):
        if name is None or name not in curves:
            continue
        steps, means, least, most = (panel.factor * part if n else part for n, part in enumerate(thinned(curves[name])))
        if not len(steps):
            continue
        lowest = min(lowest, least.min())
        few = "o" if len(steps) < 3 else ""
        axes.plot(steps, means, color=colour, label=label, marker=few, linewidth=1.8 if label == "valid" else 1.2)
        if len(curves[name].steps) > POINTS:
            axes.fill_between(steps, least, most, color=colour, alpha=0.25, linewidth=0)
    if panel.log and lowest > 0:
        logarithmic(axes)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    for step in sorted({mark.step for mark in marks if mark.what in BEGINNINGS}):
        axes.axvline(step, color=ORANGE, linewidth=1.0, linestyle=(0, (4, 3)))
    left_out = sorted({mark.step for mark in marks if mark.what == "skipped"})
    if left_out:
        low = axes.get_xaxis_transform()
        axes.plot(left_out, [0.03] * len(left_out), "|", color=RED, markersize=7, transform=low, label="left out")
    _best(axes, panel, curves, marks)
    axes.set_title(panel.title)
    axes.set_xlabel("step")
    if panel.valid in curves:
        axes.legend()


def _best(axes: Any, panel: Panel, curves: Mapping[str, Curve], marks: Sequence[Event]) -> None:
    bests = [mark.step for mark in marks if mark.what == "best"]
    if not bests or panel.valid is None or panel.valid not in curves:
        return
    curve = curves[panel.valid]
    at = np.flatnonzero(curve.steps == bests[-1])
    if len(at):
        axes.plot(bests[-1], panel.factor * curve.values[at[0]], "D", color=ORANGE, markersize=5, label="best")
