"""The mathematics of KORE's constraint, without a model.

C is the second moment of a layer's inputs, (d_in, d_in). The null space is spanned by the r eigenvectors of C with the
smallest eigenvalues. The layer's weight W0 (d_out, d_in), projected onto it, is factored as W0 P = B A. A keeps the
directions in the null space that the layer reads most strongly, and A C is nearly 0.

Source: KORE, arXiv 2510.19316v2, section 3.3, and LoRA-Null, AAAI 2026.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from benchmarks.errors import UserError
from methods.components.krylov import blockwise_matmul, bottom_by_krylov, symmetrized_copy

MIN_RATIO = 1e-6
"""Ratio of singular values below which a row of A is too small for its direction to be trained."""
LARGE = 2048
"""Number of dimensions from which a Krylov space is faster than a full decomposition."""


def bottom_eigenvectors(covariance: torch.Tensor, rank: int, device: torch.device | None = None) -> torch.Tensor:
    """The ``rank`` directions with the least energy, least first.

    Args:
        covariance: C (d_in, d_in), symmetric up to rounding.
        rank: r, at most d_in.
        device: Where to compute; default: where the covariance is.

    Returns:
        (d_in, r) float64, orthonormal columns.

    Raises:
        UserError: The rank exceeds d_in.
    """
    size = covariance.shape[0]
    _check_rank(rank, size)
    if size >= LARGE:
        directions = bottom_by_krylov(covariance, rank, 0.01 * torch.finfo(covariance.dtype).eps, device)
        if directions is not None:
            return directions
    symmetric = symmetrized_copy(covariance, device).mT  # in Fortran order, so that both solvers work in place
    if symmetric.device.type == "cpu":
        from scipy.linalg import eigh  # computes only this end of the spectrum, in a third of the time

        return torch.from_numpy(eigh(symmetric.numpy(), subset_by_index=(0, rank - 1), overwrite_a=True)[1])
    return eigenvectors_in_place(symmetric)[:, :rank].clone()  # ascending: the first columns are the smallest


def near_null_space(
    covariance: torch.Tensor, rank: int, energy: float, device: torch.device | None = None
) -> torch.Tensor:
    """The directions with the least energy that together hold at most this share of it, and at least ``rank``.

    Args:
        covariance: C (d_in, d_in), symmetric up to rounding.
        rank: Smallest number of directions, at most d_in.
        energy: Share of the trace in [0, 1).
        device: Where to compute; default: where the covariance is.

    Returns:
        (d_in, k) float64, orthonormal columns, least energy first, with k of at least ``rank``.

    Raises:
        UserError: The rank exceeds d_in.
    """
    if energy == 0:
        return bottom_eigenvectors(covariance, rank, device)
    _check_rank(rank, covariance.shape[0])
    values, vectors = torch.linalg.eigh(symmetrized_copy(covariance, device))
    held = values.clamp_min(0).cumsum(0)
    chosen: torch.Tensor = vectors[:, : max(rank, int((held <= energy * held[-1]).sum()))]
    return chosen


def flatness(covariance: torch.Tensor) -> float:
    """(tr C)^2 / (d tr C^2) in [1 / d, 1]: the participation ratio of the spectrum of C (d, d), over d.

    1 if all directions hold equal energy, 1 / d if one holds it all; the null space is then large. It needs no
    eigenvalues, since tr C^2 is the sum of the squared entries.
    """
    trace = float(covariance.diagonal().double().sum())
    squares = float(torch.linalg.vector_norm(covariance, dtype=torch.float64)) ** 2
    return trace**2 / (covariance.shape[0] * squares)


def _check_rank(rank: int, size: int) -> None:
    if not 1 <= rank <= size:
        raise UserError(f"rank {rank} of {size} dimensions", location="rank", hint="choose a smaller rank")


def eigenvectors_in_place(symmetric: torch.Tensor) -> torch.Tensor:
    """All eigenvectors of a matrix (d, d) in Fortran order, least eigenvalue first, stored in the matrix's memory."""
    values = torch.empty(len(symmetric), dtype=symmetric.dtype, device=symmetric.device)
    torch.linalg.eigh(symmetric, out=(values, symmetric))
    return symmetric


def top_eigenvectors(covariance: torch.Tensor, rank: int, device: torch.device | None = None) -> torch.Tensor:
    """The ``rank`` directions with the most energy: (d_in, r) float64. The opposite of KORE, as a control."""
    return eigenvectors_in_place(symmetrized_copy(covariance, device).mT)[:, -rank:].flip(1)


def random_basis(dimension: int, rank: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal (dimension, rank) float64, uniformly distributed up to sign."""
    basis: torch.Tensor = torch.linalg.qr(torch.randn(dimension, rank, dtype=torch.float64, generator=generator))[0]
    return basis


def projected_svd(
    weight: torch.Tensor, basis: torch.Tensor, rank: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The r largest singular values of W0 P with P = U U^T and their vectors, without forming P.

    W0 U = Q R and R = U' S V'^T give W0 P = (Q U') S (U V')^T: a thin QR and one k x k decomposition. A layer with
    fewer than r outputs (the gates of linear attention) has as many singular values as outputs. The others are zero:
    their columns of U* are zero, and their rows of V*^T are further directions of the basis.

    Args:
        weight: W0 (d_out, d_in).
        basis: U (d_in, k), orthonormal columns.
        rank: r, at most k [default: k, so that nothing of W0 P is left out].

    Returns:
        U* (d_out, r), S* (r,) in descending order, V*^T (r, d_in), all float64.

    Raises:
        UserError: W0 barely reads some direction of the basis, which could then never be trained.
    """
    rank = basis.shape[1] if rank is None else rank
    found = min(rank, weight.shape[0])
    q, r = torch.linalg.qr(weight.double() @ basis)
    left, values, right = torch.linalg.svd(r, full_matrices=found < rank)
    left, values, right = left[:, :found], values[:found], right[:rank]
    if not float(values[-1]) > MIN_RATIO * float(values[0]):
        raise UserError(
            f"the projected weight has singular values from {float(values[0]):.1e} to {float(values[-1]):.1e}",
            location="null space",
            hint="choose a smaller rank",
        )
    missing = (0, rank - found)
    return pad(q @ left, missing), pad(values, missing), right @ basis.T


def balanced_factors(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """B = U* sqrt(S*) (d_out, r) and A = sqrt(S*) V*^T (r, d_in), so that B^T B = A A^T = S*."""
    root = s.sqrt()
    return u * root, root[:, None] * vt


def project_rows_(a: torch.Tensor, basis: torch.Tensor) -> None:
    """Project the rows of A (r, d_in) in place onto the span of U (d_in, k), orthonormal columns: A <- A U U^T."""
    a.copy_(a @ basis @ basis.T)


def energy_share(covariance: torch.Tensor, basis: torch.Tensor) -> float:
    """Leaked energy tr(U^T C U) / tr C in [0, 1]: how far the basis is from a true null space."""
    return float((basis * blockwise_matmul(covariance, basis)).sum()) / float(covariance.diagonal().double().sum())
