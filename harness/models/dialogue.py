"""Dialogues as token ids: the same prefix in training and in generation, whatever follows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import IMAGE

VICUNA_V1 = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] }} ASSISTANT:"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
"""The text of LLaVA-1.5 (conversation template v1 of the LLaVA repository)."""


class DialogueEncoder:
    """Turns alternating user and assistant texts into segments of token ids by the tokenizer's chat template.

    Args:
        tokenizer: A Hugging Face tokenizer. Its chat template must take plain strings as content; otherwise
            LLaVA-1.5's text is used.
        image_tokens: Number of ids that one ``<image>`` stands for.
    """

    def __init__(self, tokenizer: Any, image_tokens: int) -> None:
        self._tokenizer, self._image_tokens = tokenizer, image_tokens
        self._template = tokenizer.chat_template if self._takes_strings(tokenizer.chat_template) else VICUNA_V1
        self.image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        specials = sorted((token for token in tokenizer.all_special_tokens), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, specials)))
        self._ids = lru_cache(maxsize=50_000)(self._tokenise)

    def segments(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text in turn with all that the template puts round it; pictures are expanded.

        The first, third, ... segment ends where the assistant begins to speak; the others end with ``</s>``. Control
        tokens that stand in the texts themselves are dropped, but for ``<image>`` in a user's text.
        """
        whole: tuple[int, ...] = ()
        rendered, segments = "", []
        for turn in range(1, len(texts) + 1):
            longer = self._rendered(texts[:turn], self._template)
            if not longer.startswith(rendered):
                raise UserError("it changes what was said before", where="chat template", mend="use another template")
            ids = self._ids(longer)
            if ids[: len(whole)] != whole:  # letters on the two sides of the boundary would merge
                ids = whole + self._ids(longer[len(rendered) :])
            segments.append(self._expanded(ids[len(whole) :]))
            rendered, whole = longer, ids
        return segments

    def _tokenise(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expanded(self, ids: Sequence[int]) -> list[int]:
        return [i for token in ids for i in ([token] * self._image_tokens if token == self.image_id else [token])]

    def _rendered(self, texts: Sequence[str], template: Any) -> str:
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": self._plain(text, user=turn % 2 == 0)}
            for turn, text in enumerate(texts)
        ]
        asked = len(texts) % 2 == 1
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=asked
            )
        )

    def _plain(self, text: str, *, user: bool) -> str:
        return self._controls.sub(lambda found: IMAGE if user and found[0] == IMAGE else "", text)

    def _takes_strings(self, template: Any) -> bool:
        """Many templates want content as a list of parts; given a string they silently drop it."""
        if not isinstance(template, str):
            return False
        from jinja2 import TemplateError

        self._controls = re.compile("(?!)")
        try:
            return "What is it?" in self._rendered(["What is it?"], template)
        except (TemplateError, TypeError):
            return False
