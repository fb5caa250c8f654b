"""Dialogues as text by a processor's chat template, and where the assistant's answers are in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from benchmarks.errors import UserError
from benchmarks.records import IMAGE

FIXED_DATE = (
    "{%- macro strftime_now(format) -%}{{- format|replace('%Y', '2025')|replace('%y', '25')|replace('%m', '01')"
    "|replace('%d', '01')|replace('%e', '1')|replace('%B', 'January')|replace('%b', 'Jan')|replace('%A', 'Wednesday')"
    "|replace('%a', 'Wed')|replace('%H', '00')|replace('%M', '00')|replace('%S', '00') -}}{%- endmacro %}"
)
"""What precedes a template that writes today's date: a model must answer tomorrow as it does today."""
PROBE = "What is it?"
_PRIVATE = range(0xE000, 0xF8FF)
"""Characters that no text should contain."""
Spans = tuple[tuple[int, int], ...]
"""First character and the one after the last of each answer."""


class ProcessorChat:
    """Alternating texts of a user and an assistant, as the folder's chat template writes them.

    Control tokens in the texts are dropped, except ``<image>`` in a user's text, which stands for a picture.

    Args:
        processor: Of transformers, with a chat template.
        stops: Ids of the tokens that end an answer.
        line_break: Whether to keep the line break after ``<image>`` in LLaVA's data, where the template takes pictures
            and texts as separate parts.
        template: Used instead of the processor's own chat template.

    Raises:
        UserError: There is no template, or it cannot be used for pictures.
    """

    def __init__(self, processor: Any, stops: Sequence[int], *, line_break: bool = False, template: str = "") -> None:
        self._processor, self._dropped = processor, "" if line_break else "\n"
        self._template = with_fixed_date(template or processor.chat_template)
        tokenizer = processor.tokenizer
        self._picture = str(getattr(processor, "image_token", None) or IMAGE)
        self._stops = tuple(str(token) for token in tokenizer.convert_ids_to_tokens(list(stops)))
        names = {IMAGE, self._picture, *tokenizer.all_special_tokens, *self._stops}
        self._controls = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        self._rendered = lru_cache(maxsize=1_000)(self._render)
        self._parts = True
        self._parts = self._takes_parts()
        self.added_end = ""
        """What is added to an answer in training: a token that ends it, where the template writes none."""
        self.added_end = self._missing_end()

    def prompt(self, texts: Sequence[str]) -> str:
        """The text of a dialogue, up to where the assistant's next one begins if it ends with a user's."""
        return self._rendered(tuple(texts), prompt=len(texts) % 2 == 1)

    def dialogue(self, texts: Sequence[str]) -> tuple[str, Spans]:
        """The text of a dialogue that ends with an assistant's answer, and where its answers are, without their ends.

        The template is rendered a second time with a mark in the place of each answer.

        Raises:
            UserError: The template changes the answers, or what is around them depends on them.
        """
        written = tuple(self.plain(text) + self.added_end if turn % 2 else text for turn, text in enumerate(texts))
        mark = next(chr(code) for code in _PRIVATE if not any(chr(code) in text for text in texts))
        text = self._rendered(written, prompt=False, end=self.added_end)
        marked = tuple(mark + self.added_end if turn % 2 else text for turn, text in enumerate(written))
        around = self._rendered(marked, prompt=False, end=self.added_end).split(mark)
        answers = [self.plain(answer) for answer in texts[1::2]]
        if len(around) != len(answers) + 1 or not text.startswith(around[0]):
            raise self._unusable("it changes the assistant's answers")
        spans: list[tuple[int, int]] = []
        place = len(around[0])
        for answer, after in zip(answers, around[1:], strict=True):
            forms = (answer, answer.strip(), answer.lstrip(), answer.rstrip())
            form = next((each for each in forms if text.startswith(each + after, place)), None)
            if form is None:
                raise self._unusable("it changes the assistant's answers")
            spans.append((place, place + len(form)))
            place += len(form) + len(after)
        return text, tuple(spans)

    def plain(self, text: str) -> str:
        """An assistant's text without control tokens."""
        return self._controls.sub("", text)

    def _takes_parts(self) -> bool:
        """Whether content is a list of texts and pictures, or else a text in which the picture is a token."""
        if not isinstance(self._template, str):
            raise UserError(
                "the chat template is missing", location="processor", hint="download chat_template.jinja or .json"
            )
        for self._parts in (True, False):
            try:
                alone = self._render((PROBE,), prompt=True)
                shown = self._render((f"{IMAGE}\n{PROBE}",), prompt=True)
            except (TemplateError, TypeError, KeyError):
                continue
            if PROBE in alone and PROBE in shown and self._picture in shown and self._picture not in alone:
                return self._parts
        raise self._unusable("it writes no picture")

    def _missing_end(self) -> str:
        """The token that ends an answer if the template itself writes none."""
        text, spans = self.dialogue((PROBE, "Tea, or not.", PROBE, "Yes."))
        if all(text[end:].lstrip().startswith(self._stops) for _, end in spans):
            return ""
        if self._processor.tokenizer.eos_token is None:
            raise self._unusable("it ends no answer, and the tokenizer has no token for it")
        return str(self._processor.tokenizer.eos_token)

    def _render(self, texts: tuple[str, ...], *, prompt: bool, end: str = "") -> str:
        messages = [
            {"role": ("user", "assistant")[turn % 2], "content": self._content(text, turn % 2 == 0, end)}
            for turn, text in enumerate(texts)
        ]
        return str(
            self._processor.tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        )

    def _content(self, text: str, user: bool, end: str) -> str | list[dict[str, str]]:
        if not user:
            plain = self.plain(text.removesuffix(end)) + end if end else self.plain(text)
            return [{"type": "text", "text": plain}] if self._parts else plain
        plain = self._controls.sub(lambda match: IMAGE if match[0] == IMAGE else "", text)
        if not self._parts:
            return plain.replace(IMAGE, self._picture)
        first, *rest = plain.split(IMAGE)
        content = [{"type": "text", "text": first}]
        for after in rest:
            content += [{"type": "image"}, {"type": "text", "text": after.removeprefix(self._dropped)}]
        return [part for part in content if part.get("text") != ""] or content[:1]

    def _unusable(self, problem: str) -> UserError:
        return UserError(
            problem, location="chat template", hint="use a chat template that writes each text as it is (--plugin)"
        )


def with_fixed_date(template: Any) -> Any:
    """A chat template that writes 2025-01-01 where it would write today's date; anything else is unchanged."""
    return FIXED_DATE + template if isinstance(template, str) and "strftime_now" in template else template
