"""Logits that are not finite are an error of the answer: the largest of them would be a token that means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError

if TYPE_CHECKING:
    import torch

    from harness.models.base import LanguageVisionModel


@contextmanager
def only_finite_logits(model: LanguageVisionModel) -> Iterator[None]:
    """Raise a UserError within the block as soon as the model's head gives a NaN or an infinite logit.

    A batch is then answered in halves, so that the error stays with the questions that have it.
    """
    handle = model.inner.lm_head.register_forward_hook(_check)
    try:
        yield
    finally:
        handle.remove()


def _check(_module: torch.nn.Module, _inputs: Any, logits: torch.Tensor) -> None:
    finite = logits.isfinite()
    if not bool(finite.all()):
        rows = int((~finite).flatten(1).any(1).sum())
        raise UserError(
            f"the model's logits are not finite for {rows} of {len(logits)} rows of the batch",
            location="answering",
            hint="check the weights, or answer in float32 (precision=float32)",
        )
