"""What a row from elsewhere may be called."""

from __future__ import annotations

import re

ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
