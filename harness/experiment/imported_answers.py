"""Answers that were imported into a run's folder: each later comparison there has their rows, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.config.schema import ExternalRow
from harness.config.settings import Request

IMPORTED = "imported"
SUFFIX = ".jsonl"


def imported_row(run: Path, name: str) -> ExternalRow:
    """The row of this name, whose answers are in the run's folder."""
    return ExternalRow(kind="answers", folder=(run / IMPORTED / f"{name}{SUFFIX}").absolute())


def with_imported(request: Request) -> Request:
    """The request with a row for each import in its folder; rows of its own keep their names."""
    names = sorted(path.stem for path in (request.out / IMPORTED).glob(f"*{SUFFIX}"))
    own = request.resolved.settings.rows
    return with_rows(request, {name: imported_row(request.out, name) for name in names if name not in own})


def with_rows(request: Request, rows: Mapping[str, ExternalRow]) -> Request:
    """The request with more rows."""
    if not rows:
        return request
    settings = request.resolved.settings
    more = settings.model_copy(update={"rows": {**settings.rows, **rows}})
    return replace(request, resolved=replace(request.resolved, settings=more))
