"""Tables as JSON with a version, for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from reports.estimates import Estimate
from reports.tables import Table

VERSION = 1


def render(tables: tuple[Table, ...]) -> str:
    """All tables in one document; numbers are rounded as they are shown, and null where there is none."""
    document = {"version": VERSION, "tables": [_table(table) for table in tables]}
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "title": table.title,
        "heading": table.heading,
        "columns": [{"key": c.key, "title": c.title, "group": c.group, "help": c.help} for c in table.columns],
        "lines": [
            {
                "label": line.label,
                "state": line.state,
                "group": line.group,
                "cells": {c.key: _cell(line.cells[c.key]) for c in table.columns if c.key in line.cells},
            }
            for line in table.lines
        ],
        "notes": list(table.notes),
    }


def _cell(one: Estimate) -> dict[str, Any]:
    return {
        "value": _rounded(one.value),
        "low": _rounded(one.low),
        "high": _rounded(one.high),
        "n": one.n,
        "delta": _rounded(one.delta),
        "delta_low": _rounded(one.delta_low),
        "delta_high": _rounded(one.delta_high),
        "p": _rounded(one.p, 4),
        "seeds": [_rounded(value) for value in one.seeds],
        "seed_sd": _rounded(one.spread),
        "resolution": _rounded(one.resolution),
        "rank": one.rank or None,
        "marks": list(one.marks),
    }


def _rounded(value: float, digits: int = 2) -> float | None:
    return round(value, digits) + 0.0 if math.isfinite(value) else None
