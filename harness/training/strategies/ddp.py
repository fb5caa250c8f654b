"""Data parallelism: the processes share the rows of each step, and each of them holds all the weights.

``fsdp.py`` and ``zero.py`` share weights or moments, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from harness.config.schema import TrainingSettings
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.training.checkpoint import load_state_dict, state_dict, trained_parameters
from harness.training.optimizers import Groups, build_adamw

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel


class TrainingStrategy:
    """The optimiser, and what several processes do around it."""

    invalidates_model: bool = False
    """Whether the model is unusable after training and has to be loaded again."""
    synchronous: bool = False
    """Whether the processes wait for each other during a pass, to gather sharded weights."""
    supports_parameter_changes: bool = True
    """Whether a value that is written into a trained parameter after a step is what the next step starts from."""
    sharded_parameters: Container[torch.nn.Parameter] = frozenset()
    """Parameters that cannot be read outside a forward pass, because each process holds only a shard of them."""

    def __init__(self, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.process_group = process_group

    def shard(self, model: LanguageVisionModel) -> None:
        """Reduce the weights to this process's shard; called after the method was attached."""

    def build_optimizer(self, groups: Groups, settings: TrainingSettings) -> None:
        """Set ``optimizer``, an AdamW over the groups."""
        self.optimizer = build_adamw(groups, settings)
        self._parameters = [parameter for _, parameter in trained_parameters(self.optimizer.param_groups)]
        self._clip_norm = settings.clip_norm

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradient of a micro-batch."""
        loss.backward()  # type: ignore[no-untyped-call]

    def reduce_and_clip(self, tokens: float) -> float:
        """Turn the accumulated gradients into the step's, equal in all processes, and clip it.

        Args:
            tokens: Supervised tokens of the step, over all processes.

        Returns:
            The gradient's norm before clipping.
        """
        self.all_reduce_grads()
        # Dividing at the end makes the gradient independent of how the step was cut.
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(tokens)
        norm = self.grad_norm()
        self.clip_grads(norm)
        return float(norm)

    def step(self) -> None:
        """Update the parameters and clear the gradient."""
        self.optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Clear the gradient."""
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained parameters and the optimiser's moments, complete and on the CPU.

        Every process has to call this; only rank 0 gets them.
        """
        return state_dict(self.optimizer, keep=self.process_group.is_main_process)

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore what ``state_dict`` gave.

        Raises:
            UserError: The tensors belong to another model or method.
        """
        load_state_dict(self.optimizer, tensors)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A block, after training, in which every process can read all weights."""
        yield

    def grad_norm(self) -> torch.Tensor:
        """The norm of the gradient."""
        return torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def clip_grads(self, norm: torch.Tensor) -> None:
        """Scale the gradient down to the largest norm that is allowed."""
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)

    def all_reduce_grads(self) -> None:
        """Sum the gradients over all processes."""
        if self.process_group.world_size > 1:
            all_reduce_grads(self._parameters, self.process_group)


def all_reduce_grads(trained: Sequence[torch.nn.Parameter], process_group: ProcessGroup) -> None:
    """Sum the gradients over all processes, as one tensor of each type: one message instead of hundreds.

    A parameter without a gradient in any process has none afterwards, so that the optimiser skips it as it does in a
    single process.
    """
    from torch import distributed

    reached = process_group.all_reduce_sum([float(parameter.grad is not None) for parameter in trained])
    by_dtype: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for parameter, count in zip(trained, reached, strict=True):
        if count:
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for parameters in by_dtype.values():
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        for parameter, summed in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = summed.view_as(parameter)
