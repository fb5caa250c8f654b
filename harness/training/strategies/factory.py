"""Choosing how the processes share the training of one cell."""

from __future__ import annotations

from harness.distributed.process_group import ProcessGroup
from harness.training.strategies.ddp import TrainingStrategy


def training_strategy(sharding: str, process_group: ProcessGroup) -> TrainingStrategy:
    """The strategy for a setting of ``sharding``.

    Args:
        sharding: ``none``: the processes only share the rows of each step; ``fsdp``, ``zero2``, ``zero3``: also
            weights, gradients or moments.
        process_group: The processes.
    """
    if sharding == "fsdp":
        from harness.training.strategies.fsdp import FSDPStrategy

        return FSDPStrategy(process_group)
    if sharding in ("zero2", "zero3"):
        from harness.training.strategies.zero import Zero3Strategy, ZeroStrategy

        return ZeroStrategy(process_group) if sharding == "zero2" else Zero3Strategy(process_group)
    return TrainingStrategy(process_group)
