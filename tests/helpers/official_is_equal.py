"""VLMEvalKit's own comparison for MathVision, called directly: ``python official_is_equal.py PAIRS RESULTS``.

PAIRS is a list of [answer, gold]. The function evaluates both as Python code, so pass only texts that a test has made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.vlmeval import adapter


def main():
    is_equal = adapter.load().mathv.is_equal.__wrapped__  # its time limit starts a process per comparison
    pairs = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([bool(is_equal(answer, gold)) for answer, gold in pairs]))


if __name__ == "__main__":
    main()
