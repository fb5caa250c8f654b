"""The plain call of Hugging Face on one dialogue at a time, to which a model family is compared."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.conformance.model_samples import shown
from harness.models.loading import open_folder, quiet_loading, read_config
from harness.models.processor_chat import with_fixed_date
from harness.models.processors import open_processor
from harness.models.vision import AS_PUBLISHED

NEW_TOKENS = 8
"""New tokens of each answer."""
Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class PlainRow:
    """A dialogue as the processor encodes it, and what the model's own ``forward`` computes of it.

    Attributes:
        ids: Token ids.
        logits: (tokens, vocabulary) float32, on the CPU.
    """

    ids: list[int]
    logits: torch.Tensor


class PlainCall:
    """Processor and model of a folder, in float32.

    Args:
        folder: Local folder in Hugging Face layout.
        device: Where to compute.
        template: A chat template that the family uses in place of the folder's; "" for the folder's own.

    Raises:
        UserError: The folder cannot be loaded.
    """

    def __init__(self, folder: Path, device: torch.device, template: str = "") -> None:
        module, self.tokenizer = open_folder(folder, str(read_config(folder)["architectures"][0]), torch.float32)
        self.module = module.to(device).eval().requires_grad_(False)
        self._processor, self._device = open_processor(folder, self.tokenizer, AS_PUBLISHED), device
        self._template = with_fixed_date(template or self._processor.chat_template)
        self._picture = str(getattr(self._processor, "image_token", None) or IMAGE)
        self._takes_suffix = "suffix" in inspect.signature(type(self._processor).__call__).parameters
        eos = module.generation_config.eos_token_id
        stops = (*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id)
        self.stops = sorted({int(token) for token in stops if token is not None})
        self._accepted = inspect.signature(type(module).forward).parameters.keys()
        self._parts = self._takes_parts()

    def training(self, sample: Conversation) -> list[PlainRow]:
        """A dialogue with its answers: one row, or one for each answer if the processor takes answers apart."""
        texts = tuple(turn.text for turn in sample.turns)
        if self._takes_suffix:
            return [
                self._run(texts[:turn], shown(texts[:turn], sample.pictures), suffix=texts[turn])
                for turn in range(1, len(texts), 2)
            ]
        end = self._missing_end()
        ended = tuple(text + end if turn % 2 else text for turn, text in enumerate(texts))
        return [self._run(ended, sample.pictures)]

    def prompt_ids(self, texts: Sequence[str], pictures: Sequence[Picture]) -> list[int]:
        """The ids of a dialogue that the model continues."""
        ids: list[int] = self._encode(texts, pictures)["input_ids"][0].tolist()
        return ids

    @torch.inference_mode()
    def answer(self, texts: Sequence[str], pictures: Sequence[Picture]) -> str:
        """The text of ``generate``, greedy, with the folder's own settings otherwise."""
        inputs = self._encode(texts, pictures)
        with quiet_loading():
            found = self.module.generate(
                **inputs,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=self.stops,
                pad_token_id=self.stops[0],
            )
        new = found[0, inputs["input_ids"].shape[1] :]
        text: str = self.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    @torch.inference_mode()
    def _run(self, texts: Sequence[str], pictures: Sequence[Picture], suffix: str = "") -> PlainRow:
        inputs = self._encode(texts, pictures, suffix)
        logits = self.module(**inputs, use_cache=False).logits[0].float().cpu()
        return PlainRow(inputs["input_ids"][0].tolist(), logits)

    def _encode(self, texts: Sequence[str], pictures: Sequence[Picture], suffix: str = "") -> dict[str, torch.Tensor]:
        """The processor's output for one dialogue."""
        text = self._render(self._messages(texts, self._parts), prompt=len(texts) % 2 == 1)
        bos = self.tokenizer.bos_token
        options: dict[str, Any] = {"suffix": suffix} if suffix else {}
        if bos is not None and text.startswith(bos):
            options["add_special_tokens"] = False
        try:
            # Nested, as the processors' own apply_chat_template passes them: some count the pictures of a dialogue.
            images = [[picture.pixels() for picture in pictures]] if pictures else None
            made = self._processor(text=[text], images=images, return_tensors="pt", **options)
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(
                f"the processor refuses it ({error})", location="plain call", hint="the model takes no such dialogue"
            ) from error
        return {
            name: value.to(self._device)
            for name, value in made.items()
            if name in self._accepted and name != "labels" and isinstance(value, torch.Tensor)
        }

    def _messages(self, texts: Sequence[str], parts: bool) -> Messages:
        contents = (list(_parts(text)) if parts else text.replace(IMAGE, self._picture) for text in texts)
        return [{"role": ("user", "assistant")[turn % 2], "content": each} for turn, each in enumerate(contents)]

    def _render(self, messages: Messages, *, prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=prompt
            )
        )

    def _takes_parts(self) -> bool:
        """Whether the template takes content as a list of texts and pictures."""
        try:
            text = self._render(self._messages((f"{IMAGE}\nWhat is it?",), True), prompt=True)
        except (TemplateError, TypeError, KeyError):
            return False
        return self._picture in text and "What is it?" in text

    def _missing_end(self) -> str:
        """The token to put after an answer if the template writes none."""
        text = self._render(self._messages(("What is it?", "Tea."), self._parts), prompt=False)
        after = text.rpartition("Tea.")[2].lstrip()
        ends = tuple(str(token) for token in self.tokenizer.convert_ids_to_tokens(self.stops))
        return "" if after.startswith(ends) else str(self.tokenizer.eos_token)


def _parts(text: str) -> Iterator[dict[str, str]]:
    """A text as a list; the line break after a picture's mark is part of the mark."""
    first, *rest = text.split(IMAGE)
    if first or not rest:
        yield {"type": "text", "text": first}
    for after in rest:
        yield {"type": "image"}
        if after.removeprefix("\n"):
            yield {"type": "text", "text": after.removeprefix("\n")}
