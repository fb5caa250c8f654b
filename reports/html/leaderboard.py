"""The leaderboard: one HTML file that opens from disk, loads nothing and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.html.findings import summarize_findings
from reports.html.row_details import COST_HEADS, collect_details
from reports.html.sample_browser import SamplePage, collect_samples, fit_to_page
from reports.html.score_data import pack_scores
from reports.html.svg import inline_svg
from reports.plots import style
from reports.plots.canvas import Plot, crowded
from reports.statistics.estimates import Analysis, Estimate
from reports.table import Column, Table
from reports.tables.tables import pairs_listing
from reports.text import MISSING, footnote_symbols, format_number, format_signed, join_words, sanitize

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "leaderboard.html"
MAX_BYTES = 2_950_000
"""Size of the page."""
MAX_RECORDS = 240
"""Records shown below a plot; its CSV file has all of them."""
SCRIPTS = ("page.js", "tables.js", "scores.js", "samples.js")
FACETS = ("model", "method", "variant")
PLACED = frozenset({"tradeoff", "dimensions", "types", "losses", "costs"})
"""Plots that have a place of their own on the page; the others share a section."""


def render_pages(analysis: Analysis, tables: Sequence[Table], plots: Sequence[Plot]) -> dict[str, bytes]:
    """Render the leaderboard, in at most ``MAX_BYTES``, and further pages of samples if their pictures do not fit.

    Returns:
        UTF-8 by file name, the leaderboard first. Equal input gives equal bytes.
    """
    css = (TEMPLATES / "leaderboard.css").read_text("utf-8") + _palette()
    frame: dict[str, Any] = {
        "title": sanitize(analysis.run.title, 200) or "Knowledge injection",
        "css": Markup(css),  # noqa: S704  (our own file)
        "css_hash": _hash(css),
    }
    content = _content(analysis, tables, plots)
    script = _script(*SCRIPTS)
    environment = _environment()

    def render(template: str, **values: Any) -> bytes:
        return environment.get_template(template).render(**frame, **values).encode("utf-8", "replace")

    without_samples = render("leaderboard.html.j2", samples=SamplePage("", 1, 2, {}), **script, **content)
    samples = fit_to_page(collect_samples(analysis), MAX_BYTES - 200 - len(without_samples))
    pages = {PAGE: render("leaderboard.html.j2", samples=samples, **script, **content)}
    script = _script("page.js", "samples.js")
    for number, (name, part) in enumerate(samples.shards.items(), 1):
        place = {"number": number, "count": len(samples.shards), "page": PAGE}
        pages[name] = render("shard.html.j2", samples=part, **place, **script)
    return pages


def _more_title(plots: Sequence[Plot]) -> str:
    """The heading of the section that several kinds of plots share."""
    keys = [plot.key for plot in plots]
    kinds = {"sweeps": any(key.startswith("sweep-") for key in keys)}
    kinds |= {name: name in keys for name in ("stages", "constraints")}
    return join_words([kind for kind, drawn in kinds.items() if drawn]).capitalize()


def _content(analysis: Analysis, tables: Sequence[Table], plots: Sequence[Plot]) -> dict[str, Any]:
    """Everything on the leaderboard except the samples."""
    details = {row.key: collect_details(row) for row in analysis.rows}
    names = {row.key: {name: sanitize(getattr(row.first, name)) for name in FACETS} for row in analysis.rows}
    return {
        "preset": sanitize(analysis.run.preset),
        "crowd": crowded(analysis),
        "models": list(dict.fromkeys(sanitize(row.first.model) for row in analysis.rows)),
        "findings": summarize_findings(analysis),
        "notices": [sanitize(note, 600) for note in analysis.run.notes],
        "tables": [(table, _groups(table.columns)) for table in tables],
        "plots": {plot.key: plot for plot in plots},
        "more": [plot.key for plot in plots if plot.key not in PLACED],
        "more_title": _more_title(plots),
        "drawings": {plot.key: Markup(inline_svg(plot.svg, plot.key, plot.alt)) for plot in plots},  # noqa: S704  (our SVG)
        "details": details,
        "names": names,
        "rankable": {row.key: row.ranked or row.is_baseline for row in analysis.rows},
        "facets": [(name, list(dict.fromkeys(of_row[name] for of_row in names.values()))) for name in FACETS],
        "costs": [(sanitize(row.label), costs) for row in analysis.rows if (costs := details[row.key].costs)],
        "pairs": pairs_listing(analysis),
        "cost_heads": COST_HEADS,
        "scores": pack_scores(analysis),
        "signature": sanitize(analysis.run.signature, 600),
    }


def _script(*names: str) -> dict[str, str]:
    text = "\n".join((TEMPLATES / name).read_text("utf-8") for name in names)
    return {"script": Markup(text), "script_hash": _hash(text)}  # noqa: S704  (our own files)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "signed": format_signed,
        "symbols": footnote_symbols,
        "missing": lambda one: one is None or not math.isfinite(one.value),
        "raw": lambda value: f"{value:.4f}" if math.isfinite(value) else "",
        "shade": _shade,
        "without_version": _without_version,
    }
    environment.globals |= {"MISSING": MISSING, "MAX_RECORDS": MAX_RECORDS}
    return environment


def _hash(text: str) -> str:
    """The hash by which the content security policy allows this script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _palette() -> str:
    """The plots' colours as CSS variables, lighter in the dark theme."""
    light = "".join(f"--c{number}:{colour};" for number, colour in enumerate(style.COLOURS))
    dark = "".join(f"--c{number}:{_lighter(colour)};" for number, colour in enumerate(style.COLOURS))
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
    )


def _lighter(colour: str, share: float = 0.35) -> str:
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Titles and widths of the headings above adjacent columns."""
    return [(title, len(list(members))) for title, members in groupby(columns, key=lambda column: column.group)]


def _shade(one: Estimate) -> str:
    """CSS class for the shade of a number: its distance from the base, if that is significant."""
    if not one.significant or not math.isfinite(one.delta):
        return ""
    size = 1 + sum(abs(one.delta) >= limit for limit in (5, 15))
    return f"{'gain' if one.delta > 0 else 'loss'}{size}"


def _without_version(title: str, group: str) -> str:
    """A heading without the paper version that the group heading above it already names."""
    for version in ("v1", "v2"):
        if group.endswith(version):
            return title.removesuffix(f" ({version})")
    return title
