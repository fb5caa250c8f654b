"""Singular components of a layer's weight, as its inputs weigh them, and the weight without some of them.

W (d_out, d_in) is decomposed as W M = U S V^T, where M says which directions of the input matter: nothing for the plain
decomposition, a diagonal for ASVD, the covariance of the inputs for CO-SVD. What is left after discarding components is
U_k S_k V_k^T M^-1 = U_k U_k^T W: neither V nor an inverse of M is needed, and discarding none leaves W as it is.

Source: ASVD, arXiv 2312.05821, section 3; CO-SVD of CorDA, arXiv 2406.05223, section 3, and its code; KORE, arXiv
2510.19316v2, section 3.3 and table 7.
"""

from __future__ import annotations

from typing import Literal

import torch

from methods.components.krylov import symmetrized_copy
from methods.components.null_space import random_basis

End = Literal["smallest", "largest"]
DAMPING = 0.01
"""Added to the covariance's diagonal, as a share of its mean: what CorDA's code begins with."""
ALPHA = 0.5
"""The power of ASVD's scaling: the paper's, and the default of CorDA's code."""
FLOOR = 1e-6
"""Added to ASVD's scaling, as in its code, so that an input that is always 0 does not make it singular."""


def covariance_weighting(covariance: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """M of CO-SVD: C (d_in, d_in) damped, so that it has an inverse; float64."""
    weighting = symmetrized_copy(covariance, device)
    weighting.diagonal().add_(DAMPING * weighting.diagonal().mean())
    return weighting


def magnitude_weighting(magnitudes: torch.Tensor) -> torch.Tensor:
    """M of ASVD, the diagonal (d_in,): the root of each input's mean absolute value; float64."""
    return magnitudes.double().pow(ALPHA) + FLOOR


def rotated_weighting(weighting: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A control (d_in, d_in): the eigenvalues of M in a random orthonormal basis, which knows nothing of the inputs."""
    basis = random_basis(len(weighting), len(weighting), generator).to(weighting.device)
    values: torch.Tensor = torch.linalg.eigvalsh(weighting)
    return (basis * values) @ basis.T


def left_singular_vectors(weight: torch.Tensor, weighting: torch.Tensor | None = None) -> torch.Tensor:
    """U (d_out, min(d_out, d_in)) float64 of W M, the vector of the largest singular value first.

    Args:
        weight: W (d_out, d_in).
        weighting: M (d_in, d_in), or its diagonal (d_in,); None for the identity.
    """
    product = weight.double()
    if weighting is not None:
        product = product * weighting if weighting.ndim == 1 else product @ weighting
    vectors: torch.Tensor = torch.linalg.svd(product, full_matrices=False)[0]
    return vectors


def without_components(weight: torch.Tensor, vectors: torch.Tensor, count: int, end: End = "smallest") -> torch.Tensor:
    """W - U_d U_d^T W in the type of W: the weight without ``count`` of its components.

    Args:
        weight: W (d_out, d_in).
        vectors: U (d_out, k) as ``left_singular_vectors`` returns it, in any type.
        count: How many are discarded, at most k; with 0 the weight comes back bit for bit.
        end: Whether those of the smallest or of the largest singular values are.
    """
    first = vectors.shape[1] - count if end == "smallest" else 0
    discarded = vectors[:, first : first + count].to(weight.device, torch.float64)
    full = weight.double()
    return (full - discarded @ (discarded.T @ full)).to(weight.dtype)
