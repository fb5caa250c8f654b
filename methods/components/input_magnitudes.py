"""Mean absolute values of the inputs of the decoder's linear layers, as ASVD scales them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.covariance import prompt_batches
from methods.components.eval_mode import eval_no_grad
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


def mean_magnitudes(model: InjectableModel, prompts: Sequence[Conversation]) -> Tensors:
    """Mean |x| over the tokens of the prompts, (d_in,) float64 on the CPU, by linear layer; padding is ignored.

    Args:
        model: The untouched model.
        prompts: Calibration samples; only their first user turns are read.

    Raises:
        UserError: There are no prompts, or an activation is not finite.
    """
    totals: Tensors = {}
    mask = torch.empty(0)

    def adding(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            total = inputs[0][mask].abs().sum(0, dtype=torch.float64).cpu()
            totals[name] = totals[name] + total if name in totals else total

        return hook

    tokens = 0
    with eval_no_grad(model), ExitStack() as stack:
        for name, layer in target_layers(model).items():
            stack.callback(layer.register_forward_pre_hook(adding(name)).remove)
        for part in prompt_batches(model, prompts):
            batch = model.prompt_batch(part)
            mask = batch["attention_mask"].bool()
            tokens += int(mask.sum())
            model.module(**batch, use_cache=False, logits_to_keep=1)
    if not all(bool(total.isfinite().all()) for total in totals.values()):
        hint = "run the model in bfloat16 or float32"
        raise UserError("an activation is not finite", location="calibration", hint=hint)
    return {name: total / tokens for name, total in totals.items()}
