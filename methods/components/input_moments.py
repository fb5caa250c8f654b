"""Sums of x x^T over what flows into the linear layers of one decoder layer, gathered by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Norm = Literal["token-mean", "official"]
CHUNK = 4096
"""Tokens whose activations are widened to float32 at once."""
BLOCK = 2048
"""Rows and columns that are mirrored at once."""


class InputMoments:
    """Sums of x x^T over the distinct inputs of one decoder layer's linear layers.

    Args:
        norm: How tokens are weighed.
    """

    mask: torch.Tensor
    """(rows, tokens) bool of the batch that runs."""

    def __init__(self, norm: Norm) -> None:
        self._norm = norm
        self._last, self._head = torch.empty(0), ""
        self.totals: dict[str, torch.Tensor] = {}
        self._readers: dict[str, list[str]] = {}

    def take(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """The first of what is left: the names of the layers that read one input, and its whole sum."""
        head = next(iter(self.totals))
        total = self.totals.pop(head)
        symmetrize_(total)
        return tuple(self._readers[head]), total

    @contextmanager
    def fed_by(self, linears: dict[str, torch.nn.Linear]) -> Iterator[None]:
        """Add up what the linear layers are given, for the duration."""
        handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in linears.items()]
        try:
            yield
        finally:
            self._last = torch.empty(0)
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[[torch.nn.Linear, tuple[Any, ...]], None]:
        def hook(layer: torch.nn.Linear, inputs: tuple[Any, ...]) -> None:
            if inputs[0] is self._last:  # layers that share an input run one after the other
                if name not in self._readers[self._head]:
                    self._readers[self._head].append(name)
                return
            self._last, self._head = inputs[0], name
            if name not in self.totals:
                self.totals[name], self._readers[name] = _zeros(layer), [name]
            self._add(self.totals[name], inputs[0])

        return hook

    def _add(self, total: torch.Tensor, x: torch.Tensor) -> None:
        places = self.mask.flatten().nonzero().squeeze(-1)
        largest = torch.ones(len(x), dtype=total.dtype, device=x.device)
        if self._norm == "official":
            largest = x.masked_fill(~self.mask[..., None], -torch.inf).amax((1, 2)).to(total.dtype).abs()
        flat, width = x.flatten(0, 1), x.shape[1]
        for part in torch.split(places, CHUNK):
            tokens = flat[part].to(total.dtype)
            if self._norm == "official":
                tokens /= largest[part // width, None]
            _add_products(total, tokens)


def _add_products(total: torch.Tensor, x: torch.Tensor) -> None:
    """Add x^T x, for x (tokens, d_in), to the lower triangle of ``total`` at least."""
    if total.device.type != "cpu":
        total.addmm_(x.T, x)
        return
    from scipy.linalg.blas import dsyrk, ssyrk  # half the work of a product that does not know of its symmetry

    update = ssyrk if total.dtype == torch.float32 else dsyrk
    # The transposed views are in Fortran's order, so that nothing is copied; its upper triangle is our lower one.
    update(1.0, x.numpy().T, beta=1.0, c=total.numpy().T, overwrite_c=1)


def symmetrize_(total: torch.Tensor) -> None:
    """Make a matrix (d, d) symmetric by its lower triangle, in place and with little memory beside it."""
    for start in range(0, len(total), BLOCK):
        stop = min(start + BLOCK, len(total))
        corner = total[start:stop, start:stop]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        total[start:stop, stop:] = total[stop:, start:stop].T


def _zeros(layer: torch.nn.Linear) -> torch.Tensor:
    weight = layer.weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return torch.zeros(layer.in_features, layer.in_features, dtype=dtype, device=weight.device)
