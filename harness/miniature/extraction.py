"""Stage 4 of the pre-training: the states before a fact in an article and in an answer are made similar.

Fine-tuning on articles changes how the model continues an article. Whether that changes its answers depends on how
similar its states are at both places. This stage shows invented things, each with an article about one drawing and
questions about another, and draws the state before a fact in the article and the state before the same fact in the
answer together, away from the states for other facts and other things. The facts themselves cannot be learned: every
thing occurs once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.mini.invented.items import InventedItem, InventedWorld
from benchmarks.mini.lessons import Sample
from benchmarks.records import IMAGE
from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import PATCHES, EncodedSample, InstructionEncoder, collate, pixel_values
from harness.miniature.losses import ALIGNMENT_WEIGHT, LabelEmbeddings, alignment_loss, layer_states, token_loss
from harness.models.base import Batch
from harness.training.loop import StepLoss

ITEMS, KINDS, QUESTIONS, LESSONS, DRAWN = 12, 2, 2, 16, 32
"""Of one step: invented items, kinds of items, questions about each, samples of the old world, and pairs of drawings
without an article."""
TEMPERATURE = 0.1
ARTICLE_WEIGHT, ANSWER_WEIGHT = 0.3, 0.2
"""Of the tokens of articles and answers, whose facts cannot be known but whose language can."""
CONTRAST_WEIGHT, DISTANCE_WEIGHT, DRAWING_WEIGHT = 0.5, 0.5, 0.3
"""Of telling states apart, of the angle between states of a pair, and of telling pictures apart."""
OFFSET = 60_000_000
"""Added to the index of samples of the old world, so that they are not those of the stages before."""


@dataclass(frozen=True)
class EncodedItem:
    """The article and the questions about one item, and where they mention the same facts."""

    article: EncodedSample
    questions: tuple[EncodedSample, ...]
    pairs: tuple[tuple[int, int, int], ...]
    """(position in the article, question, position in the question): the states before the same token of a fact."""


def encode_item(
    item: InventedItem, encoder: InstructionEncoder, rng: random.Random, order: Callable[[str], float]
) -> EncodedItem:
    """The article with the first picture, and ``QUESTIONS`` questions with another one each.

    Args:
        item: The item.
        encoder: Turns samples into token ids.
        rng: Chooses wordings and pictures.
        order: The fields with the lowest values are asked for.
    """
    article = encode_turn(encoder, item.prompt, item.article, item.pictures[0])
    questions: list[EncodedSample] = []
    pairs: list[tuple[int, int, int]] = []
    for field, value in sorted(item.facts, key=lambda fact: order(fact[0])):
        tokens = encoder.segment(value)
        place = find(article.ids, tokens, answer_start(article))
        if place is None or len(questions) == QUESTIONS:
            continue
        asked = encode_turn(encoder, item.question(rng, field), value, rng.choice(item.pictures[1:]))
        start = answer_start(asked)
        pairs += [(place + i - 1, len(questions), start + i - 1) for i in range(len(tokens))]
        questions.append(asked)
    return EncodedItem(article, tuple(questions), tuple(pairs))


def encode_turn(encoder: InstructionEncoder, question: str, answer: str, picture: object) -> EncodedSample:
    """One question about one picture; every token of the answer has weight 1."""
    sample = Sample("lesson/extraction", (picture,), ((f"{IMAGE}\n{question}", answer),), ((None,) * PATCHES,), {})  # type: ignore[arg-type]
    encoded = encoder.encode(sample)
    weights = [float(weight > 0) for weight in encoded.weights]
    return EncodedSample(encoded.ids, weights, encoded.pictures, encoded.patches)


def answer_start(sample: EncodedSample) -> int:
    """Position of the answer's first token."""
    return next(position for position, weight in enumerate(sample.weights) if weight > 0)


def find(ids: list[int], part: tuple[int, ...], start: int) -> int | None:
    """Position of the first occurrence of ``part`` in ``ids`` from ``start`` on, or None."""
    for position in range(start, len(ids) - len(part) + 1):
        if tuple(ids[position : position + len(part)]) == part:
            return position
    return None


class ExtractionBatches:
    """Stage 4: in each step new invented items, and samples of the old world so that it is not forgotten.

    The items of a step are of a few kinds and asked for the same fields, so that similar things have to be
    distinguished.

    Args:
        invented: The stream of invented items.
        draw: (index, progress) -> one sample of the old world.
        encoder: Turns samples into token ids.
        steps: Optimiser steps.
        seed: Of the choice of kinds, fields, wordings, pictures and samples of the old world.
    """

    def __init__(
        self,
        invented: InventedWorld,
        draw: Callable[[int, float], Sample],
        encoder: InstructionEncoder,
        steps: int,
        seed: int,
    ) -> None:
        self.steps, self._seed = steps, seed
        self._invented, self._draw, self._encoder = invented, draw, encoder

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The one batch of a step: three batches under the prefixes article/, question/ and old/, and two tensors.

        ``pairs`` has the rows (article, position, question, position); ``drawings`` first one drawing of each thing,
        then the other ones.
        """
        rng = random.Random(f"told/{self._seed}/{step}")
        kinds = [self._invented.kind(rng) for _ in range(KINDS)]
        ranks: dict[str, float] = {}
        encoded = [
            encode_item(
                self._invented.item(index, kinds[index % KINDS]),
                self._encoder,
                rng,
                lambda field: ranks.setdefault(field, rng.random()),
            )
            for index in range(step * ITEMS, (step + 1) * ITEMS)
        ]
        old = [self._encoder.encode(self._draw(OFFSET + step * LESSONS + i, 1.0)) for i in range(LESSONS)]
        pad = self._encoder.pad
        batch = with_prefix("article/", collate([one.article for one in encoded], pad))
        batch |= with_prefix("question/", collate([asked for one in encoded for asked in one.questions], pad))
        batch |= with_prefix("old/", collate(old, pad))
        pairs, first = [], 0
        for row, one in enumerate(encoded):
            pairs += [(row, place, first + number, position) for place, number, position in one.pairs]
            first += len(one.questions)
        drawn = [self._invented.drawings(index) for index in range(step * DRAWN, (step + 1) * DRAWN)]
        pixels = pixel_values([picture for side in zip(*drawn, strict=True) for picture in side])
        yield batch.replace(pairs=torch.tensor(pairs), drawings=pixels)


def with_prefix(prefix: str, batch: Batch) -> Batch:
    """The batch under prefixed names."""
    return Batch({prefix + name: tensor for name, tensor in batch.items()})


def part(batch: Batch, prefix: str) -> Batch:
    """The tensors under a prefix."""
    return Batch({name.removeprefix(prefix): tensor for name, tensor in batch.items() if name.startswith(prefix)})


def contrastive_loss(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE of (rows, width) vectors: each row's partner among all rows of the other side, by cosine."""
    similarity = functional.normalize(one, dim=-1) @ functional.normalize(other, dim=-1).T / TEMPERATURE
    targets = torch.arange(len(one))
    return (functional.cross_entropy(similarity, targets) + functional.cross_entropy(similarity.T, targets)) / 2


class ExtractionLoss:
    """Stage 4: the loss of the old world's answers; the rest is its penalty.

    The penalty consists of the loss of articles and answers about invented items; of the states of each pair, after
    every layer, a contrastive loss (of the states less their mean) and the angle; and of the mean features of two
    drawings of each item, and of things without an article, a contrastive loss.
    """

    def __init__(self, architecture: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._architecture, self._words = architecture, words

    def __call__(self, batch: Batch) -> StepLoss:
        """The losses of one step."""
        article, question, old = (part(batch, prefix) for prefix in ("article/", "question/", "old/"))
        states, article_features = layer_states(self._architecture, article)
        asked, asked_features = layer_states(self._architecture, question)
        recalled, old_features = layer_states(self._architecture, old)
        pairs = batch["pairs"]
        penalty = ARTICLE_WEIGHT * token_loss(self._architecture, states[-1], article) / article["weights"].sum()
        penalty = (
            penalty + ANSWER_WEIGHT * token_loss(self._architecture, asked[-1], question) / question["weights"].sum()
        )
        for one, other in zip(states, asked, strict=True):
            here, there = one[pairs[:, 0], pairs[:, 1]], other[pairs[:, 2], pairs[:, 3]]
            contrast = contrastive_loss(here - here.mean(0), there - there.mean(0))
            distance = 1 - functional.cosine_similarity(here, there, dim=-1).mean()
            penalty = penalty + (CONTRAST_WEIGHT * contrast + DISTANCE_WEIGHT * distance) / len(states)
        if article_features is not None and asked_features is not None:
            rows, questions = (torch.tensor(side) for side in zip(*_first_questions(pairs), strict=True))
            shown = article_features.mean(1)[rows], asked_features.mean(1)[questions]
            drawn = self._architecture.image_features(batch["drawings"]).mean(1).chunk(2)
            penalty = penalty + DRAWING_WEIGHT * (contrastive_loss(*shown) + contrastive_loss(*drawn))
        if old_features is not None:
            words = self._words(self._architecture.model.get_input_embeddings())
            penalty = penalty + ALIGNMENT_WEIGHT * alignment_loss(old_features, old["patches"], words)
        return StepLoss(token_loss(self._architecture, recalled[-1], old), float(old["weights"].sum()), penalty)


def _first_questions(pairs: torch.Tensor) -> list[tuple[int, int]]:
    """(article, its first question) of each article."""
    first: dict[int, int] = {}
    for row, _, question, _ in pairs.tolist():
        first.setdefault(row, question)
    return list(first.items())
