"""Golden context: each question about an injected item is asked with the item itself before it."""

from __future__ import annotations

from benchmarks.records import Question
from methods.base import AskingResources, Paper
from methods.context import ContextMethod, ItemSettings, put_items_before


class GoldenContext(ContextMethod):
    """Text and picture of the right item before the question: what the model does with the knowledge once it has it.

    Paper: Jiang et al., "EVOKE", 2025, arXiv 2505.24449, which prints 56.13 CEM for its golden context.
    Interpretation: asked in the words of EVOKE's script, the item's picture first; with ``show_pictures=false`` the
        item's text alone. Questions that are about no injected item, such as those of retention, are asked as the
        base is asked.
    Differences: the script allows 512 new tokens, and here the limit is the benchmark's, as for every row.
    Cost: no training; each question about the new knowledge is longer by the item's text and a picture.
    """

    name = "golden-context"
    summary = "untrained upper bound: the item itself is shown with each question about it"
    paper = Paper(
        "EVOKE: Injecting evolving knowledge into large multimodal models", "https://arxiv.org/abs/2505.24449"
    )
    interpretation = (
        "the item that a question is about is shown before it, as EVOKE's script does; no other method knows which "
        "item that is, so the row is an upper bound and not ranked"
    )
    Settings = ItemSettings
    settings: ItemSettings
    oracle = True

    def ask(self, question: Question, resources: AskingResources) -> Question:
        """The question after its item, if it is about an injected one."""
        item = resources.item_of(question)
        if item is None:
            return question
        return put_items_before(question, [item], show_pictures=self.settings.show_pictures)
