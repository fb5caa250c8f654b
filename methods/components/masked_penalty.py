"""RegLoRA: the largest entries of what earlier stages learnt, and a penalty on changing them again.

Source: SEFE, arXiv 2505.02486, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Held = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""A (r, d_in), B (d_out, r) and the flat places (n,) int32 in B A that are held."""


def top_entries(up: torch.Tensor, down: torch.Tensor, share: float) -> torch.Tensor:
    """Flat places of the largest int(share x size) entries of |B A|, int32 (2 % of 4,096 x 11,008 are 3.6 MB).

    Args:
        up: B (d_out, r).
        down: A (r, d_in).
        share: Of the entries, in [0, 1].
    """
    with torch.no_grad(), torch.autocast(up.device.type, enabled=False):
        change = (up @ down).abs().flatten()
        return change.topk(int(share * change.numel())).indices.sort().values.int()


class MaskedNorm:
    """Mean over layers of the mean |(B A)_ij| over the places that are held.

    B A is as large as the layer, so it is formed, one layer at a time, only when A or B have changed since: the other
    micro-batches of an optimiser step get the same value and gradient from what was kept.

    Args:
        held: One entry for each layer. A place that several stages marked may be listed more than once, and counts so.
    """

    def __init__(self, held: Sequence[Held]) -> None:
        self._held = list(held)
        self._formed_at: torch.Tensor | None = None
        self._value = torch.zeros(())
        self._gradients: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.formed = 0
        """How often B A was formed."""

    def __call__(self) -> torch.Tensor:
        """The norm, with its gradient by every A and B."""
        # The fused optimisers do not count up a tensor's version, so the values themselves must tell.
        sums = [factor.detach().sum(dtype=torch.float64) for down, up, _ in self._held for factor in (down, up)]
        now = torch.stack(sums)
        if self._formed_at is None or not torch.equal(now, self._formed_at):
            self._form()
            self._formed_at = now
        norm = self._value
        for (down, up, _), gradients in zip(self._held, self._gradients, strict=True):
            for factor, gradient in zip((down, up), gradients, strict=True):
                norm = norm + ((factor - factor.detach()) * gradient).sum()  # adds 0, and the gradient
        return norm

    def _form(self) -> None:
        self._gradients, values = [], []
        for down, up, places in self._held:
            a, b = (factor.detach().requires_grad_() for factor in (down, up))
            with torch.enable_grad(), torch.autocast(a.device.type, enabled=False):
                value = (b @ a).flatten().index_select(0, places).abs().mean() / len(self._held)
            by_a, by_b = torch.autograd.grad(value, (a, b))
            self._gradients.append((by_a, by_b))
            values.append(value.detach())
        self._value = torch.stack(values).sum()
        self.formed += 1
