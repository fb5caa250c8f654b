"""A chat model in a local folder, run by transformers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message
from methods.augmentation.hf_loading import digest_of, opened


class LocalChat:
    """Greedy, one reply at a time. Satisfies ``Chat``.

    Args:
        folder: Model and tokenizer in Hugging Face layout, weights as safetensors.

    Raises:
        UserError: The folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model, self._tokenizer, digest = opened(folder, AutoModelForCausalLM, AutoTokenizer)
        self.identity: Mapping[str, Any] = _identity(digest)
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The reply; what does not fit into the model's window is cut off at the front.

        Raises:
            Refused: A picture is shown.
        """
        import torch

        text = self._prompt([{"role": each["role"], "content": _text(each["content"])} for each in messages])
        window = getattr(self._model.config, "max_position_embeddings", 4096)
        with self._lock, torch.inference_mode():
            ids = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            room = min(max_tokens, window // 2)
            ids = ids[:, -(window - room) :].to(self._model.device)
            made = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, do_sample=False
            )
        new = made[0, ids.shape[1] :]
        said = self._tokenizer.decode(new, skip_special_tokens=True)
        return Completion(said, ids.shape[1], len(new), "cut" if len(new) >= room else "end")

    def _prompt(self, messages: Sequence[Message]) -> str:
        if self._tokenizer.chat_template:
            chat = [dict(message) for message in messages]
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"


def identity_of_folder(folder: Path) -> dict[str, Any]:
    """What, beside the messages, decides the replies of the model in a folder; nothing is loaded.

    Raises:
        UserError: The folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise UserError("this is no model folder: it has no config.json", location=str(folder), hint="check the path")
    return _identity(digest_of(folder))


def _identity(digest: str) -> dict[str, Any]:
    return {"kind": "local", "model": digest, "decoding": "greedy"}


def _text(content: Any) -> str:
    """The text of a message that may come in parts."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if any(part["type"] != "text" for part in parts):
        raise GenerationRefused("the local model cannot see pictures")
    return "\n".join(part["text"] for part in parts)
