"""Switch a model to eval mode for as long as something is measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel


@contextmanager
def eval_mode(model: InjectableModel) -> Iterator[None]:
    """Switch to eval mode, then back to the mode before."""
    training = model.module.training
    model.module.eval()
    try:
        yield
    finally:
        model.module.train(training)


@contextmanager
def eval_no_grad(model: InjectableModel) -> Iterator[None]:
    """Switch to eval mode without gradients, then back."""
    with eval_mode(model), torch.no_grad():
        yield
