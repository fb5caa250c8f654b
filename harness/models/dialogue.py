"""Dialogues as token ids: the same prefix in training and in generation, whatever follows it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
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


class DialogueEncoder:
    """Turns alternating user and assistant texts into segments of token ids by the tokenizer's chat template.

    Args:
        tokenizer: A Hugging Face tokenizer. Its chat template must take plain strings as content; otherwise
            LLaVA-1.5's text is used.
        image_tokens: Number of ids that one ``<image>`` stands for.
    """

    def __init__(self, tokenizer: Any, image_tokens: int) -> None:
        self._tokenizer, self._image_tokens = tokenizer, image_tokens
        self.image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        specials = sorted((token for token in tokenizer.all_special_tokens), key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, specials)))
        self._template = tokenizer.chat_template
        if not self._takes_strings():
            self._template = VICUNA_V1
        self._prefix = lru_cache(maxsize=200_000)(self._encode)
        self._text = lru_cache(maxsize=1_000)(self._rendered)  # what one turn ends with, the next begins with

    def segments(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text in turn with all that the template puts round it; pictures are expanded.

        The first, third, ... segment ends where the assistant begins to speak; the others end with ``</s>``. Control
        tokens that stand in the texts themselves are dropped, but for ``<image>`` in a user's text.
        """
        said = tuple(texts)
        return [self._expanded(self._prefix(said[: turn + 1])) for turn in range(len(said))]

    def _encode(self, texts: tuple[str, ...]) -> array[int]:
        """Ids of the last of the texts. What stands before it has the same ids whatever follows."""
        before, whole = self._text(texts[:-1]), self._text(texts)
        if not whole.startswith(before):
            raise UserError("it changes what was said before", where="chat template", mend="use another template")
        ids, known = self._tokenise(whole), [i for turn in range(1, len(texts)) for i in self._prefix(texts[:turn])]
        if ids[: len(known)] == known:
            return array("i", ids[len(known) :])
        # Letters on the two sides of the boundary would merge into one token.
        return array("i", self._tokenise(whole[len(before) :]))

    def _tokenise(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expanded(self, ids: Iterable[int]) -> list[int]:
        return [i for token in ids for i in ([token] * self._image_tokens if token == self.image_id else [token])]

    def _rendered(self, texts: tuple[str, ...]) -> str:
        if not texts:
            return ""
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": self._plain(text, user=turn % 2 == 0)}
            for turn, text in enumerate(texts)
        ]
        asked = len(texts) % 2 == 1
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=asked
            )
        )

    def _plain(self, text: str, *, user: bool) -> str:
        return self._controls.sub(lambda found: IMAGE if user and found[0] == IMAGE else "", text)

    def _takes_strings(self) -> bool:
        """Many templates want content as a list of parts; given a string they silently drop it."""
        if not isinstance(self._template, str):
            return False
        try:
            return "What is it?" in self._rendered(("What is it?",))
        except (TemplateError, TypeError):
            return False
