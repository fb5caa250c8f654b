"""Lessons about the old world: pictures with patch labels, and conversations in every benchmark's format.

Each lesson is generated from the seed and an index. Lessons neither show nor name new or tuning entities, and do not
repeat benchmark rows, which use separate random streams (see ``tools.miniature.build_retention``).
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.mini import prompts
from benchmarks.mini.canvas import Labels, Pixels
from benchmarks.mini.tasks import captioning, sampler
from benchmarks.mini.tasks.base import Pair, TaskInstance
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import World
from benchmarks.records import IMAGE, Conversation, Picture, Turn

MAX_TURNS = 5


@dataclass(frozen=True)
class Sample:
    """One lesson: pictures and a conversation about them."""

    task: str
    """Such as "mme/existence"."""
    pictures: tuple[Pixels, ...]
    """Each (64, 64, 3) uint8; empty for a lesson without pictures."""
    turns: tuple[Pair, ...]
    """(question, answer); the first question contains one ``<image>`` per picture."""
    patches: tuple[Labels, ...]
    """For each picture, what covers its 16 patches, row by row; None if nothing nameable does."""
    columns: Mapping[str, str]
    """The columns of the lesson as a benchmark row; empty for plain lessons."""

    def conversation(self, name: str) -> Conversation:
        """The lesson as a training sample, for replay and calibration; ``name`` is its id."""
        turns = [turn for pair in self.turns for turn in (Turn("user", pair[0]), Turn("assistant", pair[1]))]
        return Conversation(name, tuple(turns), tuple(Picture(_png(pixels)) for pixels in self.pictures), "replay")


class Lessons:
    """A stream of lessons that is the same for the same seed.

    Args:
        world: The embedded world; only its old part is used.
        seed: Different seeds give unrelated streams.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._seed = seed
        self.factory = SceneFactory(world)
        """Cached drawings and vocabularies."""

    def labelled_picture(self, index: int) -> tuple[Pixels, Labels]:
        """Stage 1: one picture, (64, 64, 3) uint8, and what covers each of its 16 patches."""
        return captioning.labelled_picture(self.factory, random.Random(f"look/{self._seed}/{index}"))

    def label_names(self) -> tuple[str, ...]:
        """Every label of ``labelled_picture``, sorted."""
        return captioning.label_names(self.factory)

    def sample(self, index: int, progress: float) -> Sample:
        """Stage 2: one lesson.

        Args:
            index: The lesson's index.
            progress: Training progress in [0, 1]. Early lessons use few concepts and start with captions; late ones
                mostly start with the benchmark's own question.
        """
        rng = random.Random(f"lesson/{self._seed}/{index}")
        instance = sampler.sample_instance(self.factory, rng, progress)
        return Sample(
            instance.task,
            instance.pictures,
            build_turns(instance, progress, rng),
            instance.patches,
            instance.rows[0].columns if instance.benchmark != "lesson" else {},
        )

    def corpus(self, samples: int = 12_000) -> Iterator[str]:
        """Text for the tokenizer: the old texts, then questions and answers of the first lessons."""
        for entity in self.factory.old_entities:
            if self.factory.is_clean(entity.text):
                yield entity.text
        for index in range(samples):
            for question, answer in self.sample(index, index / samples).turns:
                yield question
                yield answer


def build_turns(instance: TaskInstance, progress: float, rng: random.Random) -> tuple[Pair, ...]:
    """Captions, less often as progress grows, then the instance's own turns; all pictures are in the first turn."""
    pairs: list[Pair] = []
    rows = list(instance.rows)
    if "rotation" in rows[0].columns:
        rows = rng.sample(rows, min(2, len(rows)))
    for row in rows:
        questions = prompts.user_turns(instance.benchmark, row.columns, len(instance.pictures))
        pairs += zip(questions, row.answers, strict=True)
    pairs = _thin_claim_pairs(pairs, rng)
    caption_share = min(1.0, max(0.1, 1.0 - (progress - 0.1) / 0.6))
    if instance.captions and rng.random() < caption_share:
        pairs = [*instance.captions, *pairs]
    pairs = pairs[:MAX_TURNS]
    first, *rest = [(prompts.strip_markers(question), answer) for question, answer in pairs]
    if IMAGE in pairs[0][0]:
        return (pairs[0], *rest)
    return ((f"{IMAGE}\n" * len(instance.pictures) + first[0], first[1]), *rest)


def _thin_claim_pairs(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """Mostly drop one of a successive Yes and No, because the first would give the second away."""
    chosen: list[Pair] = []
    for pair in pairs:
        if chosen and {chosen[-1][1], pair[1]} == {"Yes", "No"} and rng.random() < 0.75:
            chosen[-1] = rng.choice((chosen[-1], pair))
        else:
            chosen.append(pair)
    return chosen


def _png(pixels: Pixels) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
