"""From pictures to image features: each picture is processed once and, by a frozen vision tower, encoded once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.errors import UserError
from benchmarks.records import Picture


class TensorCache:
    """Tensors by key; the least recently used are dropped when the cache is full.

    Args:
        limit: Largest total size, in bytes.
    """

    def __init__(self, limit: int = 256 << 20) -> None:
        self._limit, self._size = limit, 0
        self._tensors: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def get(self, key: Hashable) -> torch.Tensor | None:
        """The tensor under ``key``, or None."""
        tensor = self._tensors.get(key)
        if tensor is not None:
            self._tensors.move_to_end(key)
        return tensor

    def put(self, key: Hashable, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor; returns it."""
        if key not in self._tensors:
            self._tensors[key] = tensor
            self._size += tensor.nbytes
            while self._size > self._limit and len(self._tensors) > 1:
                self._size -= self._tensors.popitem(last=False)[1].nbytes
        return tensor


@dataclass(frozen=True)
class PictureOptions:
    """How to prepare pictures if not as the model's folder says.

    Attributes:
        aspect: "pad" makes a picture square with a border in the mean colour, as LLaVA-1.5's own code does; the
            published processor crops.
        min_pixels: Smallest area to which a picture is scaled, for towers that take any size; None as the folder says.
        max_pixels: The largest.
        line_break: Keep the line break that LLaVA's data have after ``<image>``, in training only; for templates that
            take pictures and texts as separate parts. LLaVA's own template always keeps it.
    """

    aspect: Literal["folder", "pad"] = "folder"
    min_pixels: int | None = None
    max_pixels: int | None = None
    line_break: bool = False


AS_PUBLISHED = PictureOptions()


class VisionEncoder(ABC):
    """How a model family encodes pictures. ``module``, the Hugging Face model without PEFT, is passed to each method.

    Args:
        config: The model's.
        processor: Its image processor.
        dtype: The type in which the tower takes pictures.
    """

    def __init__(self, config: Any, processor: Any, dtype: torch.dtype) -> None:
        self.config, self.processor, self.dtype = config, processor, dtype
        self._pixels = TensorCache()

    @abstractmethod
    def tokens(self, picture: Picture) -> int:
        """Number of image tokens that the decoder reads for a picture."""

    def grid(self, picture: Picture) -> tuple[int, int, int] | None:
        """Patches in time, height and width, if the positions of image tokens depend on them."""
        return None

    @abstractmethod
    def process(self, pictures: Sequence[Picture]) -> Iterable[torch.Tensor]:
        """For each picture the values that the tower takes, in the model's type, on the CPU."""

    @abstractmethod
    def collate(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The results of ``process`` for these pictures, as the model's own ``forward`` takes them."""

    @abstractmethod
    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """The tower without the projector."""

    @abstractmethod
    def encode(self, module: Any, pictures: Sequence[Picture]) -> Iterable[torch.Tensor]:
        """The tower's output for each picture, (its image tokens, values), independent of the other pictures."""

    @abstractmethod
    def project(self, module: Any, encoded: torch.Tensor) -> torch.Tensor:
        """(image tokens, values) from ``encode`` -> (image tokens, hidden)."""

    @abstractmethod
    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) from a batch's ``pixel_values``, with a graph."""

    def pixel_values(self, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The pictures as ``forward`` takes them, from a cache if they were processed before; {} for none."""
        if not pictures:
            return {}
        cached, missing = _look_up(pictures, self._pixels)
        if missing:
            for picture, pixels in zip(missing, self.process(missing), strict=True):
                cached[picture.sha256] = self._pixels.put(picture.sha256, pixels.clone())
        return self.collate([cached[picture.sha256] for picture in pictures], pictures)

    @torch.no_grad()
    def cached_features(self, module: Any, pictures: Sequence[Picture], cache: TensorCache) -> dict[str, torch.Tensor]:
        """The tower's output for pictures, from the cache if it is there.

        Returns:
            ``encoded``: the outputs for the distinct pictures, concatenated (tokens, values); ``encoded_rows``: for
            each image token, picture by picture, its row in ``encoded``.
        """
        cached, missing = _look_up(pictures, cache)
        for picture, encoded in zip(missing, self.encode(module, missing), strict=True):
            cached[picture.sha256] = cache.put(picture.sha256, encoded.to("cpu", copy=True))
        rows: dict[str, torch.Tensor] = {}
        total = 0
        for picture in pictures:
            if picture.sha256 not in rows:
                rows[picture.sha256] = torch.arange(total, total := total + len(cached[picture.sha256]))
        return {
            "encoded": torch.cat([cached[sha256] for sha256 in rows]),
            "encoded_rows": torch.cat([rows[picture.sha256] for picture in pictures]),
        }

    def scatter_features(self, embeddings: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The embeddings (rows, tokens, hidden) with the features at the image tokens, which ``mask`` marks.

        Raises:
            UserError: The numbers of image tokens and features differ.
        """
        if int(mask.sum()) != len(features):
            raise UserError(
                f"{int(mask.sum())} places for pictures, but pictures of {len(features)} tokens",
                location="batch",
                hint="give one picture for each marker",
            )
        return embeddings.masked_scatter(mask.unsqueeze(-1), features.to(embeddings.dtype))


def _look_up(pictures: Sequence[Picture], cache: TensorCache) -> tuple[dict[str, torch.Tensor], list[Picture]]:
    """The cached tensors of the pictures by sha256, and the distinct pictures that are not in the cache."""
    distinct = {picture.sha256: picture for picture in pictures}
    cached = {sha256: tensor for sha256 in distinct if (tensor := cache.get(sha256)) is not None}
    return cached, [picture for sha256, picture in distinct.items() if sha256 not in cached]
