"""Answers that were imported into a run's folder: each later comparison there has their rows, too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.schema import ExternalRow
from harness.config.settings import Request

IMPORTED = "imported"
SUFFIX = ".jsonl"


def imported_row(run: Path, name: str) -> ExternalRow:
    """The row of this name, whose answers are in the run's folder."""
    return ExternalRow(kind="answers", folder=(run / IMPORTED / f"{name}{SUFFIX}").absolute())


def record_file(answers: Path) -> Path:
    """The file with the record of how a model behind an endpoint gave these answers."""
    return answers.with_suffix(".json")


def read_record(answers: Path) -> dict[str, Any]:
    """How a model behind an endpoint gave the answers of a file; empty for others, also if they were changed since."""
    try:
        record = json.loads(record_file(answers).read_text("utf-8"))
        given = hashlib.sha256(answers.read_bytes()).hexdigest()
    except (OSError, ValueError):  # answers of which nothing more is known
        return {}
    same = isinstance(record, dict) and record.get("answers") == given
    return {name: value for name, value in record.items() if name != "answers"} if same else {}


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
