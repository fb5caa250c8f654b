"""The plots of a report: each with a text alternative and the numbers behind it."""

from __future__ import annotations

from reports import style
from reports.drawing.canvas import Plot as Plot
from reports.drawing.costs import costs
from reports.drawing.dimensions import dimensions
from reports.drawing.losses import losses
from reports.drawing.stages import stages
from reports.drawing.sweeps import sweeps
from reports.drawing.tradeoff import tradeoff
from reports.drawing.types import types
from reports.estimates import Analysis


def plots(analysis: Analysis) -> tuple[Plot, ...]:
    """All plots for which the run has data."""
    with style.styled():
        single = [make(analysis) for make in (tradeoff, dimensions, types, losses, costs)]
        return (*(plot for plot in single if plot is not None), *sweeps(analysis), *stages(analysis))
