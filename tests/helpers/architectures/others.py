"""Gemma 3, PaliGemma, SmolVLM2, Idefics3 and Mistral 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helpers.architectures import templates
from helpers.architectures.spec import HIDDEN, PATCH, SIDE, SIGLIP, SQUARE, TEXT, TOWER, Architecture, llava_config

GRID = ("<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>", "<row_2_col_2>", "<global-img>")
IDEFICS_TOKENS = ("<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<image>", *GRID)
IDEFICS_PICTURES = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}


def _idefics(model_type: str) -> Callable[..., dict[str, Any]]:
    def config(ids: Mapping[str, int]) -> dict[str, Any]:
        return {
            "model_type": model_type,
            "text_config": {**TEXT, "model_type": "llama", "pad_token_id": ids["<|im_end|>"]},
            "vision_config": {**TOWER, "model_type": f"{model_type}_vision"},
            "image_token_id": ids["<image>"],
            "scale_factor": 2,
        }

    return config


ARCHITECTURES = {
    "gemma3": Architecture(
        class_name="Gemma3ForConditionalGeneration",
        hub="google/gemma-3-4b-it",
        tokens=(
            "<pad>",
            "<eos>",
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ),
        roles={
            "bos": "<bos>",
            "eos": "<eos>",
            "pad": "<pad>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        config=llava_config(
            "gemma3",
            "gemma3_text",
            SIGLIP,
            {
                "image_token_index": "<image_soft_token>",
                "boi_token_index": "<start_of_image>",
                "eoi_token_index": "<end_of_image>",
            },
            text={"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 24, "sliding_window_pattern": 2},
            mm_tokens_per_image=4,
        ),
        preprocessor={
            "size": SQUARE,
            "image_processor_type": "Gemma3ImageProcessor",
            "processor_class": "Gemma3Processor",
        },
        processor={"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        template=templates.GEMMA3,
        stops=("<end_of_turn>",),
        adds_bos=True,
        generation={"do_sample": True, "top_k": 64, "top_p": 0.95, "cache_implementation": "hybrid"},
    ),
    "paligemma": Architecture(
        class_name="PaliGemmaForConditionalGeneration",
        hub="google/paligemma2-3b-mix-224",
        tokens=("<pad>", "<eos>", "<bos>", "<image>"),
        roles={"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "image_token": "<image>"},
        config=llava_config(
            "paligemma",
            "gemma2",
            {**SIGLIP, "projection_dim": HIDDEN},
            {"image_token_index": "<image>"},
            text={"head_dim": 8, "query_pre_attn_scalar": 8},
            projection_dim=HIDDEN,
            hidden_size=HIDDEN,
        ),
        preprocessor={
            "size": SQUARE,
            "image_seq_length": 16,
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "PaliGemmaProcessor",
        },
        processor={},
        template="",
        text_only=False,
    ),
    "smolvlm2": Architecture(
        class_name="SmolVLMForConditionalGeneration",
        hub="HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        tokens=(*IDEFICS_TOKENS, "<fake_token_around_image>"),
        roles={
            "bos": "<|im_start|>",
            "eos": "<end_of_utterance>",
            "pad": "<|im_end|>",
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        config=_idefics("smolvlm"),
        preprocessor={
            **IDEFICS_PICTURES,
            "image_processor_type": "SmolVLMImageProcessor",
            "processor_class": "SmolVLMProcessor",
        },
        processor={"image_seq_len": 4, "processor_class": "SmolVLMProcessor"},
        template=templates.IDEFICS.format(start="<|im_start|>"),
    ),
    "idefics3": Architecture(
        class_name="Idefics3ForConditionalGeneration",
        hub="HuggingFaceM4/Idefics3-8B-Llama3",
        tokens=(*IDEFICS_TOKENS, "<fake_token_around_image>"),
        roles={"bos": "<|begin_of_text|>", "eos": "<end_of_utterance>", "pad": "<|im_end|>"},
        config=_idefics("idefics3"),
        preprocessor={
            **IDEFICS_PICTURES,
            "image_processor_type": "Idefics3ImageProcessor",
            "processor_class": "Idefics3Processor",
        },
        processor={"image_seq_len": 4, "processor_class": "Idefics3Processor"},
        template=templates.IDEFICS.format(start="<|begin_of_text|>"),
        adds_bos=True,
    ),
    "mistral3": Architecture(
        class_name="Mistral3ForConditionalGeneration",
        hub="mistralai/Mistral-Small-3.1-24B-Instruct-2503",
        tokens=(
            "<unk>",
            "<s>",
            "</s>",
            "<pad>",
            "[INST]",
            "[/INST]",
            "[SYSTEM_PROMPT]",
            "[/SYSTEM_PROMPT]",
            "[IMG]",
            "[IMG_BREAK]",
            "[IMG_END]",
        ),
        roles={"bos": "<s>", "eos": "</s>", "pad": "<pad>"},
        config=llava_config(
            "mistral3",
            "mistral",
            {**TOWER, "model_type": "pixtral", "image_size": 2 * SIDE},
            {"image_token_index": "[IMG]"},
            text={"head_dim": 8, "sliding_window": None},
            spatial_merge_size=2,
            vision_feature_layer=-1,
            tie_word_embeddings=False,
        ),
        preprocessor={
            "size": {"longest_edge": 2 * SIDE},
            "patch_size": PATCH,
            "image_processor_type": "PixtralImageProcessorFast",
            "processor_class": "PixtralProcessor",
        },
        processor={
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "image_token": "[IMG]",
            "image_break_token": "[IMG_BREAK]",
            "image_end_token": "[IMG_END]",
            "processor_class": "PixtralProcessor",
        },
        template=templates.MISTRAL3,
        adds_bos=True,
    ),
}
