"""RegLoRA: the weight entries that earlier stages changed most, and a penalty on changing them again.

Source: SEFE, arXiv 2505.02486, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

MaskedLayer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""A (r, d_in), B (d_out, r) and the flat indices (n,) int32 of the penalised entries of B A."""


def top_entries(b: torch.Tensor, a: torch.Tensor, share: float) -> torch.Tensor:
    """Flat indices of the largest int(share x size) entries of |B A|, int32 (2 % of 4,096 x 11,008 are 3.6 MB).

    Args:
        b: B (d_out, r).
        a: A (r, d_in).
        share: Share of the entries, in [0, 1].
    """
    with torch.no_grad(), torch.autocast(b.device.type, enabled=False):
        return largest_entries(b @ a, share)


def largest_entries(change: torch.Tensor, share: float) -> torch.Tensor:
    """Flat indices of the largest int(share x size) absolute entries of a matrix, int32, in ascending order."""
    sizes = change.abs().flatten()
    return sizes.topk(int(share * sizes.numel())).indices.sort().values.int()


class MaskedNorm:
    """Mean over layers of the mean |(B A)_ij| over the penalised entries.

    B A is as large as the layer, so it is formed only when A or B have changed, one layer at a time; the other
    micro-batches of an optimiser step reuse value and gradient.

    Args:
        layers: One entry for each layer. An index that several stages marked is listed, and counts, more than once.
    """

    def __init__(self, layers: Sequence[MaskedLayer]) -> None:
        self._layers = list(layers)
        self._formed_at: torch.Tensor | None = None
        self._value = torch.zeros(())
        self._gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.formed = 0
        """How many times B A was formed."""

    def __call__(self) -> torch.Tensor:
        """The norm, with its gradient in every A and B."""
        # Fused optimisers do not increment a tensor's version, so a change must be detected by the values.
        sums = torch.stack([factor.detach().sum(dtype=torch.float64) for a, b, _ in self._layers for factor in (a, b)])
        if self._formed_at is None or not torch.equal(sums, self._formed_at):
            self._form()
            self._formed_at = sums
        norm = self._value
        for (a, b, _), gradients in zip(self._layers, self._gradients, strict=True):
            for factor, gradient in zip((a, b), gradients, strict=True):
                norm = norm + ((factor - factor.detach()) * gradient).sum()  # adds 0 and the gradient
        return norm

    def _form(self) -> None:
        self._gradients, values = [], []
        for *factors, indices in self._layers:
            a, b = (factor.detach().requires_grad_() for factor in factors)
            with torch.enable_grad(), torch.autocast(a.device.type, enabled=False):
                value = (b @ a).flatten().index_select(0, indices).abs().mean() / len(self._layers)
            by_a, by_b = torch.autograd.grad(value, (a, b))
            self._gradients.append((by_a, by_b))
            values.append(value.detach())
        self._value = torch.stack(values).sum()
        self.formed += 1
