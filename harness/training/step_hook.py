"""What a method does after each optimiser step, and the state that it keeps from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from harness.training.hook_checks import trains_sharded, validate_tensors

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel
    from harness.training.strategies.ddp import TrainingStrategy
    from methods.base import InjectionMethod

HOOK = "after_step"
PREFIX = f"state/{HOOK}/"
"""Start of the names of the state's tensors in a checkpoint. Without it, they are none of the trained parameters."""


class StepHook:
    """A method's ``after_step`` with its state.

    Args:
        model: With the method attached.
        method: Its hook is called after each step.

    Attributes:
        state: What the hook returned last, on the model's device; empty before the first step.
    """

    def __init__(self, model: LanguageVisionModel, method: InjectionMethod) -> None:
        self._model, self._method = model, method
        self.state: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        """Call the hook after optimiser step ``step``, from 0.

        Raises:
            UserError: It returned something else than tensors by name.
        """
        returned = self._method.after_step(self._model, step, dict(self.state))
        self._set(validate_tensors(returned, HOOK))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state by the names that a checkpoint gives it, copied to the CPU."""
        return {f"{PREFIX}{name}": tensor.to("cpu", copy=True).contiguous() for name, tensor in self.state.items()}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take the state out of a checkpoint's tensors; returns the others."""
        self._set({name.removeprefix(PREFIX): each for name, each in tensors.items() if name.startswith(PREFIX)})
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}

    def _set(self, state: Mapping[str, torch.Tensor]) -> None:
        # A resumed training finds every tensor on this device; so must one that was not interrupted.
        self.state = {name: tensor.detach().to(self._model.device) for name, tensor in state.items()}


def make_step_hook(model: LanguageVisionModel, method: InjectionMethod) -> StepHook | None:
    """The method's step hook; None if it has none."""
    return StepHook(model, method) if method.acts_after_step else None


def check_step_hook(method: InjectionMethod, strategy: TrainingStrategy, where: str) -> None:
    """Refuse a step hook where a change of the parameters would be lost at the next step.

    Raises:
        UserError: The optimiser keeps copies of the parameters.
    """
    if method.acts_after_step and not strategy.supports_parameter_changes:
        raise UserError(
            "what its after_step changes would be lost: the optimiser keeps copies of the parameters",
            location=where,
            hint="train it with ddp or fsdp, where the optimiser reads the parameters themselves",
        )


def check_step_hook_inputs(
    method: InjectionMethod, groups: Sequence[dict[str, Any]], strategy: TrainingStrategy, where: str
) -> None:
    """Refuse a step hook over sharded parameters: each process would change its shard by itself.

    Args:
        method: The method.
        groups: From its ``parameter_groups``.
        strategy: With the sharded model.
        where: The cell or method, for the message.

    Raises:
        UserError: The method has a step hook, and trains such parameters.
    """
    if method.acts_after_step and trains_sharded(groups, strategy.sharded_parameters):
        raise UserError(
            "its after_step could not change the base's weights: each process holds only a shard of them",
            location=where,
            hint="train it with ddp, where every process has all weights",
        )
