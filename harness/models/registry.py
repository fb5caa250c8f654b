"""Loading a model folder with the class for its architecture."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.errors import UserError
from harness.models.base import LanguageVisionModel
from harness.models.loading import read_config
from harness.models.vision import AS_PUBLISHED, PictureOptions


def load_model(
    folder: Path, device: torch.device, dtype: torch.dtype, options: PictureOptions = AS_PUBLISHED
) -> LanguageVisionModel:
    """Load the model in a folder by the architecture that its ``config.json`` names.

    Raises:
        UserError: The folder is incomplete or unsafe, or its architecture is not supported.
    """
    from harness.models.llava import LlavaModel
    from harness.models.qwen2_5_vl import QwenModel

    supported: dict[str, type[LanguageVisionModel]] = {cls.architecture: cls for cls in (LlavaModel, QwenModel)}
    architecture = read_config(folder)["architectures"][0]
    if architecture not in supported:
        raise UserError(
            f"the architecture {architecture} is not supported",
            location=str(folder / "config.json"),
            hint=f"use a model with one of: {', '.join(sorted(supported))}",
        )
    return supported[architecture].load(folder, device, dtype, options)
