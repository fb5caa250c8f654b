"""What the pictures of a batch are turned into, each processed once and, by a frozen tower, looked at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.models.pictures import TensorCache


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are prepared where it is not to be as the model's folder says.

    Attributes:
        aspect: "pad" makes a picture square with a border in the mean colour, as LLaVA-1.5's own code does where the
            published processor crops.
        min_pixels: Smallest area to which a picture is scaled, for towers that take any size; None as the folder says.
        max_pixels: The largest.
    """

    aspect: Literal["folder", "pad"] = "folder"
    min_pixels: int | None = None
    max_pixels: int | None = None


AS_PUBLISHED = PictureOptions()


class VisionEncoder(ABC):
    """How a family looks at pictures. It holds no model: ``module`` is the Hugging Face model, without PEFT round it.

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
        """How many image tokens the decoder reads for a picture."""

    @abstractmethod
    def process(self, pictures: Sequence[Picture]) -> Iterable[torch.Tensor]:
        """For each picture the values that the tower takes, in the model's type, on the CPU."""

    @abstractmethod
    def join(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """What ``process`` gave for the pictures, as the model's own ``forward`` takes it."""

    @abstractmethod
    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """The tower without the projector."""

    @abstractmethod
    def look(self, module: Any, pictures: Sequence[Picture]) -> Iterable[torch.Tensor]:
        """What the tower makes of each picture, (its image tokens, values), whatever the others are."""

    @abstractmethod
    def project(self, module: Any, seen: torch.Tensor) -> torch.Tensor:
        """(image tokens, values) as ``look`` gives them -> (image tokens, hidden)."""

    @abstractmethod
    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) from a batch's ``pixel_values``, with a graph."""

    def pixel_values(self, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The pictures as ``forward`` takes them, each processed once as long as there is room; {} for none."""
        if not pictures:
            return {}
        known, new = _sorted_out(pictures, self._pixels)
        if new:
            for picture, pixels in zip(new, self.process(new), strict=True):
                known[picture.sha256] = self._pixels.put(picture.sha256, pixels.clone())
        return self.join([known[picture.sha256] for picture in pictures], pictures)

    @torch.no_grad()
    def cached_features(self, module: Any, pictures: Sequence[Picture], memory: TensorCache) -> dict[str, torch.Tensor]:
        """What the tower makes of pictures, from memory where it has seen them.

        Returns:
            ``seen``, the distinct pictures one after the other (tokens, values), and ``order``: which of its rows
            stands in the place of each image token, picture by picture.
        """
        known, new = _sorted_out(pictures, memory)
        for picture, seen in zip(new, self.look(module, new), strict=True):
            known[picture.sha256] = memory.put(picture.sha256, seen.to("cpu", copy=True))
        rows: dict[str, torch.Tensor] = {}
        total = 0
        for picture in pictures:
            if picture.sha256 not in rows:
                rows[picture.sha256] = torch.arange(total, total := total + len(known[picture.sha256]))
        return {
            "seen": torch.cat([known[name] for name in rows]),
            "order": torch.cat([rows[picture.sha256] for picture in pictures]),
        }

    def scatter_features(self, embeddings: torch.Tensor, places: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The embeddings (rows, tokens, hidden) with the features in the places (rows, tokens) kept for them.

        Raises:
            UserError: There are more places than features, or fewer.
        """
        if int(places.sum()) != len(features):
            raise UserError(
                f"{int(places.sum())} places for pictures, but pictures of {len(features)} tokens",
                location="batch",
                hint="give one picture for each marker",
            )
        return embeddings.masked_scatter(places.unsqueeze(-1), features.to(embeddings.dtype))


def _sorted_out(pictures: Sequence[Picture], cache: TensorCache) -> tuple[dict[str, torch.Tensor], list[Picture]]:
    """The tensors of the pictures that the cache knows, and the distinct ones that it does not."""
    distinct = {picture.sha256: picture for picture in pictures}
    known = {name: tensor for name in distinct if (tensor := cache.get(name)) is not None}
    return known, [picture for name, picture in distinct.items() if name not in known]
