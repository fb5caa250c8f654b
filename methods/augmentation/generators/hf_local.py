"""A chat model in a local folder, run by transformers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.model_folder import check_model_folder
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message
from methods.augmentation.hf_loading import folder_digest, load_model


class LocalChat:
    """Greedy decoding, one reply at a time. Satisfies ``Chat``.

    Args:
        folder: Model and tokenizer in Hugging Face layout, weights as safetensors.

    Raises:
        UserError: The folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model, self._tokenizer, digest = load_model(folder, AutoModelForCausalLM, AutoTokenizer)
        self.identity: Mapping[str, Any] = _identity(digest)
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """Reply; a prompt that does not fit the model's context is cut off at the front.

        Raises:
            GenerationRefused: A message contains a picture.
        """
        import torch

        prompt = self._prompt([{"role": each["role"], "content": _text(each["content"])} for each in messages])
        context = getattr(self._model.config, "max_position_embeddings", 4096)
        with self._lock, torch.inference_mode():
            ids = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
            limit = min(max_tokens, context // 2)
            ids = ids[:, -(context - limit) :].to(self._model.device)
            output = self._model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False
            )
        new = output[0, ids.shape[1] :]
        text = self._tokenizer.decode(new, skip_special_tokens=True)
        return Completion(text, ids.shape[1], len(new), "cut" if len(new) >= limit else "end")

    def _prompt(self, messages: Sequence[Message]) -> str:
        if self._tokenizer.chat_template:
            chat = [dict(message) for message in messages]
            return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"


def folder_identity(folder: Path) -> dict[str, Any]:
    """The ``identity`` of the model in a folder, without loading it.

    Raises:
        UserError: The folder holds no model.
    """
    check_model_folder(folder)
    return _identity(folder_digest(folder))


def _identity(digest: str) -> dict[str, Any]:
    return {"kind": "local", "model": digest, "decoding": "greedy"}


def _text(content: Any) -> str:
    """The text of a message's content, which may be a list of parts."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if any(part["type"] != "text" for part in parts):
        raise GenerationRefused("the local model cannot see pictures")
    return "\n".join(part["text"] for part in parts)
