"""Qwen2.5-VL: pictures of any size, positions in three dimensions, a vision tower with window attention."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import torch
from torch.nn import functional
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.models.chat_template import ChatEncoder
from harness.models.decoder_model import DecoderModel
from harness.models.vision import PictureOptions, VisionEncoder

IMAGE_TOKEN = "<|image_pad|>"  # noqa: S105
"""The token at each image token's place."""


class QwenVisionEncoder(VisionEncoder):
    """Pictures scaled to a multiple of the window's unit within bounds; four patches make an image token."""

    def __init__(self, config: Any, processor: Any, dtype: torch.dtype) -> None:
        super().__init__(config, processor, dtype)
        self._merge_size = int(config.vision_config.spatial_merge_size)
        self._grids: dict[str, tuple[int, int, int]] = {}

    def tokens(self, picture: Picture) -> int:
        """Number of image tokens that the decoder reads for a picture."""
        time, height, width = self.grid(picture)
        return time * height * width // self._merge_size**2

    def grid(self, picture: Picture) -> tuple[int, int, int]:
        """Patches in time, height and width, from the picture's size alone.

        Raises:
            UserError: The picture is damaged, or far longer than wide.
        """
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        if picture.sha256 not in self._grids:
            patch, (width, height) = self.processor.patch_size, picture.size
            bounds = self.processor.size
            try:
                height, width = smart_resize(
                    height, width, patch * self._merge_size, bounds["shortest_edge"], bounds["longest_edge"]
                )
            except ValueError as error:
                raise UserError(
                    f"the picture cannot be shown ({error})", location=f"picture {picture.sha256[:12]}", hint="crop it"
                ) from error
            self._grids[picture.sha256] = (1, height // patch, width // patch)
        return self._grids[picture.sha256]

    def process(self, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """For each picture (patches, values of a patch)."""
        for picture in pictures:
            processed = self.processor(images=[picture.pixels()], return_tensors="pt")
            yield torch.as_tensor(processed["pixel_values"]).to(self.dtype)

    def collate(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``pixel_values`` (all patches, values) and ``image_grid_thw`` (pictures, 3)."""
        return {
            "pixel_values": torch.cat(list(pixels)),
            "image_grid_thw": torch.tensor([self.grid(picture) for picture in pictures]),
        }

    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """All but the merger."""
        return [module.model.visual.patch_embed, module.model.visual.blocks]

    def encode(self, module: Any, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """The tower's output for each picture before the merger, (its image tokens, values of their patches).

        Each picture is encoded alone, so that rounding does not depend on the other pictures.
        """
        from transformers.vision_utils import get_vision_window_index

        tower = module.model.visual
        for picture, pixels in zip(pictures, self.process(pictures), strict=True):
            grid = torch.tensor([self.grid(picture)], device=module.device)
            states = tower(pixels.to(module.device), grid_thw=grid).last_hidden_state
            windows, _ = get_vision_window_index(grid, self._merge_size, tower.window_size, tower.patch_size)
            yield states.reshape(len(windows), -1)[torch.argsort(windows)]

    def project(self, module: Any, encoded: torch.Tensor) -> torch.Tensor:
        """(image tokens, values of their patches) -> (image tokens, hidden)."""
        features: torch.Tensor = module.model.visual.merger(encoded.reshape(len(encoded) * self._merge_size**2, -1))
        return features

    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) of the pictures in a batch."""
        grid = batch["image_grid_thw"]
        features: torch.Tensor = module.model.visual(batch["pixel_values"], grid_thw=grid).pooler_output
        return features


class QwenModel(DecoderModel):
    """A ``Qwen2_5_VLForConditionalGeneration`` with its processor; made by ``load``. Works without torchvision.

    The projector is the merger of the vision tower.
    """

    architecture: ClassVar[str] = "Qwen2_5_VLForConditionalGeneration"
    projector: str = "merger"
    vision_encoder_class: ClassVar[type[VisionEncoder]] = QwenVisionEncoder
    vision_encoder: QwenVisionEncoder

    def __init__(
        self, module: Any, tokenizer: Any, image_processor: Any, config_digest: str, device: torch.device
    ) -> None:
        super().__init__(module, tokenizer, image_processor, config_digest, device)
        batch_window_attention(module.model.visual)

    @classmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The folder's, with the bounds from the options if they are set."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        if options.aspect != "folder":
            raise UserError("its tower takes any shape", location=f"aspect {options.aspect}", hint="omit it")
        optional = {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}
        bounds = {name: pixels for name, pixels in optional.items() if pixels is not None}
        processor_class: Any = Qwen2VLImageProcessorPil
        processor = processor_class.from_pretrained(folder, local_files_only=True, **bounds)
        least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
        if least > most:
            raise UserError(
                f"at least {least} and at most {most} pixels",
                location="min_pixels, max_pixels",
                hint="give a minimum below the maximum",
            )
        return processor

    def chat_encoder(self, *, line_break: bool = False) -> ChatEncoder:
        """Content is a list of parts; the template frames each picture."""
        template = self._tokenizer.chat_template
        return ChatEncoder(self._tokenizer, IMAGE_TOKEN, template, parts=True, line_break=line_break)

    @classmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """The tokenizer knows the image token and has a chat template."""
        if tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) != module.config.image_token_id:
            raise UserError(
                f"the tokenizer does not know {IMAGE_TOKEN} as the model does",
                location=str(folder / "tokenizer.json"),
                hint="use the tokenizer that belongs to the model",
            )
        if not isinstance(tokenizer.chat_template, str):
            raise UserError("the chat template is missing", location=str(folder), hint="download chat_template.json")

    def position_ids(self, batch: Mapping[str, torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``position_ids`` (3, rows, tokens): time, row and column of image tokens, the index of all others."""
        ids = batch["input_ids"]
        grids = torch.tensor([self.vision_encoder.grid(picture) for picture in pictures])
        positions, _ = self.inner.model.get_rope_index(
            ids,
            mm_token_type_ids=(ids == self._chat_encoder.image_id).int(),
            image_grid_thw=grids if pictures else None,
            attention_mask=batch["attention_mask"],
        )
        return {"position_ids": positions}


def batch_window_attention(tower: Any) -> None:
    """Have each block of a Qwen2.5 vision tower attend in all windows of one size at once.

    Without flash attention, transformers calls the attention once for each window of each picture. The results are
    equal up to rounding. Towers with another attention than torch's own, or with another interface than this was
    written for, are left as they are; a test compares both on the installed version.
    """
    if tower.config._attn_implementation != "sdpa" or not hasattr(modeling, "apply_rotary_pos_emb_vision"):
        return
    for block in tower.blocks:
        parameters = inspect.signature(block.attn.forward).parameters
        if {"hidden_states", "cu_seqlens", "position_embeddings"} <= parameters.keys():
            block.attn.forward = MethodType(_window_attention, block.attn)


def _window_attention(
    self: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """``Qwen2_5_VLVisionAttention.forward`` over (patches, hidden), where ``cu_seqlens`` are the windows' borders."""
    states = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
    query, key, value = states.unbind(1)
    query, key = modeling.apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    lengths = cu_seqlens.diff()
    sizes = sorted(set(lengths.tolist()))
    if len(sizes) == 1:
        attended = _attend(*(part.unflatten(0, (-1, sizes[0])) for part in (query, key, value))).flatten(0, 1)
    else:
        attended = torch.empty_like(query)
        for size in sizes:
            starts = cu_seqlens[:-1][lengths == size].long()
            index = starts[:, None] + torch.arange(size, device=starts.device)
            attended[index] = _attend(query[index], key[index], value[index])
    projected: torch.Tensor = self.proj(attended.flatten(1))
    return projected


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention within each window; all tensors (windows, patches, heads, width)."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
