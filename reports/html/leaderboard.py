"""The leaderboard: one HTML file that opens from disk, reaches nowhere and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.html.findings import verdict
from reports.html.row_details import COST_HEADS, detail
from reports.html.sample_browser import SamplePage, browser, fit
from reports.html.score_data import scores
from reports.html.svg import inline
from reports.model import Column, Table
from reports.plots import style
from reports.plots.canvas import Plot, crowded
from reports.statistics.estimates import Analysis, Estimate
from reports.tables.pairwise import pairs_listing
from reports.text import MISSING, format_number, format_signed, p_text, sanitize, symbols

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "leaderboard.html"
LARGEST = 2_950_000
"""Bytes of the page."""
SHOWN = 240
"""Records shown of the numbers behind a plot; all of them lie beside it."""
SCRIPTS = ("page.js", "tables.js", "scores.js", "samples.js")
FACETS = ("model", "method", "variant")


@dataclass(frozen=True)
class Group:
    """Neighbouring columns under one heading."""

    title: str
    width: int


def pages(analysis: Analysis, tables: Sequence[Table], plots: Sequence[Plot]) -> dict[str, bytes]:
    """The leaderboard, under ``LARGEST`` bytes, and further pages of samples where their pictures need them.

    Returns:
        UTF-8 by file name, the leaderboard first. Equal input gives equal bytes.
    """
    css = (TEMPLATES / "leaderboard.css").read_text("utf-8") + _palette()
    around: dict[str, Any] = {
        "title": sanitize(analysis.run.title, 200) or "Knowledge injection",
        "css": Markup(css),  # noqa: S704  (our own file)
        "css_hash": _hash(css),
    }
    content = _content(analysis, tables, plots)
    browse = browser(analysis)
    script = _script(*SCRIPTS)
    empty = SamplePage("", 1, 2, {})
    frame = _environment().get_template("leaderboard.html.j2")
    room = LARGEST - 200 - len(frame.render(shown=empty, **around, **script, **content).encode("utf-8", "replace"))
    shown = fit(browse, room)
    made = {PAGE: frame.render(shown=shown, **around, **script, **content)}
    shard = _environment().get_template("shard.html.j2")
    for number, (name, part) in enumerate(shown.shards.items(), 1):
        around |= {"number": number, "count": len(shown.shards), "page": PAGE, **_script("page.js", "samples.js")}
        made[name] = shard.render(shown=part, **around)
    return {name: text.encode("utf-8", "replace") for name, text in made.items()}


def _content(analysis: Analysis, tables: Sequence[Table], plots: Sequence[Plot]) -> dict[str, Any]:
    """What the leaderboard shows besides samples."""
    details = {row.key: detail(row) for row in analysis.rows}
    names = {row.key: {name: sanitize(getattr(row.first, name)) for name in FACETS} for row in analysis.rows}
    return {
        "preset": sanitize(analysis.run.preset),
        "crowd": crowded(analysis),
        "models": list(dict.fromkeys(sanitize(row.first.model) for row in analysis.rows)),
        "findings": verdict(analysis),
        "notices": [sanitize(note, 600) for note in analysis.run.notes],
        "tables": [(table, _groups(table.columns)) for table in tables],
        "plots": {plot.key: plot for plot in plots},
        "more": [plot.key for plot in plots if plot.key.startswith("sweep-") or plot.key == "stages"],
        "drawings": {plot.key: Markup(inline(plot.svg, plot.key, plot.alt)) for plot in plots},  # noqa: S704  (our SVG)
        "details": details,
        "names": names,
        "rankable": {row.key: row.ranked or row.is_baseline for row in analysis.rows},
        "facets": [(name, list(dict.fromkeys(one[name] for one in names.values()))) for name in FACETS],
        "costs": [(sanitize(row.label), found) for row in analysis.rows if (found := details[row.key].costs)],
        "pairs": pairs_listing(analysis),
        "cost_heads": COST_HEADS,
        "scores": scores(analysis),
        "signature": sanitize(analysis.run.signature, 600),
    }


def _script(*names: str) -> dict[str, str]:
    text = "\n".join((TEMPLATES / name).read_text("utf-8") for name in names)
    return {"script": Markup(text), "script_hash": _hash(text)}  # noqa: S704  (our own files)


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "fixed": format_number,
        "signed": format_signed,
        "symbols": symbols,
        "p_text": p_text,
        "missing": lambda one: one is None or not math.isfinite(one.value),
        "raw": lambda value: f"{value:.4f}" if math.isfinite(value) else "",
        "tone": _tone,
        "short": _short,
    }
    found.globals |= {"MISSING": MISSING, "SHOWN": SHOWN}
    return found


def _hash(text: str) -> str:
    """What a content security policy calls this very script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _palette() -> str:
    """The plots' colours as the page's variables, a little lighter on dark paper."""
    light = "".join(f"--c{number}:{colour};" for number, colour in enumerate(style.COLOURS))
    dark = "".join(f"--c{number}:{_lighter(colour)};" for number, colour in enumerate(style.COLOURS))
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
    )


def _lighter(colour: str, share: float = 0.35) -> str:
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _groups(columns: Sequence[Column]) -> list[Group]:
    return [Group(title, len(list(inside))) for title, inside in groupby(columns, key=lambda column: column.group)]


def _tone(one: Estimate) -> str:
    """A class for the shade behind a number: how far it lies from the base, if that is no noise."""
    if not one.significant or not math.isfinite(one.delta):
        return ""
    size = 1 + sum(abs(one.delta) >= limit for limit in (5, 15))
    return f"{'gain' if one.delta > 0 else 'loss'}{size}"


def _short(title: str, group: str) -> str:
    """A heading without the version that already stands in the heading above it."""
    for version in ("v1", "v2"):
        if group.endswith(version):
            return title.removesuffix(f" ({version})")
    return title
