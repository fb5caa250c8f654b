"""What the training of a language-vision model changed in its language model: W_tuned - W_base, layer by layer.

For the first injection stage this difference takes the place of an earlier stage's adapter. Both matrices are read in
the type in which they are stored, also if the run quantises its base: in bfloat16 the rounding of float16 weights would
be as large as the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import dense_weight
from methods.components.lora_layers import target_layers
from methods.components.masked_penalty import largest_entries
from methods.components.stored_weights import StoredWeights
from methods.targets import ALL

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

ROW_NORM = 3**-0.5
"""Norm of a row of LoRA's A at the start, in expectation: its entries are uniform in +-1/sqrt(d_in)."""
SMALLEST = 1e-6
"""Share of the largest singular value below which a direction is rounding."""


def weight_differences(
    model: InjectableModel, language_base: Path, targets: str = ALL
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each adapted layer's name and W_tuned - W_base (d_out, d_in), float32 on the model's device, one at a time.

    Args:
        model: The untouched base, whose weights are W_tuned.
        language_base: Folder of the language model that it was trained from.
        targets: As the setting ``targets``.

    Raises:
        UserError: The two do not fit together, or a layer is the same in both.
    """
    base, tuned = StoredWeights(language_base), StoredWeights(model.folder) if model.folder else None
    for name, layer in target_layers(model, targets).items():
        shape = layer.out_features, layer.in_features
        after = tuned.read(name, shape) if tuned else dense_weight(layer)
        before = base.read(name, shape)
        difference = after.to(model.device, torch.float32) - before.to(model.device, torch.float32)
        if not bool(difference.any()):
            raise UserError(
                f"{name} is the same in both models",
                location=str(language_base),
                hint="give the language model as it was before the base was trained from it",
            )
        yield name, difference


def top_right_singular_vectors(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """The right singular vectors of the largest singular values, as orthonormal rows (at most rank, d_in), float64.

    From the eigenvectors of the smaller Gram matrix. There are fewer than ``rank`` if the matrix has a lower rank.

    Args:
        matrix: (d_out, d_in).
        rank: Number of directions.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    exact = matrix.double()
    energies, vectors = torch.linalg.eigh(exact @ exact.T if wide else exact.T @ exact)
    energies, vectors = energies.flip(0)[:rank], vectors.flip(1)[:, :rank]
    vectors = vectors[:, energies > SMALLEST**2 * energies[0]]
    if wide:  # the left singular vectors; a QR decomposition makes what they give orthonormal to the last digit
        vectors = torch.linalg.qr(exact.T @ vectors).Q
    rows: torch.Tensor = vectors.T.contiguous()
    return rows


def earlier_directions(model: InjectableModel, language_base: Path, rank: int, targets: str = ALL) -> Tensors:
    """``<layer>.A`` (at most rank, d_in): the top right singular vectors of the difference, as long as LoRA's rows."""
    return {
        f"{name}.A": (ROW_NORM * top_right_singular_vectors(difference, rank)).float().cpu()
        for name, difference in weight_differences(model, language_base, targets)
    }


def changed_entries(model: InjectableModel, language_base: Path, share: float, targets: str = ALL) -> Tensors:
    """``<layer>.held``: flat indices int32 of the share of entries that differ most."""
    return {
        f"{name}.held": largest_entries(difference, share).cpu()
        for name, difference in weight_differences(model, language_base, targets)
    }
