"""Sections that several reports share: trials, predictions, figures, where things come from."""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.store import Store
from jobs.report.figures import parity, trial_curves
from jobs.report.page import Markup, Section, Tile, figures, table
from jobs.report.sources import read_predictions, read_trials


def trials_section(store: Store, run: str, metric: str) -> Section:
    """Every trial of a sweep, best first."""
    trials = read_trials(store, run)
    names = list(dict.fromkeys(name for trial in trials for name in trial["parameters"]))
    rows = [
        [
            trial["trial"],
            *(trial["parameters"].get(name) for name in names),
            trial["steps"],
            trial.get("seconds"),
            trial["value"],
            trial["status"],
        ]
        for trial in trials
    ]
    headers = ["trial", *(_short(name) for name in names), "steps", "seconds", metric, "ended"]
    body = Markup(figures(trial_curves(trials, metric)) + table(headers, rows, best=0)) if rows else Markup()
    return Section("Search", body, f"{len(trials)} trials, best first; run {run}.")


def predictions_section(store: Store, key: str, what: str) -> Section:
    """Predicted against reference energies and forces."""
    predictions = read_predictions(store, key)
    if predictions is None:
        return Section("Predictions", Markup())
    energies = parity(predictions.energies, predictions.predicted_energies, "energy", "eV/atom", centred=True)
    forces = parity(predictions.forces, predictions.predicted_forces, "forces", "eV/Å")
    return Section("Predicted against reference", figures(energies, forces), what)


def metrics_section(metrics: Mapping[str, Any]) -> Section:
    """All figures, by name."""
    rows = [(name, value) for name, value in metrics.items() if isinstance(value, int | float | str)]
    return Section("All figures", table(["figure", "value"], rows) if rows else Markup())


def seconds_section(seconds: Mapping[str, Any]) -> Section:
    """How long each step took."""
    rows: Sequence[Sequence[Any]] = [(name, f"{value:.1f}") for name, value in seconds.items()]
    return Section("Seconds by step", table(["step", "seconds"], rows) if rows else Markup())


def metric_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """The headline figures that are there, each beside what to compare it with."""
    tiles = []
    error, size = metrics.get("force_mae_ev_per_ang"), metrics.get("force_mean_abs_ev_per_ang")
    if error is not None:
        aside = f"{error / size:.1%} of the mean absolute force, {size:.3g}" if size else ""
        tiles.append(Tile("force MAE, eV/Å", f"{error:.3g}", aside))
    energy, baseline = metrics.get("energy_mae_per_atom_ev"), metrics.get("baseline_energy_mae_per_atom_ev")
    if energy is not None:
        aside = f"the training mean: {baseline * 1000:.3g}" if baseline is not None else ""
        tiles.append(Tile("energy MAE, meV/atom", f"{energy * 1000:.3g}", aside))
    if (turned := metrics.get("rotation_rel_error")) is not None:
        tiles.append(Tile("rotation error", f"{turned:.1e}", "relative, of forces of turned molecules"))
    if (probe := metrics.get("linear_probe_accuracy")) is not None:
        raw, blank = metrics.get("raw_pixels_accuracy"), metrics.get("untrained_accuracy")
        parts = [
            f"raw pixels {raw:.1%}" if raw is not None else "",
            f"untrained {blank:.1%}" if blank is not None else "",
        ]
        tiles.append(Tile("linear probe", f"{probe:.1%}", ", ".join(part for part in parts if part)))
    return tiles


def _short(name: str) -> str:
    """ "embedding.radial.params.number" as a column title: "radial number"."""
    parts = [part for part in name.split(".") if part not in ("params", "embedding", "model", "optimizer", "name")]
    return " ".join(parts) or name
