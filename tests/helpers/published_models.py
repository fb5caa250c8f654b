"""Tiny random checkpoints of the published classes, in folders with the hub's layout."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.records import Picture
from harness.conformance.tiny_model import CORPUS

CHATML = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's template for pictures and text."""
PARTS = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The template in the published LLaVA folders: neither system prompt nor ``</s>``."""

WORDS = ("Yes", "No", "A", "B", "C", "3", " Ghana")
"""The answers of a model written with ``brief``."""


@cache
def painted(seed: int, width: int, height: int) -> Picture:
    """A PNG of coloured blocks, of any size."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST).save(file, "PNG")
    return Picture(file.getvalue())


WIDE, TALL, SMALL = painted(1, 150, 60), painted(2, 70, 160), painted(3, 40, 40)


class Processor(Qwen2_5_VLProcessor):
    """Qwen's own, which supports no videos without torchvision."""

    def check_argument_for_proper_class(self, _: str, argument: Any) -> type:
        return type(argument)


def write_llava(folder: Path, *, brief: bool = False) -> Path:
    """As ``llava-hf/llava-1.5-7b-hf``: float16 shards, CLIP's penultimate layer, a processor that crops.

    With ``brief`` its answers are short; otherwise a random model generates up to the limit.
    """
    tokenizer = train_tokenizer(("<unk>", "<s>", "</s>", "<image>", "<pad>"), bos="<s>", eos="</s>", pad="<pad>")
    ids = tokenizer.get_vocab()
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids["<image>"],
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pad_token_id=ids["<pad>"],
        tie_word_embeddings=False,
    )
    model = random_model(LlavaForConditionalGeneration, config)
    model.generation_config.update(bos_token_id=ids["<s>"], eos_token_id=ids["</s>"], pad_token_id=ids["<pad>"])
    if brief:
        _make_brief(model, tokenizer)
    _save(model, tokenizer, folder, PARTS)
    CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    described = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    (folder / "processor_config.json").write_text(json.dumps({**described, "processor_class": "LlavaProcessor"}))
    return folder


def write_qwen(folder: Path, *, repetition_penalty: float = 1.05, brief: bool = False) -> Path:
    """As ``Qwen/Qwen2.5-VL-7B-Instruct``: a flat config, grouped queries, windows, almost zero temperature."""
    named = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer = train_tokenizer((*named, "<|image_pad|>", "<|video_pad|>"), eos="<|im_end|>", pad="<|endoftext|>")
    ids = tokenizer.get_vocab()
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
            "out_hidden_size": 48,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128000,
        vocab_size=len(tokenizer),
        rope_theta=1e6,
        rope_scaling={"type": "mrope", "mrope_section": [2, 2, 2]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    model = random_model(Qwen2_5_VLForConditionalGeneration, config)
    model.generation_config.update(
        do_sample=True,
        temperature=1e-6,
        repetition_penalty=repetition_penalty,
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
    )
    if brief:
        _make_brief(model, tokenizer)
    _save(model, tokenizer, folder, CHATML)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    described = json.loads((folder / "preprocessor_config.json").read_text())
    described.pop("size")
    described |= {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 30, "image_processor_type": "Qwen2VLImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return folder


def llava_processor(folder: Path) -> LlavaProcessor:
    """Hugging Face's own, made of the folder's parts."""
    described = json.loads((folder / "processor_config.json").read_text())
    described.pop("processor_class")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return LlavaProcessor(CLIPImageProcessorPil.from_pretrained(folder), tokenizer, **described)


def qwen_processor(folder: Path, **bounds: int) -> Processor:
    """Hugging Face's own, made of the folder's parts, optionally with other bounds."""
    images = Qwen2VLImageProcessorPil.from_pretrained(folder, **bounds)
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    return Processor(images, PreTrainedTokenizerFast.from_pretrained(folder), None, chat_template=template)


def train_tokenizer(
    specials: tuple[str, ...], *, eos: str, pad: str, bos: str | None = None
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    more = [token for token in specials if token not in (eos, pad, bos)]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, pad_token=pad, bos_token=bos, additional_special_tokens=more
    )


def random_model(model_class: Any, config: Any) -> Any:
    """A model with weights so large that every input gives another answer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(0.0, 0.6 if "embed_tokens" in name else 1.5 * weight[0].numel() ** -0.5)
                elif name.endswith("bias"):
                    weight.normal_(0.0, 0.3)
    return model


def _make_brief(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Have it start with a short answer, by large logits, and stop there, by the embedding of each answer."""
    ids = [tokens[0] for word in WORDS if len(tokens := tokenizer.encode(word, add_special_tokens=False)) == 1]
    with torch.no_grad():
        end = torch.nn.functional.normalize(model.lm_head.weight[tokenizer.eos_token_id], dim=0)
        model.lm_head.weight[ids] *= 6
        model.lm_head.weight[tokenizer.eos_token_id] = 7 * end
        model.get_input_embeddings().weight[ids] += 20 * end


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, template: str) -> None:
    model.half().save_pretrained(folder, max_shard_size="60KB")
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
