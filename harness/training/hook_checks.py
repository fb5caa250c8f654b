"""Checks of what a method's hooks return: what cannot be trained or stored is refused with the reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Picture, Question

if TYPE_CHECKING:
    from methods.base import InjectionMethod


def check_trainable(groups: Sequence[dict[str, Any]], where: str) -> None:
    """Refuse parameter groups without a parameter that can be trained.

    Args:
        groups: From ``parameter_groups``.
        where: The cell or method, for the message.

    Raises:
        UserError: Nothing would be trained.
    """
    if not any(parameter.requires_grad for group in groups for parameter in group["params"]):
        raise UserError(
            "the method trains nothing: no parameter in its groups has requires_grad",
            location=where,
            hint="set requires_grad in attach, and return these parameters from parameter_groups",
        )


def check_penalty_inputs(
    method: InjectionMethod, groups: Sequence[dict[str, Any]], sharded_parameters: Container[Any], where: str
) -> None:
    """Refuse a penalty over sharded parameters: it would read something else.

    Args:
        method: The method.
        groups: From its ``parameter_groups``.
        sharded_parameters: Parameters of which each process holds only a shard.
        where: The cell or method, for the message.

    Raises:
        UserError: The method has a penalty, and trains such parameters.
    """
    if method.overrides("penalty") and trains_sharded(groups, sharded_parameters):
        raise UserError(
            "its penalty could not read the base's weights: each process holds only a shard of them",
            location=where,
            hint="train it with zero2 or ddp, where every process has all weights",
        )


def trains_sharded(groups: Sequence[dict[str, Any]], sharded_parameters: Container[Any]) -> bool:
    """Whether a trained parameter is among those of which each process holds only a shard."""
    trained = (parameter for group in groups for parameter in group["params"] if parameter.requires_grad)
    return any(parameter in sharded_parameters for parameter in trained)


def checked_loss(returned: Any) -> tuple[torch.Tensor, float]:
    """Check and return the sum of a loss and its number of tokens.

    Raises:
        UserError: They are not a scalar tensor and a number of at least 0.
    """
    if problem := loss_problem(returned):
        hint = "return (sum, tokens): a scalar tensor summed over the supervised tokens, and their number"
        raise UserError(f"loss gave {problem}", location="loss", hint=hint)
    loss, tokens = returned
    return loss, tokens


def loss_problem(returned: Any) -> str:
    """Why this is not the sum of a loss and its number of tokens; empty if it is."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        return f"a {type(returned).__name__} instead of (sum, tokens)"
    loss, tokens = returned
    if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.is_floating_point():
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(type(loss))
        return f"{shape} as the sum, not a scalar tensor of a floating-point type"
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens < math.inf:
        return f"{tokens!r} as the number of tokens"
    return ""


def checked_penalty(penalty: Any) -> torch.Tensor | None:
    """Check and return a penalty.

    Raises:
        UserError: It is neither None nor a scalar tensor.
    """
    if penalty is None or (isinstance(penalty, torch.Tensor) and penalty.dim() == 0):
        return penalty
    shape = f"a tensor of shape {tuple(penalty.shape)}" if isinstance(penalty, torch.Tensor) else repr(type(penalty))
    raise UserError(
        f"penalty gave {shape}, not a scalar tensor or None", location="penalty", hint="return a sum, a mean or None"
    )


def checked_question(question: Question, returned: Any, where: str = "") -> Question:
    """Check and return a question as ``ask`` made it, with its reference.

    Args:
        question: The benchmark's.
        returned: The hook's result for it, without a reference.
        where: The cell or method, for the message.

    Raises:
        UserError: More has changed than texts and added pictures.
    """
    if problem := question_problem(question, returned):
        raise UserError(
            f"ask gave {problem}",
            location=f"{where or 'ask'}, question {question.id} of {question.benchmark}",
            hint="change the texts of the turns, or add pictures with a marker each, and nothing else",
        )
    return dataclasses.replace(question, turns=returned.turns, pictures=returned.pictures)


def question_problem(question: Question, returned: Any) -> str:
    """Why this cannot be asked in place of a question; empty if it can."""
    if not isinstance(returned, Question):
        return f"a {type(returned).__name__} instead of a question"
    free = {"turns", "pictures", "reference"}
    names = [field.name for field in dataclasses.fields(Question) if field.name not in free]
    changed = [name for name in names if getattr(question, name) != getattr(returned, name)]
    if changed or returned.reference:
        return f"another {(changed or ['reference'])[0]}"
    if len(returned.turns) != len(question.turns) or not all(isinstance(turn, str) for turn in returned.turns):
        return f"{len(returned.turns)} turns instead of {len(question.turns)} texts"
    if not all(isinstance(picture, Picture) for picture in returned.pictures):
        return "something else than pictures"
    markers = sum(turn.count(IMAGE) for turn in returned.turns)
    if markers != len(returned.pictures):
        return f"{markers} markers for {len(returned.pictures)} pictures"
    left = iter([picture.sha256 for picture in returned.pictures])
    if not all(picture.sha256 in left for picture in question.pictures):  # each is looked for after the one before
        return "the question's own pictures in another order, or not all of them"
    return ""


def validate_tensors(tensors: Any, hook: str, where: str = "") -> dict[str, torch.Tensor]:
    """Check and return the tensors from a hook.

    Args:
        tensors: The hook's result.
        hook: Its name.
        where: The cell or method, for the message.

    Raises:
        UserError: It is not a dict of finite, dense tensors by name.
    """
    problem = tensor_problem(tensors)
    if problem:
        raise UserError(
            f"{hook} gave {problem}; only safetensors are written, never pickles",
            location=where or hook,
            hint="return a dict of finite, dense tensors by name",
        )
    return dict(tensors)


def tensor_problem(tensors: Any) -> str:
    """Why safetensors cannot or should not hold this; empty if they can."""
    if not isinstance(tensors, dict):
        return f"a {type(tensors).__name__} instead of tensors by name"
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            return f"the name {name!r}, which is not text"
        if not isinstance(tensor, torch.Tensor):
            return f"a {type(tensor).__name__} as {name!r}"
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            return f"{name!r}, which is not a dense tensor of real numbers ({tensor.layout}, {tensor.dtype})"
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{name!r}, which is not finite"
    return ""
