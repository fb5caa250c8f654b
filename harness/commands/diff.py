"""What changed from one run to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.experiment.results import read_results

if TYPE_CHECKING:
    from reports.model import TextTable


def diff(old: Path, new: Path) -> tuple[TextTable, ...]:
    """What was made otherwise, and what it did to the scores, from the records of two finished runs.

    Raises:
        UserError: A folder holds no finished run.
    """
    from reports.tables.run_diff import difference

    return difference(read_results(old), read_results(new))
