"""A generator over any chat model: asks, checks the reply against a schema, and asks again with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from benchmarks.records import KnowledgeItem
from methods.augmentation.generators import prompts
from methods.augmentation.generators import schemas as replies
from methods.augmentation.generators.base import Fact, GenerationRefused, Round, ShortQuestion
from methods.augmentation.text import contains_word, sentences

TRIES = 3
TEXT_LIMIT = 12_000
"""Characters of a text that a model is shown; a longer one is cut at a sentence."""
Message = Mapping[str, Any]
"""``role`` and ``content``: a text, or OpenAI's list of parts where pictures are shown."""
Model = TypeVar("Model", bound=replies.Reply)


@dataclass(frozen=True)
class Completion:
    """What a chat model said. ``stop`` is why it ended: by itself, cut at the limit, or it declined."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    stop: Literal["end", "cut", "declined"] = "end"


class Chat(Protocol):
    """A chat model, wherever it runs. Safe to call from several threads."""

    identity: Mapping[str, Any]
    """What, beside the messages, decides its reply."""

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The reply to these messages.

        Args:
            messages: ``role`` and ``content`` of each.
            schema: JSON Schema that a model able to should be held to; empty for free text.
            max_tokens: Most tokens of the reply.

        Raises:
            Refused: This call failed; others may fare better.
            UserError: No call can succeed.
        """


class ChatGenerator:
    """Satisfies ``Generator``.

    Args:
        chat: Who writes.
        only_itself: Short questions must be about the item itself, for there are no pictures of anything else.
    """

    def __init__(self, chat: Chat, only_itself: bool = True) -> None:
        self.chat, self.only_itself = chat, only_itself

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Questions that cover the text, then in a second call their answers."""
        asked = self.ask(prompts.questions(shown(item)), replies.Questions, prompts.LONG).questions

        def complete(reply: replies.Answers) -> None:
            if len(reply.answers) != len(asked):
                raise ValueError(f"there must be {len(asked)} answers, not {len(reply.answers)}")

        answered = self.ask(prompts.answers(shown(item), asked), replies.Answers, prompts.LONG, complete)
        return list(zip(asked, answered.answers, strict=True))

    def summary(self, item: KnowledgeItem) -> str:
        """At most 25 words."""
        return self.ask(prompts.summary(shown(item)), replies.Summary, prompts.BRIEF).summary

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """Up to five; those whose subject cannot be hidden are left out.

        Raises:
            Refused: None is left.
        """
        tuples = self.ask(prompts.shorts(shown(item), self.only_itself), replies.Tuples, prompts.LONG).tuples
        found = [short for each in tuples if (short := hidden(each)) is not None]
        if not found:
            raise GenerationRefused("no short question hides its subject")
        return found

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """The item's own, or else what the model reads out of the text."""
        if item.facts:
            return item.facts
        found = self.ask(prompts.facts(shown(item)), replies.Facts, prompts.LONG).facts
        return [(each.field.lower(), each.value) for each in found]

    def rephrased(self, item: KnowledgeItem, number: int) -> str:
        """Other words."""
        return self.ask(prompts.rephrase(shown(item), number), replies.Text, prompts.LONG).text

    def translated_back(self, item: KnowledgeItem, language: str) -> str:
        """The text after a translation into a language and back, in two calls."""
        there = self.ask(prompts.translate(cut(item.text), language), replies.Translation, prompts.LONG).text
        return self.ask(prompts.translate(there, "English"), replies.Translation, prompts.LONG).text

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """Whether the item's text supports each statement: the model as a judge."""

        def complete(reply: replies.Verdicts) -> None:
            if len(reply.supported) != len(statements):
                raise ValueError(f"there must be {len(statements)} verdicts, not {len(reply.supported)}")

        return self.ask(prompts.judge(shown(item), statements), replies.Verdicts, prompts.BRIEF, complete).supported

    def ask(
        self, task: str, schema: type[Model], max_tokens: int, check: Callable[[Model], None] = lambda reply: None
    ) -> Model:
        """The checked reply to a task, in at most three tries.

        Raises:
            Refused: The third try was no better; the message is its fault.
        """
        shape = schema.model_json_schema()
        messages: list[Message] = opening(task, shape)
        fault = ""
        for _ in range(TRIES):
            said = self.chat.complete(messages, shape, max_tokens)
            try:
                return _good(said, schema, check)
            except ValueError as error:
                fault = str(error)
            messages += [{"role": "assistant", "content": said.text}, {"role": "user", "content": prompts.again(fault)}]
        raise GenerationRefused(f"{TRIES} replies were refused, the last because {fault}")


def _good(said: Completion, schema: type[Model], check: Callable[[Model], None]) -> Model:
    if said.stop == "declined":
        raise ValueError("the model declined to answer")
    if said.stop == "cut":
        raise ValueError("the reply was cut off; it must be shorter")
    reply = replies.parsed(said.text, schema)
    check(reply)
    return reply


def opening(task: str, shape: Mapping[str, Any]) -> list[Message]:
    """The messages of a first try."""
    system = f"{prompts.SYSTEM}\nSchema: {json.dumps(shape, sort_keys=True)}"
    return [{"role": "system", "content": system}, {"role": "user", "content": task}]


def shown(item: KnowledgeItem) -> str:
    """The item as JSON, so that nothing in its text can pass for the end of it."""
    kind = "news" if item.group == "news" else item.type
    told = {"name": item.name, "type": kind, "text": cut(item.text), "facts": dict(item.facts)}
    return json.dumps({name: value for name, value in told.items() if value}, ensure_ascii=False)


def cut(text: str) -> str:
    """The text, or as many of its first sentences as a model is shown."""
    if len(text) <= TEXT_LIMIT:
        return text
    kept, size = [], 0
    for sentence in sentences(text[:TEXT_LIMIT])[:-1]:
        kept.append(sentence)
        size += len(sentence)
    return " ".join(kept) if size else text[:TEXT_LIMIT]


def hidden(found: replies.Tuple) -> ShortQuestion | None:
    """The question with its subject behind "the {hypernym} in the image", or None where that cannot be."""
    subject, kind = found.subject.strip(), re.sub(r"^(?:the|an?)\s+", "", found.hypernym.strip(), flags=re.IGNORECASE)
    if (
        not contains_word(found.question, subject)
        or subject.casefold() == found.answer.casefold()
        or contains_word(kind, subject)
    ):
        return None
    named = re.compile(rf"(?<!\w)(?:the\s+|an?\s+)?{re.escape(subject)}(?!\w)", re.IGNORECASE)
    question = named.sub(lambda match: f"the {kind} in the image", found.question)
    question = question[:1].upper() + question[1:]
    if contains_word(question, subject) or contains_word(question, found.answer):
        return None
    return ShortQuestion(question, found.answer, subject, kind)
