"""Where the repository is, for tests that start processes of their own."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
PYTHONPATH = os.pathsep.join((str(ROOT), str(TESTS)))
