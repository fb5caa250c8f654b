"""What the processes of one training share: here the rows of each step alone, for every process has all the weights.

``sharded.py`` shares the weights, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from harness.config.training import TrainingSettings
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.training.checkpoint import load_state_dict, take, trained_parameters

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

Groups = Sequence[dict[str, Any]]


class DDPStrategy:
    """The optimiser and what has to be done around it.

    Args:
        crew: The processes that train together.
    """

    invalidates_model: bool = False
    """Whether the model is of no use afterwards and has to be loaded again."""
    synchronous: bool = False
    """Whether the processes wait for each other in the midst of a pass, for weights that they hold in parts."""
    sharded_parameters: Container[torch.nn.Parameter] = frozenset()
    """Parameters that cannot be read outside a forward pass, for each process holds but a part of them."""

    def __init__(self, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.process_group = process_group

    def shard(self, model: LanguageVisionModel) -> None:
        """Leave each process its part of the weights. Called once the method has put its own in place."""

    def begin(self, groups: Groups, settings: TrainingSettings) -> None:
        """Make the optimiser."""
        self.optimizer = torch.optim.AdamW(
            [dict(group) for group in groups], betas=settings.betas, eps=settings.epsilon, fused=can_fuse(groups)
        )
        self._parameters = [parameter for _, parameter in trained_parameters(self.optimizer.param_groups)]
        self._clip = settings.clip_norm

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a micro-batch to what is there."""
        loss.backward()  # type: ignore[no-untyped-call]

    def gradient(self, tokens: float) -> float:
        """Make of the micro-batches' gradients that of the step, the same in all processes, and clip it.

        Args:
            tokens: Supervised tokens of the step, over all processes.

        Returns:
            Its norm before clipping.
        """
        self.all_reduce_grads()
        # Dividing at the end makes the gradient independent of how the step was cut.
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(tokens)
        norm = self.norm()
        self.clip(norm)
        return float(norm)

    def step(self) -> None:
        """Follow the gradient, and forget it."""
        self.optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Forget the gradient."""
        self.optimizer.zero_grad()

    def take(self) -> dict[str, torch.Tensor]:
        """The trained parameters and the optimiser's moments, whole and on the CPU.

        Every process must ask; the leader alone gets them.
        """
        return take(self.optimizer, keep=self.process_group.is_main_process)

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Undo everything since ``take``.

        Raises:
            UserError: The tensors belong to another model or method.
        """
        load_state_dict(self.optimizer, tensors)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every process sees all weights as they are now."""
        yield

    def norm(self) -> torch.Tensor:
        """The norm of the gradient."""
        return torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def clip(self, norm: torch.Tensor) -> None:
        """Shorten the gradient to the greatest norm that is allowed."""
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip, norm)

    def all_reduce_grads(self) -> None:
        """Add the gradients of all processes."""
        if self.process_group.world_size > 1:
            all_reduce_grads(self._parameters, self.process_group)


def all_reduce_grads(trained: Sequence[torch.nn.Parameter], process_group: ProcessGroup) -> None:
    """Add the gradients of all processes, as one tensor of each type: one message instead of hundreds.

    What has a gradient in none has none afterwards, so that the optimiser leaves it alone as it does in one process.
    """
    from torch import distributed

    reached = process_group.all_reduce_sum([float(parameter.grad is not None) for parameter in trained])
    kinds: dict[torch.dtype, list[torch.nn.Parameter]] = {}
    for parameter, count in zip(trained, reached, strict=True):
        if not count:
            continue
        kinds.setdefault(parameter.dtype, []).append(parameter)
    for parameters in kinds.values():
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([part.reshape(-1) for part in parts])
        distributed.all_reduce(flat)
        for parameter, summed in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = summed.view_as(parameter)


def can_fuse(groups: Groups) -> bool:
    """Torch's fused AdamW takes floating-point parameters on these devices."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point() for parameter in parameters)
