"""From covariances to the factors that KORE starts with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import dense_weight, stored_factor
from methods.components.covariance import InputCovariance
from methods.components.lora_layers import seeded_generator, target_layers
from methods.components.null_space import (
    balanced_factors,
    energy_share,
    flatness,
    near_null_space,
    projected_svd,
    random_basis,
    top_eigenvectors,
)
from methods.targets import choose_by_spectrum

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

VERSION = 2
"""Part of the key under which A is cached; raise it when the mathematics changes."""
Subspace = Literal["null", "random", "top"]


def initial_factors(
    model: InjectableModel,
    inputs: Iterable[InputCovariance],
    rank: int,
    subspace: Subspace = "null",
    seed: int = 0,
    *,
    with_b: bool = True,
    with_basis: bool = False,
    null_energy: float = 0.0,
    with_flatness: bool = False,
) -> Tensors:
    """A and B of every layer whose input is given, and how much of the old inputs' energy A still reads.

    The controls differ from KORE in directions alone: A keeps the singular values of the null space, and so its norm,
    but reads a random subspace or the one in which old inputs are strongest.

    Args:
        model: The untouched model.
        inputs: The covariances; each is released before the next is requested.
        rank: r of every layer.
        subspace: What A reads.
        seed: Seed of the random subspace.
        with_b: Whether to return B as well as A.
        with_basis: Whether to return the subspace as well.
        null_energy: Share of energy up to which the null space is larger than the rank; A reads the top of W0 in it.
        with_flatness: Whether to return the flatness of each spectrum.

    Returns:
        ``<layer>.A`` (rank, d_in) and, if requested, ``<layer>.B`` (d_out, rank) and ``<layer>.basis`` (d_in, k),
        orthonormal columns whose span contains the rows of A, in float32 or wider, on the CPU; ``<layer>.leaked`` and,
        if requested, ``<layer>.flatness``, float64 scalars.

    Raises:
        UserError: The rank is too large for some layer.
    """
    layers = target_layers(model)
    tensors: Tensors = {}
    for part in inputs:
        device = layers[part.layers[0]].weight.device
        null = near_null_space(part.covariance, rank, null_energy, device)
        basis = null if subspace == "null" else _control_basis(part, rank, subspace, seed, device)
        leaked, wide = energy_share(part.covariance, basis), basis.shape[1] > rank
        for name in part.layers:
            weight = dense_weight(layers[name])
            with _named(name):
                u, s, vt = projected_svd(weight, null, rank)
                if subspace != "null":
                    u, _, vt = projected_svd(weight, basis)
            b, a = balanced_factors(u, s, vt)
            tensors[f"{name}.A"] = stored_factor(a, weight)
            tensors[f"{name}.leaked"] = _scalar(energy_share(part.covariance, vt.T) if wide else leaked)
            if with_flatness:
                tensors[f"{name}.flatness"] = _scalar(flatness(part.covariance))
            if with_b:
                tensors[f"{name}.B"] = stored_factor(b, weight)
            if with_basis:
                tensors[f"{name}.basis"] = stored_factor(basis, weight)
        del part  # before the next one is computed
    return tensors


def keep_by_spectrum(factors: Tensors, rule: str) -> Tensors:
    """The factors of the layers that a rule over the spectra of their inputs chooses, without the flatness."""
    end = ".flatness"
    spectra = {name.removesuffix(end): float(value) for name, value in factors.items() if name.endswith(end)}
    chosen = frozenset(choose_by_spectrum(spectra, rule))
    return {
        name: value for name, value in factors.items() if name.rpartition(".")[0] in chosen and not name.endswith(end)
    }


@contextmanager
def _named(layer: str) -> Iterator[None]:
    """Say of which layer an error is."""
    try:
        yield
    except UserError as error:
        raise UserError(error.message, location=f"{layer}, {error.location}", hint=error.hint) from error


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _control_basis(
    part: InputCovariance, rank: int, subspace: Subspace, seed: int, device: torch.device
) -> torch.Tensor:
    if subspace == "top":
        return top_eigenvectors(part.covariance, rank, device)
    generator = seeded_generator(f"{part.layers[0]}/random subspace", seed)
    return random_basis(part.covariance.shape[0], rank, generator).to(device)
