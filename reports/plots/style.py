"""The style of every plot: colours that colour-blind readers can distinguish, with markers and dashes besides."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#1d2430"
MUTED = "#5c6675"
RULE = "#d5d9e0"
ON_LIGHT = "#1d2431"
"""Text on a light area of the plot, in both themes."""
BASELINE = "#7a8494"
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#b5579b", "#c98a00", "#3d9bd6", "#882255", "#6f7a00", "#5d4fc4",
    "#a65628", "#008b8b",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (1, 1)), (0, (8, 3)))

PDF_FONTS = 42
"""Embed TrueType; journals refuse Type 3 fonts."""

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # labels are untrusted text, never formulas
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "reports",
    "pdf.fonttype": PDF_FONTS,
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one row of the table is drawn."""

    colour: str
    marker: str
    dash: Any


UNTOUCHED = SeriesStyle(BASELINE, "o", (0, (1, 1.5)))
"""The style of the untouched base."""


def series_style(colour: int, shape: int) -> SeriesStyle:
    """Return a colour with a marker and a dash; when colours repeat, shapes are shifted, so that pairs stay unique."""
    shape += colour // len(COLOURS)
    return SeriesStyle(COLOURS[colour % len(COLOURS)], MARKERS[shape % len(MARKERS)], DASHES[shape % len(DASHES)])


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (size in inches), to be drawn and saved inside ``styled``."""
    return Figure(figsize=(width, height), layout="constrained")


def styled() -> Any:
    """Return the context in which figures are drawn."""
    return mpl.rc_context(RC)


def save(figure: Figure, kind: str) -> bytes:
    """Return the figure as ``svg`` or ``pdf`` bytes; equal figures give equal bytes."""
    blank = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=blank[kind])
    return out.getvalue()
