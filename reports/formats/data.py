"""Tables as JSON with a published, versioned schema, for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from reports.model import Table, TextTable
from reports.statistics.estimates import Estimate

VERSION = 2
"""Raised whenever a field changes its meaning, comes or goes. Version 1 had no listings."""
SCHEMA = f"tables-{VERSION}.schema.json"
"""Name of the schema's file, which lies beside the tables."""


_STRICT = with_config(ConfigDict(extra="forbid"))


@_STRICT
class Cell(TypedDict):
    """One number, rounded as it is shown; null where there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    delta: float | None
    delta_low: float | None
    delta_high: float | None
    p: float | None
    seeds: list[float | None]
    seed_sd: float | None
    resolution: float | None
    rank: int | None
    marks: list[str]


@_STRICT
class Head(TypedDict):
    """A column."""

    key: str
    title: str
    group: str
    help: str


@_STRICT
class Row(TypedDict):
    """A line; a column that it lacks is not among its cells."""

    label: str
    state: str
    group: str
    cells: dict[str, Cell]


@_STRICT
class Sheet(TypedDict):
    """A table."""

    key: str
    title: str
    heading: str
    columns: list[Head]
    lines: list[Row]
    notes: list[str]


@_STRICT
class Words(TypedDict):
    """A listing: records of text."""

    key: str
    title: str
    heads: list[str]
    records: list[list[str]]
    notes: list[str]


Document = TypedDict(
    "Document",
    {"$schema": str, "version": int, "tables": list[Sheet], "listings": list[Words]},
)
"""All of it."""


def schema() -> dict[str, Any]:
    """The JSON Schema of ``tables.json``."""
    found = TypeAdapter(Document).json_schema()
    found["properties"]["version"] = {"const": VERSION, "title": "Version"}
    identity = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA}
    return identity | found | {"title": "Tables of a report", "additionalProperties": False}


def schema_text(found: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def render(tables: tuple[Table, ...], listings: tuple[TextTable, ...] = ()) -> str:
    """All tables in one document; numbers are rounded as they are shown, and null where there is none."""
    document = {
        "$schema": SCHEMA,
        "version": VERSION,
        "tables": [_table(table) for table in tables],
        "listings": [_listing(one) for one in listings],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _listing(one: TextTable) -> Words:
    return {
        "key": one.key,
        "title": one.title,
        "heads": list(one.heads),
        "records": [list(record) for record in one.records],
        "notes": list(one.notes),
    }


def _table(table: Table) -> Sheet:
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


def _cell(one: Estimate) -> Cell:
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
