"""Which classes load which model folder."""

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
        UserError: The folder is incomplete, unsafe, or holds an architecture that nobody here serves.
    """
    from harness.models.llava import LlavaModel
    from harness.models.qwen2_5_vl import QwenModel

    served: dict[str, type[LanguageVisionModel]] = {kind.architecture: kind for kind in (LlavaModel, QwenModel)}
    architecture = read_config(folder)["architectures"][0]
    if architecture not in served:
        raise UserError(
            f"the architecture {architecture} is not supported",
            location=str(folder / "config.json"),
            hint=f"give a model of: {', '.join(sorted(served))}",
        )
    return served[architecture].load(folder, device, dtype, options)
