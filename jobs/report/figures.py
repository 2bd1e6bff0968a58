"""Figures as inline SVG: drawn without a display, readable on a light and on a dark page.

Lines of the frame and all text are drawn in one colour that is then replaced by `currentColor`, so the page decides it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs.report.sources import Floats

_INK = "#0a0b0c"  # stands for the page's text colour until the SVG is written
BLUE, ORANGE, GREY, RED = "#3f7fc1", "#d9822b", "#8a94a0", "#c9463d"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp, and in the page's font
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def parity(reference: Floats, predicted: Floats, quantity: str, unit: str, *, centred: bool = False) -> str:
    """Predicted against reference, with the diagonal. centred: both less the mean of the reference (energies, whose
    origin means nothing)."""
    origin = float(reference.mean()) if centred else 0.0
    x, y = reference - origin, predicted - origin
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    with mpl.rc_context(STYLE):
        figure = blank(3.6, 3.4)
        axes = figure.add_subplot()
        axes.plot(limits, limits, color=_INK, linewidth=0.6, alpha=0.6)
        # As pixels inside the SVG: 2,000 dots are 0.23 MB as shapes, and a test split has more.
        dots: Any = {"marker": "o", "markersize": 2.5, "color": BLUE, "alpha": 0.45, "markeredgewidth": 0}
        axes.plot(x, y, linestyle="none", rasterized=True, **dots)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        less = " less the mean" if centred else ""
        axes.set_xlabel(f"reference {quantity}{less}, {unit}")
        axes.set_ylabel(f"predicted, {unit}")
        axes.set_title(f"MAE {np.mean(np.abs(y - x)):.3g} {unit}")
        return svg(figure, f"parity-{quantity}", f"Predicted against reference {quantity}")


def trial_curves(trials: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The metric of every trial over its steps, the best trial in colour; empty text where no trial has a curve."""
    drawn = [trial for trial in trials if trial.get("curve")]
    if not drawn:
        return ""
    with mpl.rc_context(STYLE):
        figure = blank(7.2, 2.8)
        axes = figure.add_subplot()
        for trial in reversed(drawn):  # the first is the best and is drawn last, on top
            steps, values = zip(*trial["curve"], strict=True)
            best = trial is drawn[0]
            label = f"trial {trial.get('trial')}, the best" if best else None
            colour, width = (ORANGE, 2.0) if best else (GREY, 1.0)
            axes.plot(steps, values, color=colour, linewidth=width, label=label, marker="o", markersize=3)
        if all(value > 0 for trial in drawn for _, value in trial["curve"]):
            logarithmic(axes)
        axes.set(xlabel="step", ylabel=metric)
        axes.legend()
        return svg(figure, "trials", f"{metric} of every trial over its steps")


def logarithmic(axes: Any) -> None:
    """Powers of ten, twice and five times them as plain numbers: 0.2 is read faster than 2 x 10^-1."""
    axes.set_yscale("log")

    def plain(value: float, place: int | None) -> str:
        leading = round(value / 10 ** math.floor(math.log10(value))) if value > 0 else 0
        return f"{value:g}" if leading in (1, 2, 5, 10) else ""

    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain)


def blank(width: float, height: float) -> Figure:
    """A figure of so many inches without a paper of its own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    return figure


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element. The name makes its inner ids differ from those of other figures of the page."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    sink = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"font-family: [^;\"]*;", "", text)  # the page's font
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)  # it names addresses on the network
    # Names of parts and references to them: several figures share one page.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
