"""Choosing how several processes share the training of one cell."""

from __future__ import annotations

from harness.distributed.process_group import ProcessGroup
from harness.training.strategies.ddp import DDPStrategy


def training_strategy(kind: str, process_group: ProcessGroup) -> DDPStrategy:
    """What a crew shares.

    Args:
        kind: ``none``: the rows of each step alone. ``fsdp``, ``zero2``, ``zero3``: weights, gradients or moments, too.
        crew: The processes.
    """
    if kind == "fsdp":
        from harness.training.strategies.fsdp import FSDPStrategy

        return FSDPStrategy(process_group)
    if kind in ("zero2", "zero3"):
        from harness.training.strategies.zero import Zero3Strategy, ZeroStrategy

        return ZeroStrategy(process_group) if kind == "zero2" else Zero3Strategy(process_group)
    return DDPStrategy(process_group)
