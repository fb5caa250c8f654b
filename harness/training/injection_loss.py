"""The loss of a micro-batch: what a method's ``loss`` and ``penalty`` return for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from harness.training.hook_checks import checked_loss, checked_penalty
from harness.training.loop import StepLoss

if TYPE_CHECKING:
    from harness.models.base import Batch, LanguageVisionModel


class HasLoss(Protocol):
    """The part of a method that the loss needs."""

    def loss(
        self, model: LanguageVisionModel, batch: Batch, logits: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """The sum of the token losses of a micro-batch, and the number of tokens by which a step divides it."""

    def penalty(self, model: LanguageVisionModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """A scalar that is added to the mean token loss of each optimiser step."""


class InjectionLoss:
    """The method's loss over the supervised tokens plus its penalty.

    Args:
        model: With the method attached; put into training mode.
        method: Its loss and penalty are computed for each micro-batch.
    """

    def __init__(self, model: LanguageVisionModel, method: HasLoss) -> None:
        self._model, self._method = model, method
        model.module.train()

    def __call__(self, batch: Batch) -> StepLoss:
        """The loss of one micro-batch.

        Raises:
            UserError: A hook returned something else than it should.
        """
        logits, targets = self._model.supervised(batch)
        loss, tokens = checked_loss(self._method.loss(self._model, batch, logits, targets))
        return StepLoss(loss, tokens, checked_penalty(self._method.penalty(self._model, batch, logits)))
