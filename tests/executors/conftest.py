from __future__ import annotations

import sys
from pathlib import Path

import pytest
from errands import MORTAL

sys.path.append(str(Path(__file__).parent.parent / "harness"))
import workbench


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return workbench.lay_out(tmp_path, tiny_folder)


@pytest.fixture
def mortal(tmp_path) -> Path:
    file = tmp_path / "plugin" / "mortal.py"
    file.parent.mkdir()
    file.write_text(MORTAL)
    return file
