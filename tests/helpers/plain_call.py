"""The plain Hugging Face call on a checkpoint: processor and model, one dialogue at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.records import IMAGE, Picture
from helpers.tiny_architectures import plain_model, plain_processor

Dialogue = tuple[Sequence[str], Sequence[Picture]]
"""Alternating user and assistant texts, and the pictures whose places ``<image>`` marks, in order."""


class PlainCall:
    """Processor and model of a folder, as a user of transformers would call them.

    Args:
        folder: Of the checkpoint.
        date: Stands in the chat template for today's date.
    """

    def __init__(self, folder: Path, date: str = "2025-01-01") -> None:
        self.processor, self.model = plain_processor(folder), plain_model(folder)
        template = self.processor.chat_template
        self.processor.chat_template = template and template.replace("strftime_now('%Y-%m-%d')", f"'{date}'")

    def inputs(self, dialogue: Dialogue) -> Any:
        """What ``forward`` takes; with a generation prompt if the dialogue ends with the user."""
        texts, pictures = dialogue
        if self.processor.chat_template is None:
            return self._without_template(texts, pictures)
        left = list(pictures)
        messages = []
        for place, text in enumerate(texts):
            parts: list[dict[str, Any]] = []
            for number, piece in enumerate(text.split(IMAGE)):
                if number:
                    parts.append({"type": "image", "image": left.pop(0).pixels()})
                if piece := piece.removeprefix("\n") if number else piece:
                    parts.append({"type": "text", "text": piece})
            messages.append({"role": ("user", "assistant")[place % 2], "content": parts})
        return self.processor.apply_chat_template(
            messages,
            add_generation_prompt=len(texts) % 2 == 1,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def logits(self, dialogue: Dialogue) -> torch.Tensor:
        """Of every position (tokens, vocabulary)."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**self.inputs(dialogue)).logits[0]
        return logits

    def answer(self, dialogue: Dialogue, new: int) -> str:
        """The greedy answer of at most this many tokens."""
        inputs = self.inputs(dialogue)
        with torch.inference_mode():
            ids = self.model.generate(**inputs, max_new_tokens=new, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    def _without_template(self, texts: Sequence[str], pictures: Sequence[Picture]) -> Any:
        """A prompt with the pictures first; a second text is the answer, as this processor's ``suffix``."""
        question, *answer = texts
        prompt = self.processor.image_token * len(pictures) + question.replace(f"{IMAGE}\n", "").replace(IMAGE, "")
        suffix = {"suffix": answer[0]} if answer else {}
        images = [picture.pixels() for picture in pictures]
        inputs = self.processor(text=prompt, images=[images], return_tensors="pt", **suffix)
        inputs.pop("labels", None)
        return inputs
