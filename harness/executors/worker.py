"""The process at the other end of ``process_pool.py``: computes the cells whose numbers come on its standard input.

It writes lines of JSON to its standard output: {"log": [level, message]} while it works, {"done": result} at the end of
each cell, and {"refused": reason} if the run cannot start here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.errors import UserError, first_line
from harness.console import configure_logging
from harness.executors.job import open_run, run_job


def serve(run: Path, plugins: Sequence[Path]) -> None:
    """Compute cells until the input is closed, which also happens when the process at its other end is killed."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the messages

    def send(kind: str, value: Any) -> None:
        channel.write(json.dumps({kind: value}) + "\n")
        channel.flush()

    configure_logging(lambda level, line: send("log", [level, line]))
    numbers: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(numbers,), daemon=True).start()
    try:
        context = open_run(run, plugins)
    except UserError as error:  # another process would stop here, too
        send("refused", first_line(error))
        return
    while True:
        send("done", asdict(run_job(context, numbers.get())))


def _listen(numbers: SimpleQueue[int]) -> None:
    for line in sys.stdin:
        numbers.put(int(line))
    # Nobody needs the cell that is being computed, and the store can be left at any moment.
    os._exit(0)
