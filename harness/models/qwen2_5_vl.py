"""Qwen2.5-VL: pictures of any size, positions in three dimensions, a tower that looks through windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.models.base import Batch
from harness.models.chat_template import ChatEncoder
from harness.models.hf_model import HFVisionLanguageModel
from harness.models.vision import PictureOptions, VisionEncoder
from harness.models.windows import batch_window_attention

IMAGE_TOKEN = "<|image_pad|>"  # noqa: S105
"""Stands in the place of each image token."""


class QwenVisionEncoder(VisionEncoder):
    """Pictures scaled to a multiple of the window's unit within bounds; four patches make an image token."""

    def __init__(self, config: Any, processor: Any, dtype: torch.dtype) -> None:
        super().__init__(config, processor, dtype)
        self._merged = int(config.vision_config.spatial_merge_size)
        self._grids: dict[str, tuple[int, int, int]] = {}

    def tokens(self, picture: Picture) -> int:
        """How many image tokens the decoder reads for a picture."""
        time, down, across = self.grid(picture)
        return time * down * across // self._merged**2

    def grid(self, picture: Picture) -> tuple[int, int, int]:
        """Patches in time, down and across, from the picture's size alone.

        Raises:
            UserError: The picture is damaged, or far longer than wide.
        """
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        if picture.sha256 not in self._grids:
            side, (width, height) = self.processor.patch_size, picture.size
            bounds = self.processor.size
            try:
                down, across = smart_resize(
                    height, width, side * self._merged, bounds["shortest_edge"], bounds["longest_edge"]
                )
            except ValueError as error:
                raise UserError(
                    f"the picture cannot be shown ({error})", location=f"picture {picture.sha256[:12]}", hint="crop it"
                ) from error
            self._grids[picture.sha256] = (1, down // side, across // side)
        return self._grids[picture.sha256]

    def process(self, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """For each picture (patches, values of a patch)."""
        for picture in pictures:
            made = self.processor(images=[picture.pixels()], return_tensors="pt")
            yield torch.as_tensor(made["pixel_values"]).to(self.dtype)

    def join(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``pixel_values`` (all patches, values) and ``image_grid_thw`` (pictures, 3)."""
        return {
            "pixel_values": torch.cat(list(pixels)),
            "image_grid_thw": torch.tensor([self.grid(picture) for picture in pictures]),
        }

    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """All but the merger."""
        return [module.model.visual.patch_embed, module.model.visual.blocks]

    def look(self, module: Any, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """What the tower makes of each picture before the merger, (its image tokens, values of their patches).

        Each is looked at alone, so that rounding does not depend on its company.
        """
        from transformers.vision_utils import get_vision_window_index

        tower = module.model.visual
        for picture, pixels in zip(pictures, self.process(pictures), strict=True):
            grid = torch.tensor([self.grid(picture)], device=module.device)
            states = tower(pixels.to(module.device), grid_thw=grid).last_hidden_state
            windows, _ = get_vision_window_index(grid, self._merged, tower.window_size, tower.patch_size)
            yield states.reshape(len(windows), -1)[torch.argsort(windows)]

    def project(self, module: Any, seen: torch.Tensor) -> torch.Tensor:
        """(image tokens, values of their patches) -> (image tokens, hidden)."""
        features: torch.Tensor = module.model.visual.merger(seen.reshape(len(seen) * self._merged**2, -1))
        return features

    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) of the pictures in a batch."""
        grid = batch["image_grid_thw"]
        features: torch.Tensor = module.model.visual(batch["pixel_values"], grid_thw=grid).pooler_output
        return features


class QwenModel(HFVisionLanguageModel[QwenVisionEncoder]):
    """A ``Qwen2_5_VLForConditionalGeneration`` with its processor; made by ``load``. No torchvision is needed.

    The projector is the merger of the vision tower, which LLaVA's name for it would not find.
    """

    architecture: ClassVar[str] = "Qwen2_5_VLForConditionalGeneration"
    projector: ClassVar[str] = "merger"
    vision_encoder_class: ClassVar[type[VisionEncoder]] = QwenVisionEncoder

    def __init__(self, module: Any, tokenizer: Any, image_processor: Any, described: str, device: torch.device) -> None:
        super().__init__(module, tokenizer, image_processor, described, device)
        batch_window_attention(module.model.visual)

    @classmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The folder's, with other bounds if they are asked for."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        if options.aspect != "folder":
            raise UserError("its tower takes any shape", location=f"aspect {options.aspect}", hint="leave it out")
        asked = {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}
        bounds = {name: pixels for name, pixels in asked.items() if pixels is not None}
        kind: Any = Qwen2VLImageProcessorPil
        made = kind.from_pretrained(folder, local_files_only=True, **bounds)
        if made.size["shortest_edge"] > made.size["longest_edge"]:
            raise UserError(
                f"at least {made.size['shortest_edge']} and at most {made.size['longest_edge']} pixels",
                location="min_pixels, max_pixels",
                hint="give bounds that leave room",
            )
        return made

    def encoder(self) -> ChatEncoder:
        """Content is a list of parts; the template frames each picture."""
        return ChatEncoder(self._tokenizer, IMAGE_TOKEN, self._tokenizer.chat_template, parts=True)

    @classmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """The tokenizer knows the image token and has a chat template."""
        if tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) != module.config.image_token_id:
            raise UserError(
                f"the tokenizer does not know {IMAGE_TOKEN} as the model does",
                location=str(folder / "tokenizer.json"),
                hint="take the tokenizer that belongs to the model",
            )
        if not isinstance(tokenizer.chat_template, str):
            raise UserError("the chat template is missing", location=str(folder), hint="download chat_template.json")

    def places(self, batch: Batch, pictures: Sequence[Picture]) -> Batch:
        """``position_ids`` (3, rows, tokens): image tokens are counted by time, row and column, all others in one."""
        ids = batch["input_ids"]
        grids = torch.tensor([self.vision_encoder.grid(picture) for picture in pictures])
        positions, _ = self.inner.model.get_rope_index(
            ids,
            mm_token_type_ids=(ids == self._encoder.image_id).int(),
            image_grid_thw=grids if pictures else None,
            attention_mask=batch["attention_mask"],
        )
        return {"position_ids": positions}
