from __future__ import annotations

from pathlib import Path

import pytest

from helpers import small_runs
from helpers.executor_runs import MORTAL


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return small_runs.lay_out(tmp_path, tiny_folder)


@pytest.fixture
def mortal(tmp_path) -> Path:
    file = tmp_path / "plugin" / "mortal.py"
    file.parent.mkdir()
    file.write_text(MORTAL)
    return file
