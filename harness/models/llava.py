"""LLaVA-1.5 and everything of its architecture, the miniature included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Picture
from benchmarks.retention_specs import CLASS_OF_LLAVA
from harness.models.chat_template import VLMEVALKIT_LLAVA, ChatEncoder, llava_template
from harness.models.decoder_model import DecoderModel
from harness.models.vision import PictureOptions, VisionEncoder

SUPPORTED_TOWER = "clip_vision_model"
"""It takes square pictures and puts a class token before the patches."""
VISION_BATCH = 8
"""Pictures in one pass of the tower when its output is cached."""


class LlavaVisionEncoder(VisionEncoder):
    """Pictures of one size, with one token for each patch."""

    def __init__(self, config: Any, processor: Any, dtype: torch.dtype) -> None:
        super().__init__(config, processor, dtype)
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        self.image_tokens = patches + (config.vision_feature_select_strategy != "default")

    def tokens(self, picture: Picture) -> int:
        """Number of image tokens that the decoder reads for a picture: always the same."""
        return int(self.image_tokens)

    def process(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(pictures, 3, height, width) as the tower takes them."""
        images = [picture.pixels() for picture in pictures]
        pixels = torch.as_tensor(self.processor(images=images, return_tensors="pt")["pixel_values"])
        side = self.config.vision_config.image_size
        if pixels.shape[-2:] != (side, side):
            raise UserError(
                f"it makes pictures of {tuple(pixels.shape[-2:])} pixels, but the model takes {side} x {side}",
                location="image processor",
                hint="use the processor that belongs to the model",
            )
        return pixels.to(self.dtype)

    def collate(self, pixels: Sequence[torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``pixel_values`` (pictures, 3, height, width)."""
        return {"pixel_values": torch.stack(list(pixels))}

    def vision_modules(self, module: Any) -> list[torch.nn.Module]:
        """The tower."""
        return [module.model.vision_tower]

    def encode(self, module: Any, pictures: Sequence[Picture]) -> Iterator[torch.Tensor]:
        """The tower's output for each picture, (its image tokens, values).

        Every pass has the same number of pictures, so that rounding does not depend on the other pictures.
        """
        for start in range(0, len(pictures), VISION_BATCH):
            part = pictures[start : start + VISION_BATCH]
            pixels = self.process(part)
            blank = pixels.new_zeros((VISION_BATCH - len(part), *pixels.shape[1:]))
            yield from self._run_tower(module, torch.cat([pixels, blank]).to(module.device))[: len(part)]

    def project(self, module: Any, encoded: torch.Tensor) -> torch.Tensor:
        """(image tokens, values) -> (image tokens, hidden)."""
        features: torch.Tensor = module.model.multi_modal_projector(encoded)
        return features

    def features(self, module: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(image tokens, hidden) of the pictures in a batch."""
        return self.project(module, self._run_tower(module, batch["pixel_values"])).flatten(0, 1)

    def _run_tower(self, module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
        """(pictures, 3, height, width) -> (pictures, image tokens, hidden states of the tower)."""
        model = module.model
        layers = model.config.vision_feature_layer
        first = int(model.config.vision_feature_select_strategy == "default")  # leave the class token out
        states = model.vision_tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        chosen = [states[layer][:, first:] for layer in ([layers] if isinstance(layers, int) else layers)]
        return torch.cat(chosen, dim=-1)


class LlavaModel(DecoderModel):
    """A ``LlavaForConditionalGeneration`` with its processor; made by ``load``."""

    architecture: ClassVar[str] = "LlavaForConditionalGeneration"
    projector: str = "multi_modal_projector"
    vision_encoder_class: ClassVar[type[VisionEncoder]] = LlavaVisionEncoder
    protocols: ClassVar[Mapping[str, str]] = {CLASS_OF_LLAVA: VLMEVALKIT_LLAVA}

    @classmethod
    def serves(cls, config: Mapping[str, Any]) -> bool:
        """Models with a CLIP tower."""
        tower = config.get("vision_config", {}).get("model_type", SUPPORTED_TOWER)
        return bool(tower == SUPPORTED_TOWER)

    @classmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The folder's, or with ``aspect="pad"`` LLaVA-1.5's own: padded to a square in the mean colour and scaled."""
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        if options.min_pixels or options.max_pixels:
            raise UserError(
                "its tower takes pictures of one size alone", location="min_pixels, max_pixels", hint="omit them"
            )
        if options.line_break:
            problem, hint = "its template keeps the line break after <image> anyway", "omit it"
            raise UserError(problem, location="pictures.line_break", hint=hint)
        if options.aspect == "pad":
            return LlavaImageProcessorPil.from_pretrained(folder, local_files_only=True, do_pad=True)
        is_clip = _image_processor_type(folder).startswith("CLIP")
        processor: Any = CLIPImageProcessorPil if is_clip else LlavaImageProcessorPil
        return processor.from_pretrained(folder, local_files_only=True)

    def chat_encoder(self, *, line_break: bool = False) -> ChatEncoder:
        """Content is plain strings in which ``<image>`` is a token."""
        template = llava_template(self._tokenizer)
        self.own_template = "" if template == self._tokenizer.chat_template else template
        return ChatEncoder(self._tokenizer, IMAGE, template, protocols=self.protocols)

    @classmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """The tower is CLIP's and the tokenizer knows ``<image>``."""
        tower = module.config.vision_config.model_type
        if tower != SUPPORTED_TOWER:
            raise UserError(
                f"its vision tower is a {tower}",
                location=str(folder / "config.json"),
                hint=f"use a model with a {SUPPORTED_TOWER}",
            )
        if tokenizer.convert_tokens_to_ids(IMAGE) != module.config.image_token_id:
            raise UserError(
                f"the tokenizer does not know {IMAGE} as the model does",
                location=str(folder / "tokenizer.json"),
                hint="use the tokenizer that belongs to the model",
            )


def _image_processor_type(folder: Path) -> str:
    """The class of the folder's image processor; CLIP's if the folder does not name one."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            config = json.loads((folder / name).read_text("utf-8"))
            config = config.get("image_processor", config)
            if "image_processor_type" in config:
                return str(config["image_processor_type"])
    return "CLIPImageProcessor"
