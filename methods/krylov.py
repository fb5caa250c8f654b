"""The eigenvectors with the smallest eigenvalues of a large matrix, without decomposing all of it.

Source: Golub and Van Loan, "Matrix Computations", 4th edition, sections 10.1 and 10.3 (block Lanczos with shift and
inversion, here with full orthogonalisation, for blocks are few).
"""

from __future__ import annotations

import torch

TOLERANCE = 1e-4
"""The search ends when one more block lowers the energy of the directions by less than this part of it."""
LARGEST = 1 / 3
"""Part of all dimensions beyond which a full decomposition is cheaper."""
SHIFTS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)
"""Parts of the trace that are added to a singular matrix, the first that suffices."""


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
    size, energy = matrix.shape[0], float(matrix.trace())
    width = max(16, (rank + 1) // 2)
    factor = _factorised(matrix, energy)
    if factor is None:
        return None
    drawn = torch.randn(size, width, dtype=matrix.dtype, generator=torch.Generator().manual_seed(0))
    block = torch.linalg.qr(drawn.to(matrix.device))[0]
    space, images, before = block, matrix @ block, float("inf")
    while space.shape[1] + width <= LARGEST * size:
        block = torch.cholesky_solve(block, factor)
        for _ in range(2):  # once leaves what cancellation has blurred
            block = torch.linalg.qr(block - space @ (space.T @ block))[0]
        space, images = torch.cat([space, block], dim=1), torch.cat([images, matrix @ block], dim=1)
        if space.shape[1] < 2 * rank:
            continue
        seen = space.T @ images
        values, vectors = torch.linalg.eigh((seen + seen.T) / 2)
        held = float(values[:rank].sum())
        if before - held <= TOLERANCE * abs(held) + rank * noise * energy:
            found: torch.Tensor = space @ vectors[:, :rank]
            return found
        before = held
    return None


def _factorised(matrix: torch.Tensor, energy: float) -> torch.Tensor | None:
    """Cholesky factor of the matrix, raised by as little as makes it positive definite."""
    eye = torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)
    for shift in SHIFTS:
        factor, failed = torch.linalg.cholesky_ex(matrix + shift * energy * eye)
        if not int(failed):
            made: torch.Tensor = factor
            return made
    return None
