from __future__ import annotations

import pytest

from benchmarks.records import Question
from benchmarks.registry import EMBEDDED
from benchmarks.retention import Retention, questions_batch
from benchmarks.retention_specs import SPECS


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Retention, list[Question]]]:
    """The miniature's twelve benchmarks by the name of the original, opened and asked in one go. Read only."""
    folder = tmp_path_factory.mktemp("embedded")
    opened = [
        Retention(EMBEDDED / "retention" / f"mini-{spec.name}.tsv", folder, spec, f"mini-{spec.name}", "rule")
        for spec in SPECS
    ]
    return dict(zip([spec.name for spec in SPECS], zip(opened, questions_batch(opened), strict=True), strict=True))
