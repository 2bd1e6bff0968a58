"""What a report says of a training run: how it learned, how fast it went, what happened, who held what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster.store import Store
from jobs.recording.events import Event, read_events
from jobs.report.curves import draw, learning_panels, machine_panels, memory_bars, memory_names
from jobs.report.page import Markup, Section, Tile, figures, shown, table
from jobs.report.sharding import read_sharding, rows, size_of
from jobs.report.sources import Curve, read_curves

MOST_EVENTS = 60
MARKS = "Dashed: the workers started again. Red: steps left out. Diamond: the best weights."


def learning_section(curves: Mapping[str, Curve], marks: Sequence[Event], run: str) -> Section:
    """Loss and errors over the steps."""
    drawn = draw(learning_panels(curves), curves, marks, "curves", "Loss, errors and learning rate over the steps")
    note = f"Run {run}; a point a step for training, one an evaluation for validation."
    return Section("Training", figures(drawn), f"{note} {MARKS}" if marks else note)


def training_section(store: Store, run: str) -> Section:
    """The same of a run on the store."""
    return learning_section(read_curves(store, run), read_events(store, run), run)


def training_sections(store: Store, run: str) -> tuple[list[Tile], list[Section]]:
    """Headline figures and all sections; sections without content show nothing."""
    curves, marks = read_curves(store, run), read_events(store, run)
    speed = draw(machine_panels(curves), curves, marks, "speed", "Throughput and waiting over the steps")
    memory = "Resident memory of the process, or what was allocated on its GPU, at its highest."
    sections = [
        learning_section(curves, marks, run),
        Section("Throughput", figures(speed), "All workers together. FLOP/s are of products, as they are executed."),
        Section("Memory by rank", figures(memory_bars(curves)), memory),
        sharding_section(store, run),
        events_section(marks),
    ]
    return tiles(curves, marks), sections


def sharding_section(store: Store, run: str) -> Section:
    """Which rank answers for how much of each slot of the training state."""
    found = read_sharding(store, run)
    if found is None:
        return Section("Sharding", Markup())
    body = table(["rank", *found.slots, "together"], rows(found))
    note = f"What each rank wrote of the training state in the checkpoint of step {found.step}."
    return Section("Sharding", body, f"{note} Where ranks hold the same, as with ddp, they share the writing.")


def events_section(marks: Sequence[Event]) -> Section:
    """Everything that happened; of the evaluations that were the best so far, the last one."""
    bests = [mark for mark in marks if mark.what == "best"]
    told = [mark for mark in marks if mark.what != "best" or mark is bests[-1]]
    cells = [
        [mark.at[:19].replace("T", " "), mark.step, mark.what, mark.attempt, _details(mark.details)]
        for mark in told[-MOST_EVENTS:]
    ]
    note = f"The last {MOST_EVENTS} of {len(told)}." if len(told) > MOST_EVENTS else ""
    headers = ["UTC", "step", "what", "attempt", "details"]
    return Section("Events", table(headers, cells, prose=True) if cells else Markup(), note)


def tiles(curves: Mapping[str, Curve], marks: Sequence[Event]) -> list[Tile]:
    """The figures that people ask for first."""
    found = []
    if "loss" in curves:
        curve = curves["loss"]
        found.append(Tile("loss", f"{curve.values[-1]:.4g}", f"at step {curve.steps[-1]:.0f}"))
    bests = [mark for mark in marks if mark.what == "best"]
    for name, value in list(bests[-1].details.items())[:1] if bests else []:
        found.append(Tile(f"best {name}", shown(value), f"at step {bests[-1].step}"))
    rate = next((n for n in ("atoms", "images", "samples") if f"{n}_per_second" in curves), None)
    if rate is not None:
        values = curves[f"{rate}_per_second"].values
        found.append(Tile(f"{rate}/s", f"{np.median(values):,.0f}", "median over the steps"))
    if "data_wait" in curves:
        found.append(Tile("waiting for data", f"{curves['data_wait'].values.mean():.1%}", "of the time of steps"))
    if names := memory_names(curves):
        peak = max(curves[name].values.max() for name in names)
        found.append(Tile("peak memory", size_of(peak), f"the largest of {len(names)} ranks"))
    again = sum(mark.what == "resumed" for mark in marks)
    left_out = sum(mark.what == "skipped" for mark in marks)
    if again or left_out:
        found.append(Tile("resumed", str(again), f"{left_out} steps left out"))
    return found


def _details(details: Mapping[str, Any]) -> str:
    text = "; ".join(f"{name} {shown(value)}" for name, value in details.items() if value is not None)
    return text if len(text) <= 160 else f"{text[:157]}..."
