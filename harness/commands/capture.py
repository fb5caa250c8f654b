"""Can covariances capture knowledge? What each way to decompose the weights still answers without some components.

The rows are those of a method that trains nothing, compared as any others: answers, scores and reports are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import UserError
from harness.commands.compare import CompareResult, compare
from harness.commands.run_options import RunOptions
from harness.commands.undelivered import show_undelivered
from harness.config.schema import SweepAxis
from harness.config.settings import Request, parse_names, resolve
from harness.config.sweep import make_axis, parse_sweep
from harness.console import print_lines, stdout
from methods.co_svd import ROWS

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8)
"""Shares of the components that KORE's table 7 discards: 128 to 1536 of 4096."""


@dataclass(frozen=True)
class CaptureOptions:
    """What is varied, as given on the command line."""

    discard: str | None = None
    calibrate_on: str | None = None
    samples: str | None = None
    largest: bool = False


def capture(options: RunOptions, varied: CaptureOptions) -> CompareResult:
    """Compute what is missing of the rows, and report.

    Raises:
        UserError: A value is wrong, or more components shall be discarded than a layer has.
    """
    return compare(capture_request(options, varied))


def capture_request(options: RunOptions, varied: CaptureOptions) -> Request:
    """The comparison of all decompositions at all values.

    Raises:
        UserError: As ``capture``.
    """
    options = dataclasses.replace(options, methods=",".join(ROWS))
    if options.out is None:
        options = dataclasses.replace(options, out=Path("runs") / f"{Path(options.preset).stem}-capture")
    model = resolve(options.preset, options.set_ or (), {"model": options.model}).settings.model
    return options.request(cross=tuple(_axes(varied, model)))


def show_capture(result: CompareResult) -> None:
    """Print each benchmark's scores over the discarded components, and where the plot is."""
    from reports.formats import terminal
    from reports.statistics.analysis import analyse
    from reports.tables.sweep_scores import sweep_tables

    if result.page is not None:
        for table in sweep_tables(analyse(result.run)):
            terminal.show(table, stdout())
        plots = sorted((result.page.parent / "plots").glob("sweep-*.svg"))
        print_lines("", *(f"plot: {plot}" for plot in plots), f"leaderboard: {result.page}")
    show_undelivered(result.run)


def _axes(varied: CaptureOptions, model: Path) -> Iterator[SweepAxis]:
    """What differs between the rows; the last is the x axis of the plot."""
    if varied.calibrate_on is not None:
        yield make_axis("calibrate_on", parse_names(varied.calibrate_on, "--calibrate-on"), "--calibrate-on")
    if varied.samples is not None:
        yield parse_sweep(f"calibration_samples={varied.samples}")
    if varied.largest:
        yield make_axis("end", ["largest"], "--largest")
    yield _discards(varied.discard, model)


def _discards(text: str | None, model: Path) -> SweepAxis:
    """The numbers of components to discard: by default KORE's shares of those of the smallest layer."""
    from harness.models.registry import target_shapes
    from methods.components.singular_vectors import check_discard

    ranks = {f"a layer of {d_in} inputs and {d_out} outputs": min(d_in, d_out) for d_in, d_out in target_shapes(model)}
    if text is None:
        smallest = min(ranks.values())
        return make_axis("discard", sorted({max(1, round(share * smallest)) for share in SHARES}), "--discard")
    axis = parse_sweep(f"discard={text}")
    for value in axis.values:
        if not isinstance(value, int) or value < 1:
            hint = "write --discard 8,16,32; with 0 a row would be the untouched base, which is shown in any case"
            raise UserError(f"{value} is no number of components", location=f"--discard {text}", hint=hint)
        check_discard(value, ranks, f"--discard {text}")
    return axis
