"""What vLLM is started with for a model and what is attached to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.models.base import LanguageVisionModel
from harness.models.context_window import context_window
from harness.serving.adapter import adapter_rank, write_adapter
from harness.serving.engine import EngineSpec, served_rank

if TYPE_CHECKING:
    from methods.interfaces import Tensors

FREE_SHARE = 0.9
"""Share of a GPU's free memory that the engine may take; the built-in one keeps its model beside it."""


def engine_spec(
    model: LanguageVisionModel, folder: Path, batch_size: int, longest: int, adapter: Tensors, scratch: Path
) -> EngineSpec:
    """The engine for a base and one adapter. Pictures come as embeddings, so the towers are not even loaded.

    Args:
        model: The base, with or without the adapter.
        folder: Where its weights are.
        batch_size: Questions at once.
        longest: Tokens of the longest prompt with its answer. The built-in engine does not end at the model's window.
        adapter: From ``served_adapter``.
        scratch: Where the adapter's folder is written.
    """
    options: dict[str, Any] = {
        "model": str(folder),
        "dtype": str(model.inner.dtype).removeprefix("torch."),
        "seed": 0,
        "max_model_len": max(longest, context_window(model) or 0),
        "max_num_seqs": batch_size,
        "enable_mm_embeds": True,
        "limit_mm_per_prompt": dict.fromkeys(_modalities(model), 0),
        "generation_config": "vllm",  # the folder's would set penalties and temperatures beside ours
        "enforce_eager": model.device.type == "cpu",  # compiling takes longer there than it saves
        "disable_log_stats": True,
    }
    if exceeds_window(model, longest):
        options["hf_overrides"] = {"text_config": {"max_position_embeddings": longest}}
    if adapter:
        options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": served_rank(adapter_rank(adapter))}
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(model.device)
        options["gpu_memory_utilization"] = round(FREE_SHARE * free / total, 2)
    return EngineSpec(options, sorted(model.stops), write_adapter(model, adapter, scratch) if adapter else None)


def exceeds_window(model: LanguageVisionModel, tokens: int) -> bool:
    """Whether this many tokens are more than the positions that the decoder was built for."""
    window = context_window(model)
    return window is not None and tokens > window


def has_plain_positions(model: LanguageVisionModel) -> bool:
    """Whether the angles of positions are the same whatever the number of positions, so that more can be added."""
    rope = getattr(model.inner.config.get_text_config(), "rope_parameters", None) or {}
    return bool(rope) and rope.get("rope_type", "") == "default"


def _modalities(model: LanguageVisionModel) -> tuple[str, ...]:
    """What vLLM's class of the model may be given besides text."""
    return tuple(
        kind for kind in ("image", "video") if getattr(model.inner.config, f"{kind}_token_id", None) is not None
    )
