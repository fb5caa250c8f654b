from __future__ import annotations

from pathlib import Path

import pytest

from helpers import small_runs
from helpers.executor_runs import KILLED_METHOD


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return small_runs.write_preset(tmp_path, tiny_folder)


@pytest.fixture
def killed_method(tmp_path) -> Path:
    file = tmp_path / "plugin" / "killed.py"
    file.parent.mkdir()
    file.write_text(KILLED_METHOD)
    return file
