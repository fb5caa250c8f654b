"""From a run record to the files of its report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.errors import UserError
from reports.formats import data, latex, markdown, sheet
from reports.html.leaderboard import pages
from reports.model import Table, TextTable
from reports.plots.all_plots import plots
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.statistics.estimates import Analysis
from reports.tables.costs import fairness
from reports.tables.long_table import frame
from reports.tables.pairwise import pairs_listing
from reports.tables.tables import tables

Writer = Callable[[Path, bytes], None]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: into a neighbour first, which then takes its place.

    Raises:
        UserError: The folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"the report cannot be written ({error.strerror})",
            location=str(path),
            hint="free some space or name another folder",
        ) from error


def build(run: Run, out: Path, write: Writer = write_whole) -> list[Path]:
    """Write tables (Markdown, CSV, LaTeX, JSON), costs, plots (SVG, PDF, their data as CSV) and the leaderboard.

    Args:
        run: The record to report on. Equal records give equal bytes, but for the seconds and bytes that cells took.
        out: Folder for the files.
        write: Writes one file whole or not at all.

    Returns:
        The files written, the leaderboard first.
    """
    analysis = analyse(run)
    made = tables(analysis)
    files = _table_files(analysis, made)
    files |= {name: text.encode("utf-8", "replace") for name, text in fairness(analysis).items()}
    drawn = plots(analysis)
    for plot in drawn:
        files[f"plots/{plot.key}.svg"] = plot.svg
        files[f"plots/{plot.key}.pdf"] = plot.pdf
        files[f"plots/{plot.key}.csv"] = sheet.records(plot.data).encode("utf-8", "replace")
        files[f"plots/{plot.key}.txt"] = f"{plot.title}\n\n{plot.alt}\n".encode("utf-8", "replace")
    whole = {**pages(analysis, made, drawn), **files}
    for name, content in whole.items():
        write(out / name, content)
    return [out / name for name in whole]


def _table_files(analysis: Analysis, made: tuple[Table, ...]) -> dict[str, bytes]:
    listings = tuple(filter(None, [pairs_listing(analysis)]))
    texts = {
        "tables.md": "\n".join([*map(markdown.render, made), *map(markdown.listing, listings)]),
        "tables.json": data.render(made, listings),
        data.SCHEMA: data.schema_text(data.schema()),
    }
    for table in made:
        texts[f"{table.key}.csv"] = sheet.render(table)
        texts[f"{table.key}.tex"] = latex.render(table)
    for one in listings:
        texts[f"{one.key}.csv"] = sheet.listing(one)
        texts[f"{one.key}.tex"] = latex.listing(one)
    long = frame(analysis)
    records = [tuple(map(str, long.columns)), *(tuple(map(sheet.shown, record)) for record in long.to_numpy().tolist())]
    texts["scores.csv"] = sheet.records(records)
    return {f"tables/{name}": text.encode("utf-8", "replace") for name, text in texts.items()}


def write_listings(found: Sequence[TextTable], out: Path, write: Writer = write_whole) -> list[Path]:
    """Write listings in four formats, all under ``out``: Markdown and JSON in one file, CSV and LaTeX in one each.

    Returns:
        The files written.
    """
    texts = {
        "tables.md": "\n".join(map(markdown.listing, found)),
        "tables.json": data.render((), tuple(found)),
        data.SCHEMA: data.schema_text(data.schema()),
        **{f"{one.key}.csv": sheet.listing(one) for one in found},
        **{f"{one.key}.tex": latex.listing(one) for one in found},
    }
    for name, text in texts.items():
        write(out / name, text.encode("utf-8", "replace"))
    return [out / name for name in texts]
