"""Heat maps of covariances of several benchmarks' inputs, and how alike they are (KORE's figures 4c, 8 and 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter

from reports.plots import style
from reports.plots.canvas import Plot, finish
from reports.text import sanitize

Matrix = npt.NDArray[np.float64]
PANELS_PER_LINE = 4
DECADES = 4
"""Powers of ten that the colours of a heat map span at most; what is smaller has the lightest one."""
TICK = 16
"""Characters of a name at an axis."""


@dataclass(frozen=True)
class LayerCovariances:
    """What one layer reads when several benchmarks are asked.

    Args:
        layer: The layer's name.
        benchmarks: Names of the benchmarks.
        pictures: Of each benchmark a pooled covariance, (size, size), not negative.
        similarities: By name of the measure a matrix (benchmarks, benchmarks) in [0, 1]. On the diagonal are two halves
            of a benchmark's own prompts.
        chance: By name of the measure its mean for covariances that have nothing in common, where that is known.
    """

    layer: str
    benchmarks: tuple[str, ...]
    pictures: tuple[Matrix, ...]
    similarities: Mapping[str, Matrix]
    chance: Mapping[str, float]


def covariance_plots(layers: Sequence[LayerCovariances]) -> list[Plot]:
    """Draw for each layer a plot of heat maps and one of similarities, and one of their means over several layers."""
    with style.styled():
        plots = [draw(one, f"-{number}") for number, one in enumerate(layers, 1) for draw in (_heat_maps, _matrices)]
        if len(layers) > 1:
            plots.append(_matrices(_mean(layers), "-mean"))
    return plots


def _mean(layers: Sequence[LayerCovariances]) -> LayerCovariances:
    first = layers[0]
    similarities = {
        name: np.stack([one.similarities[name] for one in layers]).mean(axis=0) for name in first.similarities
    }
    chance = {name: float(np.mean([one.chance[name] for one in layers])) for name in first.chance}
    return LayerCovariances(f"mean of {len(layers)} layers", first.benchmarks, (), similarities, chance)


def _heat_maps(one: LayerCovariances, place: str) -> Plot:
    lines, across = -(-len(one.benchmarks) // PANELS_PER_LINE), min(PANELS_PER_LINE, len(one.benchmarks))
    figure = style.new_figure(max(4.0, 2.3 * across + 0.9), 2.3 * lines + 0.3)
    panels = figure.subplots(lines, across, squeeze=False).ravel()
    norm = _colours(np.stack(one.pictures))
    data: list[tuple[str, ...]] = [("layer", "benchmark", "row", "column", "largest absolute value")]
    for axes, name, picture in zip(panels, one.benchmarks, one.pictures, strict=False):
        drawn = axes.imshow(picture, cmap="magma_r", norm=norm, interpolation="nearest")
        axes.set(title=sanitize(name, 24), xticks=[], yticks=[])
        data += [
            (sanitize(one.layer), sanitize(name), str(row), str(column), f"{value:.6g}")
            for (row, column), value in np.ndenumerate(picture)
        ]
    for axes in panels[len(one.benchmarks) :]:
        axes.set_visible(False)
    plain = FuncFormatter(lambda value, _: f"{value:g}")  # matplotlib's own labels are formulas
    bar = figure.colorbar(drawn, ax=panels.tolist(), shrink=0.85, label="largest |C|, logarithmic", format=plain)
    bar.ax.yaxis.set_minor_formatter(plain)
    size = len(one.pictures[0])
    largest = "; ".join(f"{sanitize(n)} {p.max():.3g}" for n, p in zip(one.benchmarks, one.pictures, strict=True))
    alt = f"Heat maps of {size} x {size} blocks, one for each benchmark. Largest absolute entry: {largest}."
    caption = (
        "Each block shows the largest absolute entry of the covariance there; the colours are the same in all maps."
    )
    title = f"Covariances of the inputs of {sanitize(one.layer)}"
    return finish(f"covariances{place}", title, alt, caption, tuple(data), figure)


def _colours(pictures: Matrix) -> LogNorm:
    """Logarithmic colours from the least block to the largest, over no more than ``DECADES``."""
    top = float(pictures.max()) or 1.0
    least = max(float(pictures.min()), top / 10**DECADES)
    return LogNorm(min(least, top / 10), top, clip=True)


def _matrices(one: LayerCovariances, place: str) -> Plot:
    count = len(one.benchmarks)
    side = max(2.2, 0.34 * count + 1.2)
    figure = style.new_figure(side * len(one.similarities), side + 0.2)
    panels = figure.subplots(1, len(one.similarities), squeeze=False)[0]
    data: list[tuple[str, ...]] = [("layer", "measure", "first", "second", "similarity", "chance")]
    texts = []
    for axes, (measure, matrix) in zip(panels, one.similarities.items(), strict=True):
        chance = f"{one.chance[measure]:.4f}" if measure in one.chance else ""
        axes.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if value > 0.6 else style.ON_LIGHT
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
            pair = (sanitize(one.benchmarks[row]), sanitize(one.benchmarks[column]))
            data.append((sanitize(one.layer), measure, *pair, f"{value:.6f}", chance))
        _name_benchmarks(axes, one.benchmarks)
        axes.set(title=measure, xlabel=f"chance {one.chance[measure]:.3f}" if chance else "")
        texts.append(_pairs(measure, matrix, one.benchmarks))
    caption = "1 is equal, 0 has nothing in common. On the diagonal: two halves of the benchmark's own prompts."
    title = f"How alike the covariances are: {sanitize(one.layer)}"
    return finish(f"similarity{place}", title, " ".join(texts), caption, tuple(data), figure)


def _name_benchmarks(axes: Axes, names: Sequence[str]) -> None:
    shown = [safe if len(safe := sanitize(name)) <= TICK else f"{safe[: TICK - 1]}…" for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=45, ha="right", fontsize=7.5)
    axes.set_yticks(range(len(names)), shown, fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _pairs(measure: str, matrix: Matrix, names: Sequence[str]) -> str:
    """The most and the least similar pair, in words."""
    pairs = [(float(matrix[b, a]), names[a], names[b]) for b in range(len(names)) for a in range(b)]
    if not pairs:
        return f"{measure}: one benchmark, its halves {float(matrix[0, 0]):.2f}."
    ends = (("highest", max(pairs)), ("lowest", min(pairs)))
    return f"{measure}: " + ", ".join(f"{end} {v:.2f} ({sanitize(a)}, {sanitize(b)})" for end, (v, a, b) in ends) + "."
