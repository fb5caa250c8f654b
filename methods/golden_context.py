"""Golden context: each question about an injected item is asked with the item's own text before it."""

from __future__ import annotations

from benchmarks.records import Question
from methods.base import AskingResources, Paper
from methods.context import ContextMethod, put_before


class GoldenContext(ContextMethod):
    """The text of the right item before the question: what the model can do with the knowledge, once it has it.

    Paper: Jiang et al., "EVOKE", 2025, arXiv 2505.24449, whose upper bounds are asked so.
    Interpretation: the text stands after the question's picture and before its text, with an empty line between them.
        Questions that are about no injected item, such as those of retention, are asked as the base is asked.
    Differences: EVOKE prints 40.7 and 56.1 CEM for its two models; its wording of the prompt is not published.
    Cost: no training; each question about the new knowledge is longer by the item's text.
    """

    name = "golden-context"
    summary = "untrained upper bound: the item's own text stands before each question about it"
    paper = Paper(
        "EVOKE: Injecting evolving knowledge into large multimodal models", "https://arxiv.org/abs/2505.24449"
    )
    interpretation = (
        "the text of the item that a question is about stands before the question; no other method knows which item "
        "that is, so the row is an upper bound and not ranked"
    )
    oracle = True

    def ask(self, question: Question, resources: AskingResources) -> Question:
        """The question after its item's text, if it is about an injected item."""
        item = resources.item_of(question)
        return question if item is None else put_before(question, item.text)
