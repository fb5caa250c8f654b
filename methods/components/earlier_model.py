"""The model as an injection stage found it, which then teaches the one that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from methods.components.eval_mode import eval_no_grad
from methods.components.lora_layers import without_adapter

if TYPE_CHECKING:
    import torch

    from methods.interfaces import InjectableModel


class EarlierModel:
    """The untouched base, or the model at the end of the previous stage. There is no second model in memory."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[torch.nn.Parameter, torch.Tensor], ...] = ()
        """From the second stage on: the trained parameters, and their values at the end of the previous stage."""

    def keep(self, model: InjectableModel) -> None:
        """Take the current values of the trained parameters for those of the earlier model."""
        trained = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        self._kept = tuple((parameter, parameter.detach().clone()) for parameter in trained)

    @contextmanager
    def active(self, model: InjectableModel) -> Iterator[None]:
        """Compute with the earlier model within the block, in eval mode and without gradients."""
        with self._kept_values() if self._kept else without_adapter(model), eval_no_grad(model):
            yield

    @contextmanager
    def _kept_values(self) -> Iterator[None]:
        """Exchange the values. Only the parameters' storage changes, so existing graphs stay valid."""
        current = [parameter.data for parameter, _ in self._kept]
        for parameter, values in self._kept:
            parameter.data = values
        try:
            yield
        finally:
            for (parameter, _), values in zip(self._kept, current, strict=True):
                parameter.data = values
