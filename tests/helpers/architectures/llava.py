"""The successors of LLaVA-1.5, and LLaVA with another tower."""

from __future__ import annotations

from helpers.architectures import templates
from helpers.architectures.spec import (
    CHAT,
    CLIP,
    PATCH,
    PINPOINTS,
    SIDE,
    SIGLIP,
    SQUARE,
    STOPS,
    Architecture,
    llava_config,
)

ARCHITECTURES = {
    "llava-next": Architecture(
        class_name="LlavaNextForConditionalGeneration",
        hub="llava-hf/llava-v1.6-vicuna-7b-hf",
        tokens=("<unk>", "<s>", "</s>", "<image>", "<pad>"),
        roles={"bos": "<s>", "eos": "</s>", "pad": "<pad>", "image_token": "<image>"},
        config=llava_config(
            "llava_next",
            "llama",
            CLIP,
            {"image_token_index": "<image>"},
            image_grid_pinpoints=PINPOINTS,
            image_seq_length=16,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        ),
        preprocessor={
            "size": {"shortest_edge": SIDE},
            "crop_size": SQUARE,
            "image_grid_pinpoints": PINPOINTS,
            "image_processor_type": "LlavaNextImageProcessor",
        },
        processor={
            "patch_size": PATCH,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
            "image_token": "<image>",
            "processor_class": "LlavaNextProcessor",
        },
        template=templates.VICUNA,
        adds_bos=True,
    ),
    "llava-onevision": Architecture(
        class_name="LlavaOnevisionForConditionalGeneration",
        hub="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        tokens=(*CHAT, "<image>", "<video>"),
        roles=STOPS,
        config=llava_config(
            "llava_onevision",
            "qwen2",
            SIGLIP,
            {"image_token_index": "<image>", "video_token_index": "<video>"},
            image_grid_pinpoints=PINPOINTS,
            vision_aspect_ratio="anyres_max_9",
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        preprocessor={
            "size": SQUARE,
            "image_grid_pinpoints": PINPOINTS,
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
        },
        processor={
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_9",
            "processor_class": "LlavaOnevisionProcessor",
        },
        template=templates.ONEVISION,
    ),
    "llava-siglip": Architecture(
        class_name="LlavaForConditionalGeneration",
        hub="llava-hf/llava-interleave-qwen-0.5b-hf",
        tokens=(*CHAT, "<image>"),
        roles=STOPS,
        config=llava_config(
            "llava",
            "qwen2",
            SIGLIP,
            {"image_token_index": "<image>"},
            image_seq_length=16,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        preprocessor={
            "size": SQUARE,
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "LlavaProcessor",
        },
        processor={
            "patch_size": PATCH,
            "num_additional_image_tokens": 0,
            "vision_feature_select_strategy": "full",
            "image_token": "<image>",
            "processor_class": "LlavaProcessor",
        },
        template=templates.ONEVISION,
    ),
}
