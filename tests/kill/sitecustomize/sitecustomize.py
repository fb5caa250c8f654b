"""Imported by Python at its start where this folder is on the path: installs the fault of a kill campaign."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parents[1])

sys.path.insert(0, FOLDER)
from faults import install  # noqa: E402

sys.path.remove(FOLDER)
install()
