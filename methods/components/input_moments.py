"""Sums of x x^T over the inputs of one decoder layer's linear layers, collected by forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from methods.components.base_weights import weight_dtype

Norm = Literal["token-mean", "official"]
CHUNK = 4096
"""Number of tokens whose activations are converted to float32 at a time."""
BLOCK = 2048
"""Number of rows and columns that are mirrored at a time."""


class InputMoments:
    """Sums of x x^T over the distinct inputs of one decoder layer's linear layers.

    Args:
        norm: How tokens are weighted.
    """

    mask: torch.Tensor
    """(rows, tokens) bool of the current batch."""

    def __init__(self, norm: Norm) -> None:
        self._norm = norm
        self._last_input, self._last_name = torch.empty(0), ""
        self.totals: dict[str, torch.Tensor] = {}
        """Sum of each distinct input, by the name of the first layer that reads it; the lower triangle counts."""
        self._readers: dict[str, list[str]] = {}

    def pop(self) -> tuple[tuple[str, ...], torch.Tensor]:
        """Remove the first sum; return the names of the layers that read its input, and the sum, made symmetric."""
        name = next(iter(self.totals))
        total = self.totals.pop(name)
        symmetrize_(total)
        return tuple(self._readers[name]), total

    @contextmanager
    def collecting(self, linears: dict[str, torch.nn.Linear]) -> Iterator[None]:
        """Add the inputs of these layers to the sums during forward passes."""
        handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in linears.items()]
        try:
            yield
        finally:
            self._last_input = torch.empty(0)
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[[torch.nn.Linear, tuple[Any, ...]], None]:
        def hook(layer: torch.nn.Linear, inputs: tuple[Any, ...]) -> None:
            if inputs[0] is self._last_input:  # layers that share an input run one after the other
                if name not in self._readers[self._last_name]:
                    self._readers[self._last_name].append(name)
                return
            self._last_input, self._last_name = inputs[0], name
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
    """Add x^T x, for x (tokens, d_in), to ``total``, at least to its lower triangle."""
    if total.device.type != "cpu":
        total.addmm_(x.T, x)
        return
    from scipy.linalg.blas import dsyrk, ssyrk  # half the work of a product that ignores the symmetry

    update = ssyrk if total.dtype == torch.float32 else dsyrk
    # The transposed views are in Fortran order, so nothing is copied; the upper triangle there is the lower one here.
    update(1.0, x.numpy().T, beta=1.0, c=total.numpy().T, overwrite_c=1)


def symmetrize_(total: torch.Tensor) -> None:
    """Copy the lower triangle of a matrix (d, d) to the upper one, in place and block by block to save memory."""
    for start in range(0, len(total), BLOCK):
        stop = min(start + BLOCK, len(total))
        corner = total[start:stop, start:stop]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        total[start:stop, stop:] = total[stop:, start:stop].T


def _zeros(layer: torch.nn.Linear) -> torch.Tensor:
    dtype = torch.promote_types(weight_dtype(layer), torch.float32)
    return torch.zeros(layer.in_features, layer.in_features, dtype=dtype, device=layer.weight.device)
