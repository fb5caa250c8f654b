"""What a tiny checkpoint of an architecture is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN = 32
SIDE, PATCH = 56, 14
"""Of the square pictures of most vision towers here, in pixels; 4 x 4 patches."""
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
CLIP = {**TOWER, "model_type": "clip_vision_model"}
SIGLIP = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
SQUARE = {"height": SIDE, "width": SIDE}
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
STOPS = {"eos": "<|im_end|>", "pad": "<|endoftext|>"}


@dataclass(frozen=True)
class Architecture:
    """How to make a checkpoint of one class.

    Attributes:
        class_name: The model's class in transformers.
        hub: A published repository that has this layout.
        tokens: Special tokens; their ids are used by ``config``.
        words: Added tokens that are no special tokens.
        roles: Names of ``bos``, ``eos``, ``pad`` and of the tokens that the processor asks the tokenizer for.
        config: From the ids of all tokens to the content of ``config.json``, without ``vocab_size``.
        preprocessor: Content of ``preprocessor_config.json``.
        processor: Content of ``processor_config.json``.
        template: The chat template; "" if the published folder has none.
        adds_bos: Whether the tokenizer puts ``bos`` before every text.
        text_only: Whether the processor takes a prompt without pictures.
        stops: Tokens besides ``eos`` that end an answer by ``generation_config.json``.
        generation: Settings in ``generation_config.json`` besides the tokens.
    """

    class_name: str
    hub: str
    tokens: tuple[str, ...]
    roles: Mapping[str, str]
    config: Callable[[Mapping[str, int]], dict[str, Any]]
    preprocessor: Mapping[str, Any]
    processor: Mapping[str, Any]
    template: str
    adds_bos: bool = False
    text_only: bool = True
    stops: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    generation: Mapping[str, Any] | None = None


def llava_config(
    model_type: str,
    decoder: str,
    vision: Mapping[str, Any],
    tokens: Mapping[str, str],
    text: Mapping[str, Any] | None = None,
    **more: Any,
) -> Callable[..., dict[str, Any]]:
    """The config of one of the models that put a projected tower before a decoder.

    Args:
        model_type: As in ``config.json``, as are the other names.
        decoder: The decoder's ``model_type``.
        vision: Its ``vision_config``.
        tokens: The tokens whose ids it has, by the name there.
        text: What differs in its ``text_config``.
        more: Further settings.
    """

    def config(ids: Mapping[str, int]) -> dict[str, Any]:
        return {
            "model_type": model_type,
            "text_config": {**TEXT, "model_type": decoder, **(text or {})},
            "vision_config": dict(vision),
            **{name: ids[token] for name, token in tokens.items()},
            **more,
        }

    return config
