"""The other end of ``workers.py``: a process that computes the cells whose numbers come by its standard input.

It answers by lines of JSON on its standard output: {"say": line} while it works, {"done": errand} at the end of each.
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

from harness.executors.job import open_run, run_job


def serve(run: Path, plugins: Sequence[Path]) -> None:
    """Work until nobody sends anything any more, which is also what is seen when the other end was killed."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get among the answers

    def tell(kind: str, value: Any) -> None:
        channel.write(json.dumps({kind: value}) + "\n")
        channel.flush()

    numbers: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(numbers,), daemon=True).start()
    context = open_run(run, plugins, lambda line: tell("say", line))
    while True:
        tell("done", asdict(run_job(context, numbers.get())))


def _listen(numbers: SimpleQueue[int]) -> None:
    for line in sys.stdin:
        numbers.put(int(line))
    # Whatever is under way is of no use to anybody now; the store bears being left at any moment.
    os._exit(0)
