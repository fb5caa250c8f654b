"""Folders with nothing but the ``config.json`` of a published model: its shapes without its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LLAMA = {"model_type": "llama", "vocab_size": 32064}
_CONFIGS: dict[str, dict[str, Any]] = {
    # As on the hub, where transformers' defaults complete what is not written.
    "llava-1.5-7b": {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": _LLAMA},
    "llava-1.5-13b": {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {
            **_LLAMA,
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_attention_heads": 40,
            "num_hidden_layers": 40,
            "num_key_value_heads": 40,
        },
    },
    "qwen2.5-vl-7b": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 3584},
    },
}


def write_shapes(folder: Path, preset: str) -> Path:
    """Write the configuration of a real preset's model; returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIGS[preset]))
    return folder
