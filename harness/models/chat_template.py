"""Dialogues as token ids: a prefix has the same ids whatever follows it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
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

VLMEVALKIT_LLAVA = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. "
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] }} ASSISTANT: "
    "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
"""The text of VLMEvalKit's class for LLaVA (``system_prompt``, ``chat_inner``, ``generate_inner`` in llava.py)."""


def llava_template(tokenizer: Any) -> str:
    """The tokenizer's chat template if it takes plain strings, otherwise LLaVA-1.5's own text.

    Templates on the hub omit LLaVA-1.5's system prompt and ``</s>`` and expect content as a list of parts; a string is
    dropped without an error.
    """
    template = tokenizer.chat_template
    if isinstance(template, str):
        try:
            messages = [{"role": "user", "content": "What is it?"}]
            rendered = tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=True
            )
            if "What is it?" in str(rendered):
                return template
        except (TemplateError, TypeError):
            return VICUNA_V1
    return VICUNA_V1


def no_template(protocol: str) -> UserError:
    """The error of a model that has no template for a protocol."""
    return UserError(
        "the model has no chat template for this protocol",
        location=f"protocol {protocol}",
        hint="use --protocol vlmevalkit",
    )


class ChatEncoder:
    """Turns alternating user and assistant texts into segments of token ids by a chat template.

    Args:
        tokenizer: A Hugging Face tokenizer.
        image_token: The token at a picture's place.
        template: The chat template.
        parts: Whether the template takes content as a list of texts and pictures. The line break after ``<image>`` in
            LLaVA's data is then not part of the text,
        line_break: unless this keeps it.
        protocols: Templates that protocols use instead of the model's own, by protocol. They take plain strings.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_token: str,
        template: str,
        *,
        parts: bool = False,
        line_break: bool = False,
        protocols: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._tokenizer, self._template, self._parts, self._protocols = tokenizer, template, parts, protocols
        self._dropped = "" if line_break else "\n"
        self.image_id = int(tokenizer.convert_tokens_to_ids(image_token))
        specials = sorted({*tokenizer.all_special_tokens, IMAGE}, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, specials)))
        self._last_ids = lru_cache(maxsize=200_000)(self._encode_last)
        self._text = lru_cache(maxsize=1_000)(self._render)  # each turn needs the text of the previous turns again

    def segments(self, texts: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
        """Ids of each text, with what the template puts around it and one image token for each token of a picture.

        The first, third, ... segment ends where the assistant's text begins. Control tokens in the texts themselves are
        dropped, except ``<image>`` in a user's text.

        Args:
            texts: Alternating texts of the user and the assistant.
            sizes: Number of tokens of each picture in order; a marker without a picture becomes one token.
        """
        turns, remaining = tuple(texts), iter(sizes)
        return [self._expand(self._last_ids(turns[: turn + 1]), remaining) for turn in range(len(turns))]

    def prompt(self, texts: Sequence[str], sizes: Sequence[int], protocol: str = "") -> list[int]:
        """Ids of a dialogue that the model continues.

        In the template of a protocol the whole text is tokenized at once, cut at each picture, after one ``<s>``, as by
        LLaVA's own code (``tokenizer_image_token`` in llava/mm_utils.py). Such a dialogue need not begin with the ids
        of its first turns: a space at the end of a prompt and the answer after it can be one token.

        Args:
            texts: Alternating texts, ending with a user's.
            sizes: As for ``segments``.
            protocol: The protocol whose template to use; empty for the model's own.

        Raises:
            UserError: The model has no template for this protocol.
        """
        if not protocol:
            return [i for segment in self.segments(texts, sizes) for i in segment]
        if protocol not in self._protocols:
            raise no_template(protocol)
        start = self._tokenizer.bos_token_id
        first, *rest = self._render(tuple(texts), self._protocols[protocol]).split(IMAGE)
        ids = [*([] if start is None else [start]), *self._tokenize(first)]
        for part in rest:
            ids += [self.image_id, *self._tokenize(part)]
        return self._expand(ids, iter(sizes))

    def _encode_last(self, texts: tuple[str, ...]) -> array[int]:
        """Ids of the last of the texts; those of the earlier texts do not depend on it."""
        before, text = self._text(texts[:-1]), self._text(texts)
        if not text.startswith(before):
            raise UserError("it changes earlier turns", location="chat template", hint="use another template")
        ids = self._tokenize(text)
        earlier = [i for turn in range(1, len(texts)) for i in self._last_ids(texts[:turn])]
        if ids[: len(earlier)] == earlier:
            return array("i", ids[len(earlier) :])
        # Characters on the two sides of the boundary would merge into one token.
        return array("i", self._tokenize(text[len(before) :]))

    def _tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expand(self, ids: Sequence[int], sizes: Iterator[int]) -> list[int]:
        return [i for token in ids for i in ([token] * next(sizes, 1) if token == self.image_id else [token])]

    def _render(self, texts: tuple[str, ...], template: str = "") -> str:
        if not texts:
            return ""
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": self._content(text, user=turn % 2 == 0)}
            for turn, text in enumerate(texts)
        ]
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                chat_template=template or self._template,
                tokenize=False,
                add_generation_prompt=len(texts) % 2 == 1,
            )
        )

    def _content(self, text: str, *, user: bool) -> str | list[dict[str, str]]:
        plain = self._controls.sub(lambda match: IMAGE if user and match[0] == IMAGE else "", text)
        if not self._parts:
            return plain
        first, *rest = plain.split(IMAGE)
        content = [{"type": "text", "text": first}]
        for after in rest:
            content += [{"type": "image"}, {"type": "text", "text": after.removeprefix(self._dropped)}]
        return [part for part in content if part.get("text") != ""]
