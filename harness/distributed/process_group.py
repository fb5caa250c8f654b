"""The processes that ``accelerate launch`` starts for one command: one leads, and the others do with it what it does.

What is decided is decided by the leader and told to the others, so that no two processes take different ways. What
fails in one fails in all, for a process that waits for another which has given up would wait forever.
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
from harness.distributed.failures import PeerProcessError, mark_shared

if TYPE_CHECKING:
    import torch

Json = Any
INIT_TIMEOUT, COLLECTIVE_TIMEOUT = timedelta(hours=1), timedelta(hours=12)
"""How long a process waits for the others to come and to compute a layer with it; and for the leader alone to gather
statistics or to write. One that died is noticed at once by whoever launched them."""
FAILURE_TIMEOUT = timedelta(seconds=30)
"""How long a process that failed waits for the others, which may wait for it in the midst of their work."""


class MainProcessMovedOn(Exception):
    """The leader has left what it was doing, and says what is next."""


class ProcessGroup:
    """One process alone, which is what a command without a launcher is."""

    world_size: int = 1
    """How many processes there are."""
    rank: int = 0
    """This one's number; 0 leads."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process decides, writes and tells the user."""
        return self.rank == 0

    def send_task(self, task: Json) -> None:
        """The leader says what is next; the others hear it by ``called``."""

    def receive_task(self) -> Json:
        """What the leader says is next; what it said before about something else is let pass."""
        raise RuntimeError("this process leads")

    def broadcast_from_main(self, decide: Callable[[], Json]) -> Json:
        """What the leader finds, in every process; ``decide`` is called by the leader alone.

        Raises:
            Called: The leader has gone on to something else.
        """
        return decide()

    def all_gather(self, value: Json) -> list[Json]:
        """The values of all processes, in their order."""
        return [value]

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64 and the same bits everywhere."""
        return list(values)

    def assert_equal(self, value: Json, where: str) -> None:
        """Make sure that all processes hold the same.

        Raises:
            UserError: They do not.
        """

    def barrier(self, failed: Exception | None) -> None:
        """Come together after work in which the processes waited for each other.

        Where something went wrong here alone, the others wait for this process in a place where it cannot tell them:
        so it ends at once, and whoever launched them ends them.

        Args:
            failed: What went wrong here.
        """

    @contextmanager
    def synchronized(self, *, leader_first: bool = False) -> Iterator[None]:
        """A block that all processes get through, or none.

        Args:
            leader_first: The others begin once the leader is through, and so find what it stored.

        Raises:
            ElsewhereError: Another process failed in it.
        """
        yield


class TorchProcessGroup(ProcessGroup):
    """One of several processes that ``torch.distributed`` has brought together."""

    def __init__(self) -> None:
        import torch
        from torch import distributed

        if not distributed.is_initialized():
            if int(os.environ.get("LOCAL_RANK", "0")) < torch.cuda.device_count():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=INIT_TIMEOUT
            )
        self.world_size, self.rank = distributed.get_world_size(), distributed.get_rank()
        # Words and sums go by a way of their own, so that they never meet gradients on the accelerator's.
        self._talk = distributed.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)

    def send_task(self, task: Json) -> None:
        """The leader says what is next; the others hear it by ``called``."""
        self._tell(["called", task])

    def receive_task(self) -> Json:
        """What the leader says is next; what it said before about something else is let pass."""
        while True:
            kind, value = self._hear()
            if kind == "called":
                return value

    def broadcast_from_main(self, decide: Callable[[], Json]) -> Json:
        """What the leader finds, in every process; ``decide`` is called by the leader alone.

        Raises:
            Called: The leader has gone on to something else.
        """
        if self.is_main_process:
            found = decide()
            self._tell(["found", found])
            return found
        kind, value = self._hear()
        if kind == "called":
            raise MainProcessMovedOn(value)
        return value

    def all_gather(self, value: Json) -> list[Json]:
        """The values of all processes, in their order."""
        import torch
        from torch import distributed

        own = _encode(value)
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.world_size)]
        distributed.all_gather(lengths, torch.tensor([len(own)]), group=self._talk)
        longest = max(int(length) for length in lengths)
        rows = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        distributed.all_gather(rows, padded, group=self._talk)
        return [_decode(row[: int(length)]) for row, length in zip(rows, lengths, strict=True)]

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64 and the same bits everywhere."""
        import torch
        from torch import distributed

        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums, group=self._talk)
        return list(sums.tolist())

    def assert_equal(self, value: Json, where: str) -> None:
        """Make sure that all processes hold the same.

        Raises:
            UserError: They do not.
        """
        found = self.all_gather(value)
        if any(other != found[0] for other in found):
            error = UserError(
                "the processes do not hold the same",
                location=where,
                hint="run them on equal machines with equal versions, and let the method draw from torch's seed alone",
            )
            raise mark_shared(error)

    def barrier(self, failed: Exception | None) -> None:
        """Come together after work in which the processes waited for each other.

        Where something went wrong here alone, the others wait for this process in a place where it cannot tell them:
        so it ends at once, and whoever launched them ends them.

        Args:
            failed: What went wrong here.
        """
        from torch import distributed

        meeting = distributed.barrier(self._talk, async_op=True)
        try:
            meeting.wait(COLLECTIVE_TIMEOUT if failed is None else FAILURE_TIMEOUT)
        except RuntimeError:
            if failed is None:
                raise
            traceback.print_exception(failed)
            problem = f"error: process {self.rank} failed and the others wait for it: {first_line(failed)}"
            hint = "mend that, or lower training.micro_batch if memory did not suffice, and run the command again"
            print(f"{problem}\nHint: {hint}", file=sys.stderr, flush=True)
            os._exit(1)  # an orderly end would wait for the others, too

    @contextmanager
    def synchronized(self, *, leader_first: bool = False) -> Iterator[None]:
        """A block that all processes get through, or none.

        Args:
            leader_first: The others begin once the leader is through, and so find what it stored.

        Raises:
            ElsewhereError: Another process failed in it.
        """
        if leader_first and not self.is_main_process:
            self._all_well(self.all_gather(None))
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        told = None if failed is None else _describe_failure(failed)
        if leader_first and self.is_main_process:
            self.all_gather(told)
        if failed is not None and (leader_first and self.is_main_process):
            raise mark_shared(failed)
        everyone = self.all_gather(told)
        if failed is not None:
            raise mark_shared(failed)
        self._all_well(everyone)

    def _all_well(self, everyone: Sequence[Json]) -> None:
        for told in everyone:
            if told is not None:
                raise PeerProcessError(*told)

    def _tell(self, message: Json) -> None:
        import torch
        from torch import distributed

        body = _encode(message)
        distributed.broadcast(torch.tensor([len(body)]), 0, group=self._talk)
        distributed.broadcast(body, 0, group=self._talk)

    def _hear(self) -> tuple[str, Json]:
        import torch
        from torch import distributed

        length = torch.zeros(1, dtype=torch.long)
        distributed.broadcast(length, 0, group=self._talk)
        body = torch.zeros(int(length), dtype=torch.uint8)
        distributed.broadcast(body, 0, group=self._talk)
        kind, value = _decode(body)
        return kind, value


SINGLE_PROCESS = ProcessGroup()


def init_process_group() -> ProcessGroup:
    """This process alone, or with those that were launched beside it. Each waits here for the others."""
    return SINGLE_PROCESS if world_size() == 1 else TorchProcessGroup()


def world_size() -> int:
    """How many processes a launcher has started for this command; torch is not asked."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _encode(value: Json) -> torch.Tensor:
    """Text as bytes: what goes between processes is plain JSON, never a pickle."""
    import torch

    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decode(body: torch.Tensor) -> Json:
    return json.loads(body.numpy().tobytes())


def _describe_failure(error: Exception) -> Json:
    """What the other processes hear of a failure."""
    from harness.training.memory import is_out_of_memory

    return [first_line(error), is_out_of_memory(error)]
