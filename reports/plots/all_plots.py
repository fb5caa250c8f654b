"""All plots of a report, each with a text alternative and its numbers."""

from __future__ import annotations

from reports.plots import style
from reports.plots.canvas import Plot
from reports.plots.constraints import constraints
from reports.plots.costs import costs
from reports.plots.dimensions import dimensions
from reports.plots.losses import losses
from reports.plots.stages import stages
from reports.plots.sweeps import sweeps
from reports.plots.tradeoff import tradeoff
from reports.plots.types import types
from reports.statistics.estimates import Analysis


def draw_plots(analysis: Analysis) -> tuple[Plot, ...]:
    """Draw all plots for which the run has data."""
    with style.styled():
        single = [make(analysis) for make in (tradeoff, dimensions, types, losses, costs, constraints)]
        return (*(plot for plot in single if plot is not None), *sweeps(analysis), *stages(analysis))
