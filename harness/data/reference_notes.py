"""References of own questions that the metrics cannot use as meant, said before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from benchmarks.evoke import Evoke, emptied_notes
from harness.data.inputs import BenchmarkTask

logger = logging.getLogger(__name__)


def reference_notes(tasks: Iterable[BenchmarkTask]) -> tuple[str, ...]:
    """One sentence for each benchmark of own questions whose references are empty after CEM's normalisation."""
    own = (task for task in tasks if isinstance(task.benchmark, Evoke) and not task.benchmark.published)
    return tuple(f"{task.name}: {note}." for task in own for note in emptied_notes(task.questions))


def warn_of_references(tasks: Iterable[BenchmarkTask]) -> None:
    """Log these sentences as warnings."""
    for note in reference_notes(tasks):
        logger.warning("%s", note)
