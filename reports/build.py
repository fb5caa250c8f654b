"""From a run record to the files of its report. Begin here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reports.formats import data, latex, markdown, sheet
from reports.html.leaderboard import render_pages
from reports.plots.all_plots import draw_plots
from reports.plots.canvas import Plot
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.statistics.estimates import Analysis
from reports.table import Table, TextTable
from reports.tables.costs import cost_files
from reports.tables.paper_claims import judge_claims
from reports.tables.paper_comparison import compare_with_paper
from reports.tables.tables import long_table, make_tables, pairs_listing

FILES = "files.txt"
"""The names of a report's files, by which a later report removes those that it does not have."""
PAPER = "paper"
"""The folder with our numbers beside the paper's."""
Writer = Callable[[Path, bytes], None]
"""Writes one file atomically and creates its folder."""


def build(run: Run, out: Path, write: Writer, paper: Sequence[TextTable] = ()) -> list[Path]:
    """Write tables (Markdown, CSV, LaTeX, JSON), costs, plots (SVG, PDF, their data as CSV) and the leaderboard.

    Args:
        run: The record to report on. Equal records give equal bytes, except for the time and memory of the cells.
        out: Folder for the files.
        write: Writes one file.
        paper: The listings of ``list_beside_paper``, for the folder ``paper``.

    Returns:
        The files written, the leaderboard first.
    """
    analysis = analyse(run)
    tables = make_tables(analysis)
    plots = draw_plots(analysis)
    texts = _table_files(analysis, tables) | cost_files(analysis)
    files = render_pages(analysis, tables, plots) | {name: _encode(text) for name, text in texts.items()}
    files |= _plot_files(plots)
    if paper:
        files |= {f"{PAPER}/{name}": _encode(text) for name, text in _format_files((), tuple(paper)).items()}
    files[FILES] = _encode("".join(f"{name}\n" for name in sorted(files)))
    return _write_files(files, out, write)


def read_files(report: Path) -> set[Path]:
    """The files that the report in this folder says it has; none if there is no report."""
    try:
        names = (report / FILES).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    inside = (name for name in names if Path(name).parts and not {"..", "/"} & set(Path(name).parts))
    return {report / name for name in inside}


def list_beside_paper(run: Run) -> tuple[TextTable, ...]:
    """The listings of our numbers beside the paper's, and of its claims judged on this run."""
    analysis = analyse(run)
    return (*compare_with_paper(analysis), judge_claims(analysis))


def write_plots(plots: Sequence[Plot], out: Path, write: Writer) -> list[Path]:
    """Write plots to the folder ``plots`` below ``out``: as SVG, as PDF, their data as CSV, and a text alternative.

    Returns:
        The files written, each plot's SVG first.
    """
    return _write_files(_plot_files(plots), out, write)


def _write_files(files: Mapping[str, bytes], out: Path, write: Writer) -> list[Path]:
    for name, content in files.items():
        write(out / name, content)
    return [out / name for name in files]


def _plot_files(plots: Sequence[Plot]) -> dict[str, bytes]:
    files = {}
    for plot in plots:
        files[f"plots/{plot.key}.svg"] = plot.svg
        files[f"plots/{plot.key}.pdf"] = plot.pdf
        files[f"plots/{plot.key}.csv"] = _encode(sheet.records(plot.data))
        files[f"plots/{plot.key}.txt"] = _encode(f"{plot.title}\n\n{plot.alt}\n")
    return files


def _table_files(analysis: Analysis, tables: tuple[Table, ...]) -> dict[str, str]:
    pairs = pairs_listing(analysis)
    texts = _format_files(tables, (pairs,) if pairs else ())
    long = long_table(analysis)
    records = [tuple(map(str, long.columns)), *(tuple(map(sheet.show, record)) for record in long.to_numpy().tolist())]
    texts["scores.csv"] = sheet.records(records)
    return {f"tables/{name}": text for name, text in texts.items()}


def _format_files(tables: tuple[Table, ...], listings: tuple[TextTable, ...]) -> dict[str, str]:
    """Tables and listings by file name, in every format."""
    return {
        "tables.md": "\n".join([*map(markdown.render, tables), *map(markdown.listing, listings)]),
        "tables.json": data.render(tables, listings),
        data.SCHEMA: data.schema_text(data.schema()),
        **{f"{table.key}.csv": sheet.render(table) for table in tables},
        **{f"{table.key}.tex": latex.render(table) for table in tables},
        **{f"{listing.key}.csv": sheet.listing(listing) for listing in listings},
        **{f"{listing.key}.tex": latex.listing(listing) for listing in listings},
    }


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a lone surrogate in a model's answer must not stop the report
