"""Embeddings of pictures and words by any CLIP model in a local folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.errors import UserError
from benchmarks.records import Picture
from methods.augmentation.hf_loading import load_model

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """Embeds pictures and words in one space, where the cosine measures their similarity."""

    digest: str
    """Sha256 of the model's files."""

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """(n, d) float32, each of length 1."""

    def words(self, text: str) -> np.ndarray:
        """(d,) float32, of length 1."""


class Clip:
    """Satisfies ``Embedder``.

    Args:
        folder: A CLIP model with tokenizer and image processor in Hugging Face layout.

    Raises:
        UserError: The folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        self._model, self._tokenizer, self._processor, self.digest = load_model(
            folder, CLIPModel, AutoTokenizer, CLIPImageProcessorPil
        )
        if self._model.config.model_type != "clip":
            raise UserError("this is not a CLIP model", location=str(folder), hint="give the folder of one")
        self._lock = threading.Lock()

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Embed the pictures as one batch."""
        import torch

        with self._lock, torch.inference_mode():
            pixels = self._processor([picture.pixels() for picture in pictures], return_tensors="pt")["pixel_values"]
            return _normalized(self._model.get_image_features(pixel_values=pixels))

    def words(self, text: str) -> np.ndarray:
        """Embed a text, truncated to the model's context."""
        import torch

        length = self._model.config.text_config.max_position_embeddings
        with self._lock, torch.inference_mode():
            batch = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=length)
            rows = _normalized(
                self._model.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            )
        row: np.ndarray = rows[0]
        return row


def _normalized(features: Any) -> np.ndarray:
    """(n, d), each row of length 1; newer versions of transformers wrap the features in an output."""
    import torch

    rows = features if isinstance(features, torch.Tensor) else features.pooler_output
    array: np.ndarray = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return array
