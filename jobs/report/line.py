"""Where a training run is, in the few figures that fit on a line, the most telling first."""

from collections.abc import Mapping
from typing import Any

_UNITS = {"force_mae": (1000.0, "meV/Å"), "energy_mae_per_atom": (1000.0, "meV/atom")}


def described(news: Mapping[str, Any]) -> dict[str, str]:
    """What stands beside the bar, from a `live.json`, in the order in which people would miss it.

    The names are always the same ones; "" for what is unknown. Rates are of all workers together, shares in per cent.
    The metric is the one that picks the best weights, at the last evaluation. MFU is there on GPUs whose peak is known.
    """
    now, measured, metric = news.get("now", {}), news.get("measured", {}), str(news.get("metric", "valid/loss"))
    samples, atoms, images = (now.get(f"{what}_per_second") for what in ("samples", "atoms", "images"))
    flops = now.get("flops_per_second")
    return {
        "loss": _number(now.get("loss")),
        _words(metric): _with_unit(metric, measured.get(metric)),
        "samples/s": "" if images else _short(samples),
        "images/s": _short(images),
        "data wait": _percent(now.get("data_wait")),
        "skipped": _count(now.get("skipped")),
        "restarts": _count(news.get("restarts")),
        "atoms/s": _short(atoms),
        "FLOP/s": _short(flops or None),
        "MFU": _percent(now.get("mfu")),
        "epoch": "" if now.get("epoch") is None else f"{now['epoch']:.1f}",
    }


def seconds_left(news: Mapping[str, Any]) -> float | None:
    """By the mean pace of this start of the workers, evaluations included."""
    left = news.get("now", {}).get("seconds_left")
    return None if left is None else float(left)


def _words(metric: str) -> str:
    """ "valid/force_mae" as people write it: "force MAE"; only a loss has to say that it is not the training's."""
    plain = metric if metric.endswith("/loss") else metric.rpartition("/")[2]
    return plain.replace("/", " ").replace("_", " ").replace(" mae", " MAE").replace(" per atom", "")


def _with_unit(metric: str, value: float | None) -> str:
    factor, unit = _UNITS.get(metric.rpartition("/")[2], (1.0, ""))
    return "" if value is None else f"{value * factor:.1f} {unit}" if unit else _number(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}%"


def _count(number: float | None) -> str:
    return f"{number:.0f}" if number else ""


def _short(rate: float | None) -> str:
    """Three digits: 812, 12.3k, 1.24M, 3.1T."""
    if rate is None:
        return ""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= limit * 0.9995:
            return f"{rate / limit:.3g}{letter}"
    return f"{rate:.3g}"
