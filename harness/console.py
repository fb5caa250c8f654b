"""What the user sees in the terminal: results on stdout; the log and progress bars on stderr."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

PACKAGES = ("harness", "methods", "benchmarks", "reports")
"""The loggers of this program."""


def stdout() -> Console:
    """Standard output, without colours for numbers and paths."""
    return Console(highlight=False)


SPINS = 10_000
"""How often a waiting thread of GNU's OpenMP looks before it sleeps. By default it looks millions of times, and takes
the core from the thread that it waits for where other programs run; with 0 an idle machine is slower (docs/speed.md).
"""


def prepare_process() -> None:
    """Have SIGTERM, with which schedulers stop a program, end it as Ctrl-C does.

    A character that the terminal's encoding lacks is printed as a question mark, instead of ending the command. Threads
    that wait for others soon sleep, unless the environment says otherwise; OpenMP reads this when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_lines(*lines: str) -> None:
    """Print lines of plain text on stdout."""
    for line in lines:
        stdout().print(Text(line), soft_wrap=True)


class _FunctionHandler(logging.Handler):
    """Passes the level and the message of each record to a function."""

    def __init__(self, write: Callable[[int, str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._write(record.levelno, self.format(record))


def _to_stderr(level: int, message: str) -> None:
    """Print plain text: a message may quote the text of others, so nothing in it is markup."""
    prefix = "warning: " if level == logging.WARNING else ""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(prefix + message))


def configure_logging(write: Callable[[int, str], None] = _to_stderr, level: int = logging.INFO) -> None:
    """Send this program's log to stderr or to a function, in place of what an earlier call set up.

    Programs that import the package do not need this: they set levels and handlers of the loggers ``PACKAGES``.

    Args:
        write: Takes the level and the message of each record.
        level: Records below this level are dropped.
    """
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level)
        logger.handlers = [_FunctionHandler(write)]


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Show a progress bar with the time left during the block, on a terminal only.

    Yields a function that advances the bar by one and sets the note beside it.

    Args:
        title: What is going on.
        total: Number of advances.
        done: How many of them were made before.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and os.environ.get("RANK", "0") == "0"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not shown) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda note: bar.update(task, advance=1, note=note)
