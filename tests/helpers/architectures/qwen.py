"""Qwen's models, and InternVL around Qwen3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helpers.architectures import templates
from helpers.architectures.spec import CHAT, HIDDEN, PATCH, SIDE, SQUARE, STOPS, TEXT, TOWER, Architecture
from helpers.published_models import CHATML

QWEN = (*CHAT, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
QWEN3_PICTURES = {
    "patch_size": 16,
    "merge_size": 2,
    "size": {"shortest_edge": 64 * 64, "longest_edge": 32 * 32 * 30},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "processor_class": "Qwen3VLProcessor",
}
QWEN3_TOWER = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": HIDDEN, "patch_size": 16}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}


def _qwen(model_type: str, text: Mapping[str, Any], vision: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """The config of one of Qwen's models, whose vision towers differ in the names of their sizes."""

    def config(ids: Mapping[str, int]) -> dict[str, Any]:
        return {
            "model_type": model_type,
            "text_config": {**TEXT, "rope_parameters": MROPE, **text},
            "vision_config": {"depth": 3, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }

    return config


def _internvl(ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "model_type": "internvl",
        "text_config": {**TEXT, "model_type": "qwen3", "head_dim": 8},
        "vision_config": {
            **TOWER,
            "model_type": "internvl_vision",
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
            "layer_scale_init_value": 0.5,
        },
        "image_token_id": ids["<IMG_CONTEXT>"],
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
    }


ARCHITECTURES = {
    "qwen3-vl": Architecture(
        class_name="Qwen3VLForConditionalGeneration",
        hub="Qwen/Qwen3-VL-4B-Instruct",
        tokens=QWEN,
        roles=STOPS,
        stops=("<|endoftext|>",),
        config=_qwen(
            "qwen3_vl",
            {"head_dim": 8, "rope_parameters": {**MROPE, "mrope_interleaved": True}},
            {**QWEN3_TOWER, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        ),
        preprocessor=QWEN3_PICTURES,
        processor={},
        template=templates.QWEN3_VL,
        generation={"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0},
    ),
    "qwen2-vl": Architecture(
        class_name="Qwen2VLForConditionalGeneration",
        hub="Qwen/Qwen2-VL-2B-Instruct",
        tokens=QWEN,
        roles=STOPS,
        stops=("<|endoftext|>",),
        config=_qwen("qwen2_vl", {}, {"embed_dim": 32, "hidden_size": HIDDEN, "mlp_ratio": 2, "patch_size": 14}),
        preprocessor={
            "min_pixels": 56 * 56,
            "max_pixels": 28 * 28 * 30,
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
        },
        processor={},
        template=CHATML,
        generation={"do_sample": True, "temperature": 0.01, "top_p": 0.001, "top_k": 1},
    ),
    "qwen3.5": Architecture(
        class_name="Qwen3_5ForConditionalGeneration",
        hub="Qwen/Qwen3.5-4B",
        tokens=QWEN,
        words=("<think>", "</think>"),
        roles=STOPS,
        stops=("<|endoftext|>",),
        config=_qwen(
            "qwen3_5",
            {
                **LINEAR,
                "head_dim": 16,
                "num_hidden_layers": 4,
                "rope_parameters": {**MROPE, "mrope_section": [1, 1, 0], "mrope_interleaved": True},
            },
            {**QWEN3_TOWER, "num_position_embeddings": 64},
        ),
        preprocessor=QWEN3_PICTURES,
        processor={},
        template=templates.QWEN3_5,
    ),
    "internvl": Architecture(
        class_name="InternVLForConditionalGeneration",
        hub="OpenGVLab/InternVL3_5-4B-HF",
        tokens=(*CHAT, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        roles={
            **STOPS,
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        config=_internvl,
        preprocessor={
            "size": SQUARE,
            "min_patches": 1,
            "max_patches": 4,
            "crop_to_patches": False,
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "processor_class": "InternVLProcessor",
        },
        processor={"image_seq_length": 4, "processor_class": "InternVLProcessor"},
        template=templates.INTERNVL,
    ),
}
