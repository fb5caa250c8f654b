"""LoRA's factors confined to fixed subspaces while they are trained, by torch's parametrisations.

A layer then reads the confined factor as its ``weight``, and so does an export: it holds plain A and B, which are
restored without the constraint. What the optimiser sees is the parameter behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.utils import parametrize

from methods.components.lora_layers import TRAINED, load_adapter, lora_layers

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


class RowsOff(torch.nn.Module):
    """A (I - V V^T): rows orthogonal to the columns of V (d_in, k), which are orthonormal."""

    basis: torch.Tensor

    def __init__(self, basis: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("basis", basis)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(r, d_in) -> (r, d_in)."""
        with torch.autocast(weight.device.type, enabled=False):  # rounding would leave a part in the subspace
            return weight - weight @ self.basis @ self.basis.T

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Of a parameter already confined, itself."""
        return weight


class ColumnsOff(RowsOff):
    """(I - U U^T) B: columns orthogonal to the columns of U (d_out, k)."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(d_out, r) -> (d_out, r)."""
        return super().forward(weight.T).T


class ColumnsWithin(RowsOff):
    """U M with M (k, r) trained: columns in the span of the columns of U (d_out, k)."""

    def forward(self, core: torch.Tensor) -> torch.Tensor:
        """(k, r) -> (d_out, r)."""
        with torch.autocast(core.device.type, enabled=False):
            within: torch.Tensor = self.basis @ core
            return within

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """M of a factor within the span."""
        core: torch.Tensor = self.basis.T @ weight
        return core


def constrain(model: InjectableModel, side: str, kind: type[RowsOff], bases: Tensors, ending: str) -> None:
    """Confine a factor of every layer.

    Args:
        model: With an adapter attached.
        side: ``lora_A`` or ``lora_B``.
        kind: The constraint.
        bases: Orthonormal columns.
        ending: What their names have after the layer's.
    """
    for name, layer in lora_layers(model.module):
        factor = cast("torch.nn.Linear", getattr(layer, side)[TRAINED])
        parametrize.register_parametrization(factor, "weight", kind(bases[name + ending].to(factor.weight)))


@contextmanager
def _unconstrained(model: InjectableModel) -> Iterator[None]:
    """Take the constraints off, then put the same ones on again."""
    removed = []
    for _, layer in lora_layers(model.module):
        factors: tuple[Any, Any] = layer.lora_A[TRAINED], layer.lora_B[TRAINED]
        for factor in factors:
            if parametrize.is_parametrized(factor):
                removed.append((factor, factor.parametrizations.weight[0]))
                parametrize.remove_parametrizations(factor, "weight")
    try:
        yield
    finally:
        for factor, constraint in removed:
            parametrize.register_parametrization(factor, "weight", constraint)


def load_constrained(model: InjectableModel, tensors: Tensors) -> None:
    """Copy an export, whose factors are confined already, into the attached adapter.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    with _unconstrained(model):
        load_adapter(model, tensors)
