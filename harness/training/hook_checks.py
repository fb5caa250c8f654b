"""What a method gives is looked at before it is used: what cannot be trained or stored is refused, with the reason."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError

if TYPE_CHECKING:
    from methods.base import InjectionMethod


def check_trainable(groups: Sequence[dict[str, Any]], where: str) -> None:
    """Refuse parameter groups without a parameter that can be trained.

    Args:
        groups: As ``parameter_groups`` gave them.
        where: The cell or method, for the message.

    Raises:
        UserError: Nothing would be trained.
    """
    if not any(parameter.requires_grad for group in groups for parameter in group["params"]):
        raise UserError(
            "the method trains nothing: no parameter in its groups has requires_grad",
            location=where,
            hint="have attach set requires_grad, and parameter_groups give what it set",
        )


def check_penalty_inputs(
    method: InjectionMethod, groups: Sequence[dict[str, Any]], sharded_parameters: Container[Any], where: str
) -> None:
    """Refuse a penalty over parameters of which each process holds but a part: it would read something else.

    Args:
        method: The method.
        groups: As its ``parameter_groups`` gave them.
        parted: What each process holds but a part of.
        where: The cell or method, for the message.

    Raises:
        UserError: The method has a penalty, and trains such parameters.
    """
    from methods.base import InjectionMethod

    trained = (parameter for group in groups for parameter in group["params"] if parameter.requires_grad)
    if type(method).penalty is not InjectionMethod.penalty and any(
        parameter in sharded_parameters for parameter in trained
    ):
        raise UserError(
            "its penalty could not read the base's weights, for each process holds but a part of them",
            location=where,
            hint="train it with zero2 or ddp, which leave every process all weights",
        )


def checked_penalty(penalty: Any) -> torch.Tensor | None:
    """The penalty, if it is one.

    Raises:
        UserError: It is neither None nor a scalar tensor.
    """
    if penalty is None or (isinstance(penalty, torch.Tensor) and penalty.dim() == 0):
        return penalty
    shape = f"a tensor of shape {tuple(penalty.shape)}" if isinstance(penalty, torch.Tensor) else repr(type(penalty))
    raise UserError(
        f"penalty gave {shape}, not a scalar tensor or None", location="penalty", hint="give a sum or a mean, or None"
    )


def validate_tensors(tensors: Any, hook: str, where: str = "") -> dict[str, torch.Tensor]:
    """The tensors that a hook gave, if safetensors can hold them.

    Args:
        tensors: What the hook gave.
        hook: Its name.
        where: The cell or method, for the message.

    Raises:
        UserError: It is something else than finite, dense tensors by name; pickles are never written.
    """
    problem = tensor_problem(tensors)
    if problem:
        raise UserError(
            f"{hook} gave {problem}; only safetensors are written, never pickles",
            location=where or hook,
            hint="give a dict of finite, dense tensors by name",
        )
    return dict(tensors)


def tensor_problem(tensors: Any) -> str:
    """Why safetensors cannot hold this, or should not; empty where they can."""
    if not isinstance(tensors, dict):
        return f"a {type(tensors).__name__} instead of tensors by name"
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            return f"the name {name!r}, which is no text"
        if not isinstance(tensor, torch.Tensor):
            return f"a {type(tensor).__name__} as {name!r}"
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            return f"{name!r}, which is no dense tensor of real numbers ({tensor.layout}, {tensor.dtype})"
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{name!r}, which is not finite"
    return ""
