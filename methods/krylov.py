"""The eigenvectors with the smallest eigenvalues of a large matrix, without decomposing all of it.

Source: Golub and Van Loan, "Matrix Computations", 4th edition, sections 10.1 and 10.3 (block Lanczos on the inverse,
here with full orthogonalisation, for blocks are few).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

TOLERANCE = 1e-4
"""The search ends when one more block lowers the energy of the directions by less than this part of it."""
LARGEST = 1 / 3
"""Part of all dimensions beyond which a full decomposition is cheaper."""
SMALLEST_SHIFT = 1e-15
"""Part of the trace that is added at least, so that a singular matrix can be inverted."""

Solve = Callable[[torch.Tensor], torch.Tensor]


def bottom_by_krylov(matrix: torch.Tensor, rank: int, noise: float = 0.0) -> torch.Tensor | None:
    """The ``rank`` directions that hold the least energy, from a block Krylov space of the inverse.

    The matrix is factorised once; then blocks of directions are added until the energy of the best ones has settled.
    Deterministic: the first block is fixed.

    Args:
        matrix: C (d, d) float64, symmetric, positive semidefinite up to rounding.
        rank: r, small beside d.
        noise: Part of the trace below which the energy of one direction means nothing.

    Returns:
        (d, r) float64, orthonormal columns, least energy first; None where this way would be the longer one.
    """
    size, energy, width = matrix.shape[0], float(matrix.trace()), max(16, rank)
    solve = _inverse(matrix, energy, max(noise, SMALLEST_SHIFT))
    if solve is None:
        return None
    drawn = torch.randn(size, width, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0))
    space = torch.linalg.qr(drawn.to(matrix.device))[0]
    images = solve(space)
    before = float("inf")
    while space.shape[1] + width <= LARGEST * size:
        block = images[:, -width:]
        for _ in range(2):  # once leaves what cancellation has blurred
            block = torch.linalg.qr(block - space @ (space.T @ block))[0]
        space, images = torch.cat([space, block], dim=1), torch.cat([images, solve(block)], dim=1)
        seen = space.T @ images
        inverse, vectors = torch.linalg.eigh((seen + seen.T) / 2)
        held = float(inverse[-rank:].reciprocal().sum())
        if before - held <= TOLERANCE * held + rank * noise * energy:
            return _least_first(matrix, images @ vectors[:, -rank:])  # the images hold less of the large directions
        before = held
    return None


def _least_first(matrix: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the directions by their energy."""
    basis = torch.linalg.qr(directions)[0]
    seen = basis.T @ (matrix @ basis)
    found: torch.Tensor = basis @ torch.linalg.eigh((seen + seen.T) / 2)[1]
    return found


def _inverse(matrix: torch.Tensor, energy: float, noise: float) -> Solve | None:
    """Multiplication by the inverse of the matrix, raised well above the noise."""
    eye = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    for times in (10, 1000):
        solve = _solver(matrix + times * noise * energy * eye)
        if solve is not None:
            return solve
    return None


def _solver(matrix: torch.Tensor) -> Solve | None:
    """Multiplication by the inverse of a positive definite matrix; None of any other."""
    if matrix.device.type == "cpu":
        from scipy.linalg import LinAlgError, cho_factor, cho_solve  # torch would copy the factor at each use

        try:
            factor = cho_factor(matrix.numpy(), lower=True, check_finite=False)
        except LinAlgError:
            return None
        return lambda block: torch.from_numpy(cho_solve(factor, block.numpy(), check_finite=False))
    root, failed = torch.linalg.cholesky_ex(matrix)
    return None if int(failed) else lambda block: torch.cholesky_solve(block, root)
