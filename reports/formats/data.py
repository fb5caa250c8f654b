"""Tables as JSON with a published, versioned schema, for programs.

The schema includes the names and docstrings of the typed dictionaries below word for word.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from reports.statistics.estimates import Estimate
from reports.table import Table, TextTable
from reports.text import rounded

VERSION = 3
"""Raised whenever a field is added, removed or changes its meaning. Version 1 had no listings, version 2 neither shares
of unread and truncated answers nor lenient numbers."""
SCHEMA = f"tables-{VERSION}.schema.json"
"""File name of the schema, which is written beside the tables."""

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
    unread: float | None
    truncated: float | None
    lenient: float | None


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
"""The content of ``tables.json``."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``tables.json``."""
    body = TypeAdapter(Document).json_schema()
    body["properties"]["version"] = {"const": VERSION, "title": "Version"}
    identity = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA}
    return identity | body | {"title": "Tables of a report", "additionalProperties": False}


def schema_text(document: dict[str, Any]) -> str:
    """Serialise a schema as in its file."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def render(tables: tuple[Table, ...], listings: tuple[TextTable, ...] = ()) -> str:
    """Write all tables as one document; numbers are rounded as shown, and null where there is none."""
    document = {
        "$schema": SCHEMA,
        "version": VERSION,
        "tables": [_table(table) for table in tables],
        "listings": [asdict(listing) for listing in listings],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "title": table.title,
        "heading": table.heading,
        "columns": [asdict(column) for column in table.columns],
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
        "value": rounded(one.value),
        "low": rounded(one.low),
        "high": rounded(one.high),
        "n": one.n,
        "delta": rounded(one.delta),
        "delta_low": rounded(one.delta_low),
        "delta_high": rounded(one.delta_high),
        "p": rounded(one.p, 4),
        "seeds": [rounded(value) for value in one.seeds],
        "seed_sd": rounded(one.seed_sd),
        "resolution": rounded(one.resolution),
        "rank": one.rank or None,
        "marks": list(one.marks),
        "unread": rounded(one.unread),
        "truncated": rounded(one.truncated),
        "lenient": rounded(one.lenient),
    }
