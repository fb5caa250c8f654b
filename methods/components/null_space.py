"""The mathematics of KORE's constraint, free of models.

C is the second moment of a layer's inputs, (d_in, d_in). The null space is spanned by the r eigenvectors of C with the
smallest eigenvalues. The layer's weight W0 (d_out, d_in), projected on it, is split as W0 P = B A; A keeps the layer's
own strongest ways of reading those directions, and A C is nearly 0.

Source: KORE, arXiv 2510.19316v2, section 3.3, and LoRA-Null, AAAI 2026.
"""

from __future__ import annotations

import torch

from benchmarks.errors import UserError
from methods.components.krylov import bottom_by_krylov, product, symmetrised

SMALLEST_RATIO = 1e-6
"""Below this ratio of singular values a row of A is too small for its direction to be trained."""
LARGE = 2048
"""Dimensions from which on a Krylov space is faster than a full decomposition."""


def bottom_eigenvectors(covariance: torch.Tensor, rank: int, device: torch.device | None = None) -> torch.Tensor:
    """The ``rank`` directions that hold the least energy, least first.

    Args:
        covariance: C (d_in, d_in), symmetric up to rounding.
        rank: r, at most d_in.
        device: Where to compute; where the covariance is, when left out.

    Returns:
        (d_in, r) float64, orthonormal columns.

    Raises:
        UserError: The rank exceeds d_in.
    """
    size = covariance.shape[0]
    if not 1 <= rank <= size:
        raise UserError(f"rank {rank} of {size} dimensions", location="rank", hint="choose a smaller rank")
    if size >= LARGE:
        found = bottom_by_krylov(covariance, rank, 0.01 * torch.finfo(covariance.dtype).eps, device)
        if found is not None:
            return found
    symmetric = symmetrised(covariance, device).mT  # in Fortran's order, so that both solvers work in place
    if symmetric.device.type == "cpu":
        from scipy.linalg import eigh  # finds the wanted end of the spectrum alone, in about a third of the time

        return torch.from_numpy(eigh(symmetric.numpy(), subset_by_index=(0, rank - 1), overwrite_a=True)[1])
    return eigenvectors_in_place(symmetric)[:, :rank].clone()  # ascending: the first columns are the smallest


def eigenvectors_in_place(symmetric: torch.Tensor) -> torch.Tensor:
    """All eigenvectors of a matrix (d, d) in Fortran's order, least eigenvalue first, in the matrix's own place."""
    values = torch.empty(len(symmetric), dtype=symmetric.dtype, device=symmetric.device)
    torch.linalg.eigh(symmetric, out=(values, symmetric))
    return symmetric


def top_eigenvectors(covariance: torch.Tensor, rank: int, device: torch.device | None = None) -> torch.Tensor:
    """The ``rank`` directions that hold the most energy: (d_in, r) float64. The opposite of KORE, as a control."""
    return eigenvectors_in_place(symmetrised(covariance, device).mT)[:, -rank:].flip(1)


def random_basis(dimension: int, rank: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal (dimension, rank) float64, uniformly distributed up to sign."""
    basis: torch.Tensor = torch.linalg.qr(torch.randn(dimension, rank, dtype=torch.float64, generator=generator))[0]
    return basis


def projected_factors(weight: torch.Tensor, basis: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular value decomposition of W0 P with P = U U^T, without ever forming P.

    W0 U = Q R and R = U' S V'^T give W0 P = (Q U') S (U V')^T: a thin QR and one r x r decomposition.

    Args:
        weight: W0 (d_out, d_in).
        basis: U (d_in, r), orthonormal columns.

    Returns:
        U* (d_out, r), S* (r,) in descending order, V*^T (r, d_in), all float64.

    Raises:
        UserError: The layer has fewer than r outputs, or W0 barely reads the basis, so that some direction of it could
            never be trained.
    """
    rank = basis.shape[1]
    if weight.shape[0] < rank:
        raise UserError(
            f"rank {rank} but only {weight.shape[0]} outputs", location="rank", hint="choose a smaller rank"
        )
    q, r = torch.linalg.qr(weight.double() @ basis)
    left, values, right = torch.linalg.svd(r)
    if not float(values[-1]) > SMALLEST_RATIO * float(values[0]):
        raise UserError(
            f"the projected weight has singular values from {float(values[0]):.1e} to {float(values[-1]):.1e}",
            location="null space",
            hint="choose a smaller rank",
        )
    return q @ left, values, right @ basis.T


def balanced(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """B = U* sqrt(S*) (d_out, r) and A = sqrt(S*) V*^T (r, d_in), so that B^T B = A A^T = S*."""
    root = s.sqrt()
    return u * root, root[:, None] * vt


def energy_share(covariance: torch.Tensor, basis: torch.Tensor) -> float:
    """Leaked energy tr(U^T C U) / tr C in [0, 1]: how far the basis is from a true null space."""
    return float((basis * product(covariance, basis)).sum()) / float(covariance.diagonal().double().sum())
