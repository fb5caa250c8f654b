"""One vector for each picture, from the model's own vision tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.records import Picture
from harness.models.base import LanguageVisionModel


@torch.inference_mode()
def pooled_features(model: LanguageVisionModel, pictures: Sequence[Picture]) -> torch.Tensor:
    """The tower's output, before the projector, averaged over each picture's tokens: (n, d) float32 on the CPU.

    Each vector depends on its own picture alone.
    """
    return model.picture_features(pictures)
