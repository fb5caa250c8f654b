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

from reports import statistics, style
from reports.analysis import PAIRED
from reports.details import COST_HEADS, detail
from reports.estimates import Analysis, Estimate
from reports.plots import Plot
from reports.samples import embed, samples
from reports.svg import inline
from reports.tables import Column, Table
from reports.text import MISSING, fixed, p_text, plain, signed, symbols
from reports.verdict import verdict

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Group:
    """Neighbouring columns under one heading."""

    title: str
    width: int


def leaderboard(analysis: Analysis, tables: Sequence[Table], plots: Sequence[Plot]) -> bytes:
    """The page, UTF-8. Equal input gives equal bytes."""
    css = (TEMPLATES / "leaderboard.css").read_text("utf-8") + _palette()
    script = (TEMPLATES / "leaderboard.js").read_text("utf-8")
    page = _environment().get_template("leaderboard.html.j2")
    shown = samples(analysis)
    text = page.render(
        title=plain(analysis.run.title, 200) or "Knowledge injection",
        preset=plain(analysis.run.preset),
        models=list(dict.fromkeys(plain(row.first.model) for row in analysis.rows)),
        findings=verdict(analysis),
        notices=[plain(note, 600) for note in analysis.run.notes],
        tables=[(table, _groups(table.columns)) for table in tables],
        plots={plot.key: plot for plot in plots},
        drawings={plot.key: Markup(inline(plot.svg, plot.key, plot.alt)) for plot in plots},  # noqa: S704  (our own SVG)
        details={row.key: detail(row) for row in analysis.rows},
        costs=[(plain(row.label), found) for row in analysis.rows if (found := detail(row).costs)],
        pairs=_pairs(analysis),
        cost_heads=COST_HEADS,
        shown=len(shown["items"]),
        total=shown["total"],
        samples=Markup(embed(shown)),  # noqa: S704  (embed leaves no sign that could end the element)
        css=Markup(css),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own file)
        css_hash=_hash(css),
        script_hash=_hash(script),
        signature=plain(analysis.run.signature, 600),
    )
    return text.encode("utf-8", "replace")


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "fixed": fixed,
        "signed": signed,
        "symbols": symbols,
        "p_text": p_text,
        "missing": lambda one: one is None or not math.isfinite(one.value),
        "raw": lambda value: f"{value:.4f}" if math.isfinite(value) else "",
        "tone": _tone,
        "short": _short,
    }
    found.globals |= {"MISSING": MISSING}
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


def _pairs(analysis: Analysis) -> list[dict[str, Any]]:
    """The pairwise comparisons as the page shows them, the better row first."""
    found = []
    for pair in sorted(analysis.pairs, key=lambda pair: (PAIRED.index(pair.measure), -abs(pair.difference))):
        ahead = pair.difference >= 0
        first, second = (pair.first, pair.second) if ahead else (pair.second, pair.first)
        low, high = (pair.low, pair.high) if ahead else (-pair.high, -pair.low)
        found.append(
            {
                "measure": pair.measure,
                "first": plain(analysis.rows[first].label),
                "second": plain(analysis.rows[second].label),
                "difference": signed(abs(pair.difference)),
                "interval": f"{signed(low)} to {signed(high)}",
                "p": p_text(pair.p).removeprefix("p ").removeprefix("= "),
                "flip": "under 1 %" if 100 * pair.flip < 1 else f"{100 * pair.flip:.0f} %",
                "sure": pair.p < statistics.ALPHA,
            }
        )
    return found
