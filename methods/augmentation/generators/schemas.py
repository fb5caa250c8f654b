"""Schemas of a chat model's replies, and rules for the texts in them. A reply is data, never an instruction."""

from __future__ import annotations

import json
import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from benchmarks.records import IMAGE
from methods.augmentation.text_edits import SUMMARY_WORDS

CONTROL = re.compile(
    r"<\|[^|>]*\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]"
)
"""What a chat template might read as the start of a turn, and characters that no file can hold."""
MARKUP = re.compile(r"<[a-zA-Z/!][^<>]{0,200}>")
LINK = re.compile(r"(?:https?://|www\.)\S", re.IGNORECASE)
ANSWER_WORDS = 10
"""Maximum number of words in a short answer."""
QUESTIONS = 9
"""Maximum number in a reply; with the heuristic question they make the ten rounds of a dialogue."""
FACTS = 10
SHORTS = 5

Model = TypeVar("Model", bound=BaseModel)


def plain_text(text: str) -> str:
    """Join the text to one line.

    Raises:
        ValueError: It contains an image marker, markup, a control token or a link.
    """
    if IMAGE in text or CONTROL.search(text) or MARKUP.search(text):
        raise ValueError("must be plain text without markup")
    if LINK.search(text):
        raise ValueError("must hold no link")
    return " ".join(text.split())


def _check_summary(text: str) -> str:
    if len(text.split()) > SUMMARY_WORDS:
        raise ValueError(f"must have at most {SUMMARY_WORDS} words, not {len(text.split())}")
    return text


def _check_short_answer(text: str) -> str:
    if len(text.split()) > ANSWER_WORDS:
        raise ValueError(f"must have at most {ANSWER_WORDS} words")
    return text.rstrip(".")


def _check_question(text: str) -> str:
    if not text.endswith("?"):
        raise ValueError("must end with a question mark")
    return text


Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(plain_text)
]
QuestionText = Annotated[Line, StringConstraints(max_length=300), AfterValidator(_check_question)]
BriefText = Annotated[Line, AfterValidator(_check_short_answer)]


class Reply(BaseModel):
    """One JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Questions(Reply):
    """The questions of a dialogue."""

    questions: list[QuestionText] = Field(min_length=1, max_length=QUESTIONS)


class Answers(Reply):
    """The answers to the questions of a dialogue, in order."""

    answers: list[Line] = Field(min_length=1, max_length=QUESTIONS)


class Summary(Reply):
    """A caption's summary."""

    summary: Annotated[Line, AfterValidator(_check_summary)]


class Tuple(Reply):
    """A short question that names its subject."""

    question: QuestionText
    answer: BriefText
    subject: BriefText
    hypernym: BriefText


class Tuples(Reply):
    """Short questions."""

    tuples: list[Tuple] = Field(min_length=1, max_length=SHORTS)


class Pair(Reply):
    """A field and its value."""

    field: BriefText
    value: BriefText


class Facts(Reply):
    """The facts of a text."""

    facts: list[Pair] = Field(max_length=FACTS)


class Text(Reply):
    """The knowledge in other words."""

    text: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000), AfterValidator(plain_text)
    ]


class Translation(Text):
    """The text in another language."""


class Verdicts(Reply):
    """Whether the knowledge supports each statement."""

    supported: list[bool]


def parse_reply(text: str, schema: type[Model]) -> Model:
    """Read the first JSON object of a reply and check it against a schema.

    Raises:
        ValueError: There is none, or it does not match; the message says where and why, and repeats nothing of the
            reply.
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("it holds no JSON object")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its JSON is broken ({getattr(error, 'msg', 'nested too deep')})") from error
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise ValueError("; ".join(_describe(fault) for fault in faults[:3])) from error


def _describe(fault: ErrorDetails) -> str:
    """A fault and its location; the name of an extra field comes from the reply and is not repeated."""
    place = fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"]
    return f"{'.'.join(map(str, place)) or 'the object'}: {fault['msg']}"
