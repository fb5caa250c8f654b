"""A generator over any chat model: it asks, checks the reply against a schema, and asks again with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from benchmarks.records import KnowledgeItem
from methods.augmentation.generators import prompts, schemas
from methods.augmentation.generators.base import Fact, GenerationRefused, Round, ShortQuestion
from methods.augmentation.text_edits import contains_word, sentences

TRIES = 3
TEXT_LIMIT = 12_000
"""Characters of a text that a model is shown; a longer one is truncated after a sentence."""
Message = Mapping[str, Any]
"""``role`` and ``content``: a text, or OpenAI's list of parts if pictures are shown."""
Model = TypeVar("Model", bound=schemas.Reply)


@dataclass(frozen=True)
class Completion:
    """A chat model's reply.

    Args:
        text: What it says.
        prompt_tokens: Tokens of the messages.
        completion_tokens: Tokens of the reply.
        stop: Why it ended: on its own, cut off at the limit, or declined.
        model: What the endpoint calls the model that replied; empty if it does not say.
        fingerprint: The endpoint's name of the system that replied; empty if it does not say.
        left_out: Parameters of the call that the endpoint does not accept.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    stop: Literal["end", "cut", "declined"] = "end"
    model: str = ""
    fingerprint: str = ""
    left_out: Sequence[str] = ()


class Chat(Protocol):
    """A chat model, wherever it runs. Thread-safe."""

    identity: Mapping[str, Any]
    """What its replies depend on, apart from the messages."""

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """Reply to these messages.

        Args:
            messages: ``role`` and ``content`` of each.
            schema: JSON Schema to hold the model to, if it supports that; empty for free text.
            max_tokens: Maximum length of the reply.

        Raises:
            GenerationRefused: This call failed; others may succeed.
            UserError: No call can succeed.
        """


class ChatGenerator:
    """Satisfies ``Generator`` and ``SupportChecker``.

    Args:
        chat: The model that writes.
        only_itself: Whether short questions must be about the item itself because there are no other pictures.
    """

    def __init__(self, chat: Chat, only_itself: bool = True) -> None:
        self.chat, self.only_itself = chat, only_itself

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Ask for questions that cover the text, then in a second call for their answers."""
        questions = self.ask(prompts.questions(item_json(item)), schemas.Questions, prompts.LONG).questions

        def check(reply: schemas.Answers) -> None:
            if len(reply.answers) != len(questions):
                raise ValueError(f"there must be {len(questions)} answers, not {len(reply.answers)}")

        reply = self.ask(prompts.answers(item_json(item), questions), schemas.Answers, prompts.LONG, check)
        return list(zip(questions, reply.answers, strict=True))

    def summary(self, item: KnowledgeItem) -> str:
        """At most 25 words."""
        return self.ask(prompts.summary(item_json(item)), schemas.Summary, prompts.BRIEF).summary

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """Up to five short questions, without those whose subject cannot be hidden.

        Raises:
            GenerationRefused: None is left.
        """
        tuples = self.ask(prompts.shorts(item_json(item), self.only_itself), schemas.Tuples, prompts.LONG).tuples
        shorts = [short for each in tuples if (short := hide_subject(each)) is not None]
        if not shorts:
            raise GenerationRefused("no short question hides its subject")
        return shorts

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """The item's own facts or, if it has none, those that the model finds in the text."""
        if item.facts:
            return item.facts
        facts = self.ask(prompts.facts(item_json(item)), schemas.Facts, prompts.LONG).facts
        return [(fact.field.lower(), fact.value) for fact in facts]

    def rephrase(self, item: KnowledgeItem, number: int) -> str:
        """The text in the model's other words."""
        return self.ask(prompts.rephrase(item_json(item), number), schemas.Text, prompts.LONG).text

    def translate_back(self, item: KnowledgeItem, language: str) -> str:
        """Translate the text into a language and back, in two calls."""
        translated = self.ask(prompts.translate(truncate(item.text), language), schemas.Translation, prompts.LONG).text
        return self.ask(prompts.translate(translated, "English"), schemas.Translation, prompts.LONG).text

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """Ask the model whether the item's text supports each statement."""

        def check(reply: schemas.Verdicts) -> None:
            if len(reply.supported) != len(statements):
                raise ValueError(f"there must be {len(statements)} verdicts, not {len(reply.supported)}")

        return self.ask(prompts.judge(item_json(item), statements), schemas.Verdicts, prompts.BRIEF, check).supported

    def ask(
        self, task: str, schema: type[Model], max_tokens: int, check: Callable[[Model], None] = lambda reply: None
    ) -> Model:
        """Give the model a task and return its checked reply, in at most three tries.

        Raises:
            GenerationRefused: The third reply failed the check too; the message says why.
        """
        json_schema = schema.model_json_schema()
        messages: list[Message] = first_messages(task, json_schema)
        fault = ""
        for _ in range(TRIES):
            completion = self.chat.complete(messages, json_schema, max_tokens)
            try:
                return _checked_reply(completion, schema, check)
            except ValueError as error:
                fault = str(error)
            messages.append({"role": "assistant", "content": completion.text})
            messages.append({"role": "user", "content": prompts.again(fault)})
        raise GenerationRefused(f"{TRIES} replies were refused, the last because {fault}")


def _checked_reply(completion: Completion, schema: type[Model], check: Callable[[Model], None]) -> Model:
    if completion.stop == "declined":
        raise ValueError("the model declined to answer")
    if completion.stop == "cut":
        raise ValueError("the reply was cut off; it must be shorter")
    reply = schemas.parse_reply(completion.text, schema)
    check(reply)
    return reply


def first_messages(task: str, json_schema: Mapping[str, Any]) -> list[Message]:
    """The messages of a first try."""
    system = f"{prompts.SYSTEM}\nSchema: {json.dumps(json_schema, sort_keys=True)}"
    return [{"role": "system", "content": system}, {"role": "user", "content": task}]


def item_json(item: KnowledgeItem) -> str:
    """The item as JSON, so that nothing in its text can be taken for the end of it."""
    kind = "news" if item.group == "news" else item.type
    fields = {"name": item.given_name, "type": kind, "text": truncate(item.text), "facts": dict(item.facts)}
    return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=False)


def truncate(text: str) -> str:
    """The text, or its first sentences if it is longer than ``TEXT_LIMIT``."""
    if len(text) <= TEXT_LIMIT:
        return text
    complete = sentences(text[:TEXT_LIMIT])[:-1]
    return " ".join(complete) if any(complete) else text[:TEXT_LIMIT]


def hide_subject(question: schemas.Tuple) -> ShortQuestion | None:
    """Replace a question's subject by "the {hypernym} in the image"; None if that does not hide it."""
    subject = question.subject.strip()
    kind = re.sub(r"^(?:the|an?)\s+", "", question.hypernym.strip(), flags=re.IGNORECASE)
    if (
        not contains_word(question.question, subject)
        or subject.casefold() == question.answer.casefold()
        or contains_word(kind, subject)
    ):
        return None
    named = re.compile(rf"(?<!\w)(?:the\s+|an?\s+)?{re.escape(subject)}(?!\w)", re.IGNORECASE)
    text = named.sub(lambda match: f"the {kind} in the image", question.question)
    text = text[:1].upper() + text[1:]
    if contains_word(text, subject) or contains_word(text, question.answer):
        return None
    return ShortQuestion(text, question.answer, subject, kind)
