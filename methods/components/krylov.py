"""The eigenvectors with the smallest eigenvalues of a large matrix, without decomposing all of it.

Source: Golub and Van Loan, "Matrix Computations", 4th edition, sections 10.1 and 10.3 (block Lanczos on the inverse,
here with full orthogonalisation, since there are few blocks).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

TOLERANCE = 1e-4
"""The search ends when another block lowers the energy of the directions by less than this share of it."""
MAX_SHARE = 1 / 3
"""Share of all dimensions beyond which a full decomposition is cheaper."""
MIN_SHIFT = 1e-15
"""Minimum share of the trace that is added, so that a singular matrix can be inverted."""
ROWS = 2048
"""Number of a matrix's rows that are converted to float64 at a time."""

Solve = Callable[[torch.Tensor], torch.Tensor]


def bottom_by_krylov(
    matrix: torch.Tensor, rank: int, noise: float = 0.0, device: torch.device | None = None
) -> torch.Tensor | None:
    """The ``rank`` directions that hold the least energy, from a block Krylov space of the inverse.

    The matrix is factorised once; then blocks of directions are added until the energy of the best ones has converged.
    Deterministic: the first block is fixed. A second matrix of the same size is needed, in float64.

    Args:
        matrix: C (d, d), symmetric up to rounding, positive semidefinite up to rounding.
        rank: r, small beside d.
        noise: Share of the trace below which the energy of a direction is numerical noise.
        device: Where to compute; default: where the matrix is.

    Returns:
        (d, r) float64, orthonormal columns, least energy first; None if a full decomposition would be cheaper.
    """
    size, energy, width = matrix.shape[0], float(matrix.diagonal().double().sum()), max(16, rank)
    device = matrix.device if device is None else device
    solve = _inverse(matrix, energy, max(noise, MIN_SHIFT), device)
    if solve is None:
        return None
    start = torch.randn(size, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    space = torch.linalg.qr(start.to(device))[0]
    images = solve(space)
    before = float("inf")
    while space.shape[1] + width <= MAX_SHARE * size:
        block = images[:, -width:]
        for _ in range(2):  # cancellation spoils the first orthogonalisation
            block = torch.linalg.qr(block - space @ (space.T @ block))[0]
        space, images = torch.cat([space, block], dim=1), torch.cat([images, solve(block)], dim=1)
        projected = space.T @ images
        inverse, vectors = torch.linalg.eigh((projected + projected.T) / 2)
        current = float(inverse[-rank:].reciprocal().sum())
        if before - current <= TOLERANCE * current + rank * noise * energy:
            return _least_first(matrix, images @ vectors[:, -rank:])  # the images contain less of large directions
        before = current
    return None


def symmetrized_copy(matrix: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """A float64 copy (d, d) without the asymmetry left by rounding, made row block by row block to save memory."""
    exact = matrix.to(device, torch.float64, copy=True)
    for start in range(0, len(exact), ROWS):
        stop = start + ROWS
        corner, right, below = exact[start:stop, start:stop], exact[start:stop, stop:], exact[stop:, start:stop]
        corner.copy_((corner + corner.T) / 2)
        right.add_(below.T).div_(2)
        below.copy_(right.T)
    return exact


def blockwise_matmul(matrix: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """C X in the data type and on the device of X (d, n), without a full copy of C there."""
    return torch.cat([rows.to(block) @ block for rows in torch.split(matrix, ROWS)])


def _least_first(matrix: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the directions, sorted by energy."""
    basis = torch.linalg.qr(directions)[0]
    projected = basis.T @ blockwise_matmul(matrix, basis)
    rotated: torch.Tensor = basis @ torch.linalg.eigh((projected + projected.T) / 2)[1]
    return rotated


def _inverse(matrix: torch.Tensor, energy: float, noise: float, device: torch.device) -> Solve | None:
    """Multiplication by the inverse of the matrix, with its eigenvalues shifted well above the noise."""
    for factor in (10, 1000):
        shifted = symmetrized_copy(matrix, device)
        shifted.diagonal().add_(factor * noise * energy)
        solve = _solver(shifted)
        del shifted  # before the next one is made
        if solve is not None:
            return solve
    return None


def _solver(matrix: torch.Tensor) -> Solve | None:
    """Multiplication by the inverse of a positive definite matrix, which is overwritten; None for any other matrix."""
    if matrix.device.type == "cpu":
        from scipy.linalg import LinAlgError, cho_factor, cho_solve  # torch would copy the factor at every call

        try:  # the transposed view is in Fortran order, so that nothing is copied
            factor = cho_factor(matrix.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return lambda block: torch.from_numpy(cho_solve(factor, block.numpy(), check_finite=False))
    return solver_in_place(matrix)


def solver_in_place(matrix: torch.Tensor) -> Solve | None:
    """The same with torch alone; the factor is stored in the matrix's memory.

    ``cholesky_solve`` would copy the factor at every call.
    """
    root = matrix.mT  # in Fortran order too
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(root, out=(root, failed))
    if int(failed):
        return None

    def solve(block: torch.Tensor) -> torch.Tensor:
        half = torch.linalg.solve_triangular(root, block, upper=False)
        solution: torch.Tensor = torch.linalg.solve_triangular(root.mT, half, upper=True)
        return solution

    return solve
