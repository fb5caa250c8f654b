"""Tiny random checkpoints of today's image-text classes, each in a folder with the layout of its published one.

``write(name, folder)`` makes one in less than a second. ``plain_processor`` and ``plain_model`` open it with code of
Hugging Face alone, as the reference of tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import AddedToken, processors
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from helpers.architectures import llava, others, qwen
from helpers.architectures.spec import Architecture
from helpers.missing_libraries import replace_missing_libraries
from helpers.published_models import random_model, train_tokenizer

ARCHITECTURES: dict[str, Architecture] = {**qwen.ARCHITECTURES, **llava.ARCHITECTURES, **others.ARCHITECTURES}
"""By a short name."""


def write(name: str, folder: Path, *, one_head: bool = False) -> Path:
    """Write the architecture of this name as float16 shards with tokenizer and processor; always the same weights.

    With ``one_head`` the decoder has one wide head, since attention kernels have no narrow ones.
    """
    architecture = ARCHITECTURES[name]
    tokenizer = _tokenizer(architecture)
    ids = tokenizer.get_vocab()
    described = architecture.config(ids)
    roles = {"bos": architecture.roles["pad"], **architecture.roles}
    stops = {f"{role}_token_id": ids[roles[role]] for role in ("bos", "eos", "pad")}
    heads = _one_head(described["text_config"]) if one_head else {}
    described["text_config"] = {**described["text_config"], **heads, "vocab_size": len(tokenizer), **stops}
    config = AutoConfig.for_model(described.pop("model_type"), **described)
    model = random_model(AutoModelForImageTextToText._model_mapping[type(config)], config)
    _let_inputs_matter(model)
    if architecture.stops:
        stops["eos_token_id"] = [stops["eos_token_id"], *(ids[token] for token in architecture.stops)]
    model.generation_config.update(**stops, **(architecture.generation or {}))
    model.half().save_pretrained(folder, max_shard_size="60KB")
    tokenizer.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", architecture.preprocessor)
    if architecture.processor:
        _write_json(folder / "processor_config.json", architecture.processor)
    if architecture.template:
        (folder / "chat_template.jinja").write_text(architecture.template)
    return folder


def _one_head(text: Mapping[str, Any]) -> dict[str, Any]:
    """What differs in a decoder's config with one head of the hidden width."""
    width, rope = text["hidden_size"], text.get("rope_parameters", {})
    sections = {"mrope_section": [width // 8, width // 8 + 2, width // 4 - 2]} if "mrope_section" in rope else {}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": width}
    return {**heads, **({"rope_parameters": {**rope, **sections}} if rope else {})}


def _let_inputs_matter(model: Any) -> None:
    """Without this the last token alone would decide where embeddings are tied, or earlier ones be forgotten."""
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    scale = getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("A_log"):
                weight.copy_(torch.linspace(-5.0, -2.0, weight.numel()))
            elif tied and weight is model.get_input_embeddings().weight:
                weight.mul_(0.3 / scale)


def plain_processor(folder: Path) -> Any:
    """Hugging Face's own processor, made of the folder's parts, for pictures without torchvision."""
    replace_missing_libraries()
    config = AutoConfig.from_pretrained(folder)
    kind: type[ProcessorMixin] = PROCESSOR_MAPPING[type(config)]

    class Plain(kind):  # type: ignore[misc, valid-type]
        """Its own, which supports no videos."""

        def check_argument_for_proper_class(self, _: str, argument: Any) -> type:
            return type(argument)

    described = folder / "processor_config.json"
    settings = json.loads(described.read_text()) if described.exists() else {}
    settings.pop("processor_class", None)
    template = folder / "chat_template.jinja"
    parts = [AutoImageProcessor.from_pretrained(folder, backend="pil"), PreTrainedTokenizerFast.from_pretrained(folder)]
    if "video_processor" in kind.get_attributes():
        parts.append(SimpleNamespace(num_frames=None, fps=None))  # SmolVLM's reads them even without a video
    return Plain(*parts, chat_template=template.read_text() if template.exists() else None, **settings)


def plain_model(folder: Path) -> Any:
    """The model as Hugging Face loads it, in float32."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def _tokenizer(architecture: Architecture) -> PreTrainedTokenizerFast:
    roles = {role: token for role, token in architecture.roles.items() if role in ("bos", "eos", "pad")}
    tokenizer = train_tokenizer(architecture.tokens, **roles)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in architecture.words])
    named = {role: token for role, token in architecture.roles.items() if role not in roles}
    if named:
        tokenizer._set_model_specific_special_tokens(special_tokens=named)
        tokenizer.init_kwargs["extra_special_tokens"] = named
    if architecture.adds_bos:
        bos = architecture.roles["bos"]
        ids = [(bos, tokenizer.get_vocab()[bos])]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=ids
        )
    return tokenizer


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))
