"""Commands as forked processes, so that the libraries are imported only once; and their ends."""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from harness.storage.source_code import FOLLOWED, REPO_ROOT, code_digest
from tests.kill import faults

LIBRARIES = (
    "datasets",
    "fontTools.subset",
    "harness.commands.augment",
    "harness.commands.compare",
    "harness.commands.export",
    "harness.experiment.train",
    "harness.miniature.pretrain",
    "harness.models.batched_generation",
    "harness.models.llava",
    "harness.training.conversation_batches",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "methods.components.lora_layers",
    "methods.components.peft_adapter",
    "pyarrow.parquet",
    "reports.build",
    "transformers.models.llava.modeling_llava",
)
"""Imported before the first fork, since that takes seconds; a command imports the rest itself."""
LONGEST = 600.0
"""Seconds after which a command counts as hung."""


def prepare_forks() -> None:
    """Do once what would take seconds in every process: import the libraries and read this package's code."""
    import torch

    torch.set_num_threads(1)
    for name in LIBRARIES:
        importlib.import_module(name)
    code_digest(*(file for package in FOLLOWED for file in (REPO_ROOT / package).rglob("*.py")))


class Running:
    """A command in a process of its own, with its own group.

    Args:
        words: The arguments of the harness, or of ``accelerate launch`` if they begin with it.
        log: Where its output is added.
        environment: Variables that are set for it.
        prepare: Called in its process before it begins.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _become(words, log, environment, prepare)
        self._process = psutil.Process(self._pid)
        self.code: int | None = None

    def wait(self, seconds: float = LONGEST) -> bool:
        """Wait for its end; returns whether it came in time."""
        try:
            self.code = self._process.wait(seconds)
        except psutil.TimeoutExpired:
            return False
        return True

    def kill_one(self, number: signal.Signals, draw: random.Random, *, launched: bool) -> None:
        """Send a signal to the command, or instead to one of the processes that it started.

        A launcher is spared: what it started would go on without it, which is what no scheduler does.
        """
        started = self._family()[1:]
        own = [] if launched and started else [self._process]
        _send(draw.choice([*own, *started]), number)

    def kill_all(self, number: signal.Signals) -> None:
        """Send a signal to the command and to all processes that it started, as when a machine goes down."""
        for process in self._family():
            _send(process, number)

    def stop(self) -> None:
        """End a command that hangs."""
        self.kill_all(signal.SIGKILL)
        self.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self._process]


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return  # it has ended by itself


def _become(
    words: Sequence[str], log: Path, environment: Mapping[str, str], prepare: Callable[[], None] | None
) -> None:
    """Turn a forked process into the command."""
    code = 1
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ.update(environment)
        if words[0] == "accelerate":
            os.execv(sys.executable, [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:]])  # noqa: S606
        if prepare:
            prepare()
        code = _call(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(words: Sequence[str]) -> int:
    from harness.cli import main

    faults.install()
    sys.argv = ["harness", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
