"""LLaVA-1.5 and everything of its architecture, the miniature included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Picture
from harness.models.chat_template import ChatEncoder, llava_template
from harness.models.hf_model import HFVisionLanguageModel
from harness.models.vision import PictureOptions, VisionEncoder

TOWER = "clip_vision_model"
"""The tower that is supported: square pictures, a class token before the patches."""
TOGETHER = 8
"""Pictures in one pass of the tower when what it makes of them is remembered."""


class LlavaVisionEncoder(VisionEncoder):
    """Pictures of one size, each as many tokens as the tower has patches."""

    def __init__(self, config: Any, processor: Any, dtype: torch.dtype) -> None:
        super().__init__(config, processor, dtype)
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        self.image_tokens = patches + (config.vision_feature_select_strategy != "default")

    def tokens(self, picture: Picture) -> int:
        """How many image tokens the decoder reads for a picture: always the same."""
        return int(self.image_tokens)

    def process(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(pictures, 3, height, width) as the tower takes them."""
        shown = [picture.pixels() for picture in pictures]
        pixels = torch.as_tensor(self.processor(images=shown, return_tensors="pt")["pixel_values"])
        side = self.config.vision_config.image_size
        if pixels.shape[-2:] != (side, side):
            raise UserError(
                f"it makes pictures of {tuple(pixels.shape[-2:])} pixels, but the model takes {side} x {side}",
                location="image processor",
                hint="take the processor that belongs to the model",
            )
        return pixels.to(self.dtype)

    def join(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``pixel_values`` (pictures, 3, height, width)."""
        return {"pixel_values": torch.stack(list(pixels))}

    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """The tower."""
        return [module.model.vision_tower]

    def look(self, module: Any, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """What the tower makes of each picture, (its image tokens, values).

        The tower always sees the same number of pictures, so that rounding does not depend on a picture's company.
        """
        for start in range(0, len(pictures), TOGETHER):
            part = pictures[start : start + TOGETHER]
            pixels = self.process(part)
            blank = pixels.new_zeros((TOGETHER - len(part), *pixels.shape[1:]))
            yield from self._see(module, torch.cat([pixels, blank]).to(module.device))[: len(part)]

    def project(self, module: Any, seen: torch.Tensor) -> torch.Tensor:
        """(image tokens, values) -> (image tokens, hidden)."""
        features: torch.Tensor = module.model.multi_modal_projector(seen)
        return features

    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) of the pictures in a batch."""
        return self.project(module, self._see(module, batch["pixel_values"])).flatten(0, 1)

    def _see(self, module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
        """(pictures, 3, height, width) -> (pictures, image tokens, hidden states of the tower)."""
        model = module.model
        layers = model.config.vision_feature_layer
        first = int(model.config.vision_feature_select_strategy == "default")  # leave the class token out
        states = model.vision_tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        chosen = [states[layer][:, first:] for layer in ([layers] if isinstance(layers, int) else layers)]
        return torch.cat(chosen, dim=-1)


class LlavaModel(HFVisionLanguageModel[LlavaVisionEncoder]):
    """A ``LlavaForConditionalGeneration`` with its processor; made by ``load``."""

    architecture: ClassVar[str] = "LlavaForConditionalGeneration"
    projector: ClassVar[str] = "multi_modal_projector"
    vision_encoder_class: ClassVar[type[VisionEncoder]] = LlavaVisionEncoder

    @classmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The folder's, or with ``aspect="pad"`` LLaVA-1.5's own: made square in the mean colour, then scaled."""
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        if options.min_pixels or options.max_pixels:
            raise UserError(
                "its tower takes pictures of one size alone", location="min_pixels, max_pixels", hint="leave them out"
            )
        if options.aspect == "pad":
            return LlavaImageProcessorPil.from_pretrained(folder, local_files_only=True, do_pad=True)
        own = (LlavaImageProcessorPil, CLIPImageProcessorPil)[_image_processor_type(folder).startswith("CLIP")]
        return own.from_pretrained(folder, local_files_only=True)

    def encoder(self) -> ChatEncoder:
        """Content is plain strings in which ``<image>`` is a token."""
        return ChatEncoder(self._tokenizer, IMAGE, llava_template(self._tokenizer))

    @classmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """The tower is CLIP's and the tokenizer knows ``<image>``."""
        tower = module.config.vision_config.model_type
        if tower != TOWER:
            raise UserError(
                f"its vision tower is a {tower}",
                location=str(folder / "config.json"),
                hint=f"give a model with a {TOWER}",
            )
        if tokenizer.convert_tokens_to_ids(IMAGE) != module.config.image_token_id:
            raise UserError(
                f"the tokenizer does not know {IMAGE} as the model does",
                location=str(folder / "tokenizer.json"),
                hint="take the tokenizer that belongs to the model",
            )


def _image_processor_type(folder: Path) -> str:
    """The class that the folder names for its pictures; CLIP's where it names none."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            described = json.loads((folder / name).read_text("utf-8"))
            described = described.get("image_processor", described)
            if "image_processor_type" in described:
                return str(described["image_processor_type"])
    return "CLIPImageProcessor"
