"""The processes that ``accelerate launch`` starts for one command: rank 0 decides, the other ranks follow.

This is a thin layer over ``torch.distributed``. ``Accelerator.prepare`` and accelerate's collectives would do most of
it, but not three things that a run promises. No pickles: accelerate's ``gather_object`` and torch's
``broadcast_object_list`` pickle what they send, so values travel as JSON here. The same bits every time and for every
cut of a step: DDP sums gradients bucket by bucket during the backward pass, divides by the number of processes instead
of supervised tokens, and expects every process to reach the same parameters, which a row without a picture does not; so
``training/strategies`` sums once per step, in a fixed order (FSDP and ZeRO are torch's ``fully_shard`` and DeepSpeed's
``initialize``). And an end on every failure: a process that fails alone leaves the others waiting in a collective until
its timeout, so each block that all of them enter ends with an exchange of failures (``synchronized``) or with a bounded
wait after which the process exits (``barrier``), and the launcher stops the rest.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError, first_line
from harness.distributed.failures import PeerProcessError, is_out_of_memory, mark_shared

if TYPE_CHECKING:
    from torch import distributed

Json = Any
INIT_TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others to start, and for a layer's weights during a pass."""
COLLECTIVE_TIMEOUT = timedelta(hours=12)
"""How long a process waits for a message: rank 0 may be computing statistics or writing. The launcher notices a process
that died at once."""
FAILURE_TIMEOUT = timedelta(seconds=30)
"""How long a failed process waits for the others, which may be waiting for it in the middle of a pass."""


class MainProcessMovedOn(Exception):
    """Rank 0 has given up the current task; the argument is its next one."""


class ProcessGroup:
    """Processes that compute together, or a single process.

    Args:
        group: A gloo group for messages and sums only, so that they never mix with collectives of gradients; None for
            a single process.
    """

    world_size: int = 1
    rank: int = 0

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self._group = group
        if group is not None:
            self.world_size, self.rank = group.size(), group.rank()

    @property
    def is_main_process(self) -> bool:
        """Whether this process decides, writes and informs the user."""
        return self.rank == 0

    def send_task(self, task: Json) -> None:
        """From rank 0: what comes next. Does not wait for the others, which get it from ``receive_task``."""
        self._broadcast(["task", task])

    def receive_task(self) -> Json:
        """Rank 0's next task; messages about the previous one are skipped."""
        while True:
            kind, value = self._broadcast()
            if kind == "task":
                return value

    def broadcast_from_main(self, decide: Callable[[], Json]) -> Json:
        """The result of ``decide``, which only rank 0 calls, in every process.

        Raises:
            MainProcessMovedOn: Rank 0 has sent another task instead.
        """
        if self.is_main_process:
            value = decide()
            self._broadcast(["value", value])
            return value
        kind, value = self._broadcast()
        if kind == "task":
            raise MainProcessMovedOn(value)
        return value

    def all_gather(self, value: Json) -> list[Json]:
        """Every process's value, in rank order."""
        return [self._broadcast(value, source) for source in range(self.world_size)]

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64 and with the same bits everywhere."""
        if self._group is None:
            return list(values)
        import torch
        from torch import distributed

        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums, group=self._group)
        return list(sums.tolist())

    def assert_equal(self, value: Json, where: str) -> None:
        """Check that all processes have the same value.

        Raises:
            UserError: They differ.
        """
        first, *others = self.all_gather(value)
        if any(other != first for other in others):
            error = UserError(
                "the processes have different values",
                location=where,
                hint="use equal machines with equal versions, and let the method draw from torch's seed alone",
            )
            raise mark_shared(error)

    def barrier(self, failure: Exception | None) -> None:
        """Meet after work during which the processes waited for each other.

        A process that failed alone cannot tell the others, because they wait for it inside a collective; if they do not
        arrive in time it exits, and the launcher ends them.

        Args:
            failure: What went wrong in this process.
        """
        if self._group is None:
            return
        from torch import distributed

        meeting = distributed.barrier(self._group, async_op=True)
        try:
            meeting.wait(COLLECTIVE_TIMEOUT if failure is None else FAILURE_TIMEOUT)
        except RuntimeError:
            if failure is None:
                raise
            traceback.print_exception(failure)
            problem = f"error: process {self.rank} failed and the others wait for it: {first_line(failure)}"
            hint = "fix this error, or lower training.micro_batch if memory ran out, and run the command again"
            print(f"{problem}\nHint: {hint}", file=sys.stderr, flush=True)
            os._exit(1)  # a normal exit would wait for the others, too

    @contextmanager
    def synchronized(self, *, main_process_first: bool = False) -> Iterator[None]:
        """A block that all processes complete, or none.

        Args:
            main_process_first: The others start when rank 0 is done, and so find what it stored.

        Raises:
            PeerProcessError: Another process failed in it.
        """
        if self._group is None:
            yield
            return
        if main_process_first and not self.is_main_process:
            _raise_reported(self.all_gather(None))
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        report = None if failure is None else [first_line(failure), is_out_of_memory(failure)]
        reports = self.all_gather(report)
        if failure is not None:
            raise mark_shared(failure)
        if main_process_first and self.is_main_process:
            reports = self.all_gather(None)
        _raise_reported(reports)

    def _broadcast(self, value: Json = None, source: int = 0) -> Json:
        """The value that ``source`` has, in every process; ``source`` does not wait for the others."""
        if self._group is None:
            return value
        import torch
        from torch import distributed

        body = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(body)])
        distributed.broadcast(length, source, group=self._group)
        if self.rank != source:
            body = torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(body, source, group=self._group)
        return json.loads(body.numpy().tobytes())


SINGLE_PROCESS = ProcessGroup()


def _raise_reported(reports: Sequence[Json]) -> None:
    """Raise the first failure that a process reported."""
    for report in reports:
        if report is not None:
            raise PeerProcessError(*report)


def init_process_group() -> ProcessGroup:
    """This process alone, or the group of those that were launched with it; each waits here for the others."""
    if world_size() == 1:
        return SINGLE_PROCESS
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=INIT_TIMEOUT)
    return ProcessGroup(distributed.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT))


def world_size() -> int:
    """How many processes a launcher has started for this command, from the environment: torch is not imported."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_several_processes(hint: str) -> None:
    """Stop a command that would do the same thing in each process of a launcher.

    Raises:
        UserError: There are several.
    """
    if world_size() > 1:
        raise UserError("this command runs in one process only", location=f"WORLD_SIZE={world_size()}", hint=hint)
