"""Retrieval: every question is asked with the injected items that are most similar to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from benchmarks.model_folder import check_model_folder
from benchmarks.records import IMAGE, KnowledgeItem, Picture, Question
from methods.base import AskingResources, MethodSettings, Paper, Tensor, Variant, setting
from methods.context import ContextMethod, ItemSettings, put_items_before
from methods.external import folder_digest

if TYPE_CHECKING:
    from methods.augmentation.images.clip import Clip


@dataclasses.dataclass(frozen=True)
class RetrievalSettings(ItemSettings):
    """What is compared, and how many items are found."""

    by: Literal["picture", "text"] = setting(
        "picture",
        "what is compared: pictures, or the question's text with the items'",
        source="ours",
        choices=("picture", "text"),
    )
    top_k: int = setting(1, "items that are put before the question", source="EVOKE's script", ge=1)
    clip: str = setting(
        "", "folder of a CLIP model that embeds the pictures; empty for the model's own vision tower", source="ours"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("clip", self.by == "picture" or not self.clip, "it embeds pictures: set by=picture, or leave it out")

    def cache_key(self) -> dict[str, Any]:
        """The content of CLIP's folder instead of its path.

        Raises:
            UserError: It is not a model folder.
        """
        if not self.clip:
            return super().cache_key()
        check_model_folder(Path(self.clip))
        return {**super().cache_key(), "clip": folder_digest(Path(self.clip))}


class Retrieval(ContextMethod):
    """The ``top_k`` most similar injected items before each question, most similar first.

    Paper: Lewis et al., "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", NeurIPS 2020; EVOKE,
        arXiv 2505.24449, prints 40.68 CEM with the retriever UniIR.
    Interpretation: asked in the words of EVOKE's script, with the items' pictures. ``by=picture`` compares the
        question's first picture with the items': the cosine of the vision tower's outputs, averaged over a picture's
        tokens, less their mean over the items; with ``clip`` that of CLIP's embeddings. A question without a picture,
        and every question with ``by=text``, is compared by BM25 with the items' names and texts. Every question of
        every benchmark is asked so, since nobody knows beforehand which are about the new knowledge: what that costs
        on old questions is part of the result.
    Differences: the paper trains its retriever and weighs several documents by their probability; here one prompt has
        them all, and nothing is trained. UniIR is not part of this program; ``clip`` takes any CLIP.
    Cost: no training; one pass of the vision tower for each item, and longer prompts with more pictures.
    """

    name = "retrieval"
    summary = "untrained: the injected items most similar to a question are shown with it"
    paper = Paper(
        "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", "https://arxiv.org/abs/2005.11401"
    )
    interpretation = (
        "items are found by the cosine of averaged vision features, or by BM25; every question of every benchmark is "
        "asked with what is found"
    )
    Settings = RetrievalSettings
    settings: RetrievalSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "text": Variant({"by": "text"}, "items found by the words of the question (BM25) instead of the picture"),
    }

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__(settings)
        self._indexed: Sequence[KnowledgeItem] = ()
        """The items that the index is of."""

    def ask(self, question: Question, resources: AskingResources) -> Question:
        """The question after the items that are found, or as it is if none is."""
        if self._indexed is not resources.knowledge:
            self._build_index(resources)
        scores = self._picture_scores(question, resources) or self._words.scores(question.turns[0].replace(IMAGE, " "))
        order = sorted(range(len(scores)), key=lambda place: -scores[place])[: self.settings.top_k]
        found = [self._indexed[place] for place in order if self._compares_pictures(question) or scores[place] > 0]
        return put_items_before(question, found, show_pictures=self.settings.show_pictures) if found else question

    def _build_index(self, resources: AskingResources) -> None:
        from methods.components.bm25 import BM25

        items = resources.knowledge
        self._words = BM25([f"{item.given_name} {item.text}" for item in items])
        if self.settings.by == "picture" and items:
            vectors = self._embed([item.picture for item in items], resources)
            self._mean = vectors.mean(0)
            self._pictures = _unit(vectors - self._mean)
        self._indexed = items

    def _compares_pictures(self, question: Question) -> bool:
        return self.settings.by == "picture" and bool(question.pictures)

    def _picture_scores(self, question: Question, resources: AskingResources) -> list[float]:
        """One for each item; none if the question is compared by its words."""
        if not self._compares_pictures(question) or not self._indexed:
            return []
        (vector,) = _unit(self._embed(question.pictures[:1], resources) - self._mean)
        scores: list[float] = (self._pictures @ vector).tolist()
        return scores

    def _embed(self, pictures: Sequence[Picture], resources: AskingResources) -> Tensor:
        """(pictures, d) float64."""
        if not self.settings.clip:
            return resources.picture_features(pictures).double()
        import torch

        return torch.from_numpy(self._clip.pictures(pictures)).double()

    @cached_property
    def _clip(self) -> Clip:
        from methods.augmentation.images.clip import Clip

        return Clip(Path(self.settings.clip))


def _unit(vectors: Tensor) -> Tensor:
    """Each row at length 1; a row of zeros stays."""
    from torch.nn import functional

    return functional.normalize(vectors, dim=-1)
