"""In-context learning: every question is asked after a few solved examples, which are other injected items."""

from __future__ import annotations

import dataclasses
import random

from benchmarks.records import IMAGE, Question
from methods.base import AskingResources, Paper, setting
from methods.context import ContextMethod, ContextSettings, put_before


@dataclasses.dataclass(frozen=True)
class InContextSettings(ContextSettings):
    """How many examples."""

    examples: int = setting(2, "solved examples before each question", source="ours", ge=1)


class InContext(ContextMethod):
    """A few items as solved examples before each question: picture, injection question and text.

    Paper: Brown et al., "Language Models are Few-Shot Learners", NeurIPS 2020.
    Interpretation: an example is an injected item as it is published: its picture, the question that the injection data
        ask about it, and its text as the answer. Never the item that the question is about, so that no example holds
        the answer: the row shows what the form of the data alone does, without the knowledge asked for. The
        examples are drawn for each question by seed and question; every benchmark's questions get them.
    Differences: examples are texts of one user turn, since the chat templates of the benchmarks end with one.
    Cost: no training; each question is longer by the examples, with a picture each.
    """

    name = "in-context"
    summary = "untrained: solved examples of other injected items stand before every question"
    paper = Paper("Language Models are Few-Shot Learners", "https://arxiv.org/abs/2005.14165")
    interpretation = (
        "examples are other injected items as published (picture, question, text), drawn by seed for each question; "
        "never the item that is asked about"
    )
    Settings = InContextSettings
    settings: InContextSettings

    def ask(self, question: Question, resources: AskingResources) -> Question:
        """The question after ``examples`` other items, or all others if there are fewer."""
        own = resources.item_of(question)
        others = [item for item in resources.knowledge if own is None or item.id != own.id]
        draw = random.Random(f"{resources.seed}/{question.benchmark}/{question.id}")
        chosen = draw.sample(others, min(self.settings.examples, len(others)))
        if not chosen:
            return question
        context = "\n\n".join(f"{IMAGE}\n{item.prompt}\n{item.text}" for item in chosen)
        return put_before(question, context, [item.picture for item in chosen])
