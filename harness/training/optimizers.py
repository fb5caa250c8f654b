"""AdamW, with its moments in 32 bits by torch or in 8 bits by bitsandbytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.config.extras import require_extra
from harness.config.schema import TrainingSettings

Groups = Sequence[dict[str, Any]]


def build_adamw(groups: Groups, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW with decoupled weight decay over these groups.

    With ``optimizer: adamw-8bit`` both moments are quantised in blocks of 256 values with a dynamic map, for tensors of
    at least 4,096 values; smaller ones keep 32 bits (Dettmers et al., "8-bit Optimizers via Block-wise Quantization",
    ICLR 2022, sections 2 and 3).

    Args:
        groups: With ``params``, ``names``, ``lr`` and perhaps ``weight_decay``.
        settings: Betas, epsilon and the optimiser's kind.

    Raises:
        UserError: bitsandbytes is needed and not installed.
    """
    copies = [dict(group) for group in groups]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(copies, betas=settings.betas, eps=settings.epsilon, fused=can_fuse(copies))
    require_extra("bitsandbytes", f"training.optimizer={settings.optimizer}")
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(copies, betas=settings.betas, eps=settings.epsilon)
    return optimizer


def can_fuse(groups: Groups) -> bool:
    """Whether torch's fused AdamW supports these parameters."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point() for parameter in parameters)
