"""A forward pass that ends at a module, to see what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


@contextmanager
def inputs_recorded(module: torch.nn.Module, argument: str = "") -> Iterator[list[torch.Tensor]]:
    """Within the block, a tensor that the module is called with is recorded, and the block ends there.

    Args:
        module: Any.
        argument: The name of the tensor; empty for the first.
    """
    seen: list[torch.Tensor] = []

    def stop(_: torch.nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        given = (options[argument],) if argument else (*inputs, *options.values())
        seen.append(next(each for each in given if isinstance(each, torch.Tensor)))
        raise _StopForward

    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with suppress(_StopForward):
            yield seen
    finally:
        handle.remove()


class _StopForward(Exception):
    """The module was called."""
