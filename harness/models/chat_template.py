"""Dialogues as token ids: the same prefix in training and in generation, whatever follows it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

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


def llava_template(tokenizer: Any) -> str:
    """The tokenizer's chat template where it takes plain strings; LLaVA-1.5's own text everywhere else.

    Templates on the hub leave LLaVA-1.5's system prompt and ``</s>`` out and want content as a list of parts; given a
    string they silently drop it.
    """
    template = tokenizer.chat_template
    if isinstance(template, str):
        try:
            asked = [{"role": "user", "content": "What is it?"}]
            shown = tokenizer.apply_chat_template(
                asked, chat_template=template, tokenize=False, add_generation_prompt=True
            )
            if "What is it?" in str(shown):
                return template
        except (TemplateError, TypeError):
            return VICUNA_V1
    return VICUNA_V1


class ChatEncoder:
    """Turns alternating user and assistant texts into segments of token ids by a chat template.

    Args:
        tokenizer: A Hugging Face tokenizer.
        image_token: The token that stands in a picture's place.
        template: The chat template.
        parts: Whether the template gets content as a list of texts and pictures. The line break that LLaVA's data has
            after ``<image>`` is no part of the text then.
    """

    def __init__(self, tokenizer: Any, image_token: str, template: str, *, parts: bool = False) -> None:
        self._tokenizer, self._template, self._parts = tokenizer, template, parts
        self.image_id = int(tokenizer.convert_tokens_to_ids(image_token))
        specials = sorted({*tokenizer.all_special_tokens, IMAGE}, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, specials)))
        self._prefix = lru_cache(maxsize=200_000)(self._encode)
        self._text = lru_cache(maxsize=1_000)(self._rendered)  # what one turn ends with, the next begins with

    def segments(self, texts: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
        """Ids of each text in turn with all that the template puts round it; pictures are expanded.

        The first, third, ... segment ends where the assistant begins to speak. Control tokens that stand in the texts
        themselves are dropped, but for ``<image>`` in a user's text.

        Args:
            texts: What the user and the assistant say in turn.
            sizes: Number of tokens of each picture in order; a marker without a picture keeps one place.
        """
        said, left = tuple(texts), iter(sizes)
        return [self._expanded(self._prefix(said[: turn + 1]), left) for turn in range(len(said))]

    def _encode(self, texts: tuple[str, ...]) -> array[int]:
        """Ids of the last of the texts. What stands before it has the same ids whatever follows."""
        before, whole = self._text(texts[:-1]), self._text(texts)
        if not whole.startswith(before):
            raise UserError("it changes what was said before", location="chat template", hint="use another template")
        ids, known = self._tokenise(whole), [i for turn in range(1, len(texts)) for i in self._prefix(texts[:turn])]
        if ids[: len(known)] == known:
            return array("i", ids[len(known) :])
        # Letters on the two sides of the boundary would merge into one token.
        return array("i", self._tokenise(whole[len(before) :]))

    def _tokenise(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expanded(self, ids: Sequence[int], sizes: Iterator[int]) -> list[int]:
        return [i for token in ids for i in ([token] * next(sizes, 1) if token == self.image_id else [token])]

    def _rendered(self, texts: tuple[str, ...]) -> str:
        if not texts:
            return ""
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": self._content(text, user=turn % 2 == 0)}
            for turn, text in enumerate(texts)
        ]
        asked = len(texts) % 2 == 1
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=asked
            )
        )

    def _content(self, text: str, *, user: bool) -> str | list[dict[str, str]]:
        plain = self._controls.sub(lambda found: IMAGE if user and found[0] == IMAGE else "", text)
        if not self._parts:
            return plain
        first, *rest = plain.split(IMAGE)
        content = [{"type": "text", "text": first}]
        for after in rest:
            content += [{"type": "image"}, {"type": "text", "text": after.removeprefix("\n")}]
        return [part for part in content if part.get("text") != ""]
