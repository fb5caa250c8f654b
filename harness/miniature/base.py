"""A miniature in the making: what its pre-training must know of its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from harness.miniature.batches import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from harness.models.base import Batch


class MiniArchitecture(ABC):
    """A model of few parameters with its tokenizer.

    Args:
        model: A Hugging Face model with a vision tower and a language model.
        tokenizer: With the model's chat template.
    """

    tower: ClassVar[str]
    """What the names of the vision tower's parameters begin with."""
    projector: ClassVar[str]
    """What the names of the projector's parameters begin with; it may be a part of the tower."""
    frame: ClassVar[ChatFormat]
    """How conversations are written as tokens."""
    schooled: ClassVar[bool] = False
    """Whether its decoder could read and talk before; it begins with the lessons that others end with."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer

    @abstractmethod
    def projected(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, 3, 64, 64) in [-1, 1] -> (pictures, 16, hidden): what the decoder gets to see."""

    @property
    @abstractmethod
    def last(self) -> torch.nn.Linear:
        """The projector's last layer."""

    def taught(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """(pictures, 16, hidden): what the tower should make of pictures, where there is a model to learn it from."""
        return None

    def positions(self, batch: Batch) -> torch.Tensor | None:
        """Position ids of the tokens, where they are not just counted."""
        return None

    def in_tower(self, name: str) -> bool:
        """Whether a parameter is one of the tower, the projector aside."""
        return name.startswith(self.tower) and not name.startswith(self.projector)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model in half precision, with tokenizer and processor, in Hugging Face layout."""
