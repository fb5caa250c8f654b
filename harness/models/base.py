"""What the harness asks of a language-vision model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.records import Conversation, Picture
from harness.models.greedy import PrefixCache
from harness.models.pictures import TensorCache
from harness.models.vision import AS_PUBLISHED, PictureOptions

Batch = dict[str, torch.Tensor]
Dialogue = tuple[Sequence[str], Sequence[Picture]]
"""User and assistant texts in turn, ending with a user's, and the pictures in their order."""


class LanguageVisionModel(ABC):
    """A Hugging Face model with its processor, behind one interface. Satisfies ``methods.base.InjectableModel``.

    Args:
        folder: Local folder in Hugging Face layout (config, safetensors, tokenizer, processor).
        device: Where to run.
        dtype: Type of the frozen weights; trainable parameters are float32 always.
    """

    architecture: ClassVar[str]
    """The name in ``config.json`` that this class serves, e.g. ``LlavaForConditionalGeneration``."""
    linear_targets: ClassVar[str]
    projector: ClassVar[str]

    module: torch.nn.Module
    device: torch.device

    @property
    @abstractmethod
    def decoder(self) -> torch.nn.Module:
        """The language model, with its ``layers``."""

    base_parameters: Sequence[torch.nn.Parameter]
    """What the model has by itself; whatever else it may have, a method has added."""

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PictureOptions = AS_PUBLISHED
    ) -> LanguageVisionModel:
        """Load and check: safetensors only, no remote code, every weight present."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 over all weights of the base, the tokenizer and the processor's settings."""

    @property
    @abstractmethod
    def vision_is_trained(self) -> bool:
        """Whether any weight of the vision tower is trained."""

    @abstractmethod
    def memory(self) -> TensorCache:
        """What the vision tower has made of pictures, by their sha256; empty when its weights were others then.

        It may be used as long as these weights stay as they are; ask again after they may have changed.
        """

    @abstractmethod
    def training_batch(self, conversations: Sequence[Conversation], memory: TensorCache | None = None) -> Batch:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` (batch, tokens) and the pictures.

        With a ``memory``, what the vision tower makes of a picture is kept in it and used again; no gradient reaches
        the tower then.
        """

    @abstractmethod
    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, as calibration sees them."""

    @abstractmethod
    def generation_batch(self, dialogues: Sequence[Dialogue], memory: TensorCache | None = None) -> Batch:
        """Left-padded prompts. With a ``memory``, what the tower makes of a picture is kept in it and used again."""

    @abstractmethod
    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture]) -> int:
        """Number of tokens of one prompt, image tokens included (for length grouping); never fails for a picture."""

    @abstractmethod
    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) and targets (n,) at the n supervised positions alone."""

    @abstractmethod
    def generate(
        self, batch: Batch, max_new_tokens: int | Sequence[int], past: PrefixCache | None = None
    ) -> list[tuple[str, int, bool]]:
        """Greedy continuation of each row: text, number of new tokens, whether it was cut at the limit.

        With a ``past``, what the same rows have read in earlier turns is not read again; this batch is added to it.
        """
