"""The interface between a miniature's architecture and its pre-training."""

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
    """Prefix of the names of the vision tower's parameters."""
    projector: ClassVar[str]
    """Prefix of the names of the projector's parameters; it may be a part of the tower."""
    chat_format: ClassVar[ChatFormat]
    """How conversations are written as tokens."""
    decoder_is_trained: ClassVar[bool] = False
    """Whether its decoder comes from another miniature; it then starts with the most difficult samples."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model, self.tokenizer = model, tokenizer

    @abstractmethod
    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(pictures, 3, 64, 64) in [-1, 1] -> (pictures, 16, hidden): the decoder's inputs for the image tokens."""

    @property
    @abstractmethod
    def projector_output(self) -> torch.nn.Linear:
        """The projector's last layer."""

    def teacher_features(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """(pictures, 16, hidden): targets for ``image_features``, if there is a model to learn from."""
        return None

    def position_ids(self, batch: Batch) -> torch.Tensor | None:
        """Position ids of the tokens, if they are not just each token's index."""
        return None

    def in_tower(self, name: str) -> bool:
        """Whether a parameter belongs to the tower without the projector."""
        return name.startswith(self.tower) and not name.startswith(self.projector)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model in half precision, with tokenizer and processor, in Hugging Face layout."""


def load_saved(model_class: Any, folder: Path) -> Any:
    """A miniature's model as it was saved, in full precision.

    Raises:
        OSError: A file is missing.
    """
    model = model_class.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.config.text_config.dtype = model.config.vision_config.dtype = None  # not that of the files that it writes
    return model
