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

ROWS = 2048
"""Rows of a matrix that are widened to float64 at once."""

Solve = Callable[[torch.Tensor], torch.Tensor]


def bottom_by_krylov(
    matrix: torch.Tensor, rank: int, noise: float = 0.0, device: torch.device | None = None
) -> torch.Tensor | None:
    """The ``rank`` directions that hold the least energy, from a block Krylov space of the inverse.

    The matrix is factorised once; then blocks of directions are added until the energy of the best ones has settled.
    Deterministic: the first block is fixed. Beside the matrix one of the same size in float64 is needed.

    Args:
        matrix: C (d, d), symmetric up to rounding, positive semidefinite up to rounding.
        rank: r, small beside d.
        noise: Part of the trace below which the energy of one direction means nothing.
        device: Where to compute; where the matrix is, when left out.

    Returns:
        (d, r) float64, orthonormal columns, least energy first; None where this way would be the longer one.
    """
    size, energy, width = matrix.shape[0], float(matrix.diagonal().double().sum()), max(16, rank)
    where = matrix.device if device is None else device
    solve = _inverse(matrix, energy, max(noise, SMALLEST_SHIFT), where)
    if solve is None:
        return None
    drawn = torch.randn(size, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    space = torch.linalg.qr(drawn.to(where))[0]
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


def symmetrised(matrix: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """A new float64 matrix (d, d) without the asymmetry that rounding left, made with little memory beside it."""
    exact = matrix.to(device, torch.float64, copy=True)
    for start in range(0, len(exact), ROWS):
        stop = start + ROWS
        corner, right, below = exact[start:stop, start:stop], exact[start:stop, stop:], exact[stop:, start:stop]
        corner.copy_((corner + corner.T) / 2)
        right.add_(below.T).div_(2)
        below.copy_(right.T)
    return exact


def product(matrix: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """C X in the type and on the device of X (d, n), without a second C (d, d) there."""
    return torch.cat([rows.to(block) @ block for rows in torch.split(matrix, ROWS)])


def _least_first(matrix: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis of the directions by their energy."""
    basis = torch.linalg.qr(directions)[0]
    seen = basis.T @ product(matrix, basis)
    found: torch.Tensor = basis @ torch.linalg.eigh((seen + seen.T) / 2)[1]
    return found


def _inverse(matrix: torch.Tensor, energy: float, noise: float, device: torch.device) -> Solve | None:
    """Multiplication by the inverse of the matrix, raised well above the noise."""
    for times in (10, 1000):
        solve = _solver(_raised(matrix, times * noise * energy, device))
        if solve is not None:
            return solve
    return None


def _raised(matrix: torch.Tensor, by: float, device: torch.device) -> torch.Tensor:
    exact = symmetrised(matrix, device)
    exact.diagonal().add_(by)
    return exact


def _solver(matrix: torch.Tensor) -> Solve | None:
    """Multiplication by the inverse of a positive definite matrix, which is overwritten; None of any other."""
    if matrix.device.type == "cpu":
        from scipy.linalg import LinAlgError, cho_factor, cho_solve  # torch would copy the factor at each use

        try:  # the transposed view is in Fortran's order, so that nothing is copied
            factor = cho_factor(matrix.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return lambda block: torch.from_numpy(cho_solve(factor, block.numpy(), check_finite=False))
    return solver_in_place(matrix)


def solver_in_place(matrix: torch.Tensor) -> Solve | None:
    """Multiplication by the inverse of a positive definite matrix, by torch alone; its factor takes the matrix's place.

    ``cholesky_solve`` would copy the factor at each use.
    """
    root = matrix.mT  # in Fortran's order too
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(root, out=(root, failed))
    if int(failed):
        return None

    def solve(block: torch.Tensor) -> torch.Tensor:
        half = torch.linalg.solve_triangular(root, block, upper=False)
        found: torch.Tensor = torch.linalg.solve_triangular(root.mT, half, upper=True)
        return found

    return solve
