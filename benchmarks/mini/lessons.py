"""The old world's lessons: endless pictures with patch labels, then conversations in every benchmark's format.

Everything is composed afresh from the seed and an index. Nothing new or held out for tuning is drawn or named, and no
benchmark row is generated again: rows are drawn from random streams of their own (see ``build_retention``).
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
from benchmarks.mini.tasks import looks, mix
from benchmarks.mini.tasks.base import Pair, TaskInstance
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import World
from benchmarks.records import IMAGE, Conversation, Picture, Turn

MAX_TURNS = 5


@dataclass(frozen=True)
class Sample:
    """One lesson: pictures and a conversation about them."""

    task: str
    """Such as "mme/existence"."""
    pictures: tuple[Pixels, ...]
    """Each (64, 64, 3) uint8; empty for a lesson that needs none."""
    turns: tuple[Pair, ...]
    """(question, answer); the first question holds one ``<image>`` for each picture."""
    patches: tuple[Labels, ...]
    """For each picture what covers its 16 patches, row by row; None where nothing nameable does."""
    row: Mapping[str, str]
    """The columns that this lesson would have as a benchmark row; empty for plain lessons."""

    def conversation(self, name: str) -> Conversation:
        """The lesson as a training sample, for replay and calibration; ``name`` is its id."""
        turns = [turn for asked, said in self.turns for turn in (Turn("user", asked), Turn("assistant", said))]
        return Conversation(name, tuple(turns), tuple(Picture(png(pixels)) for pixels in self.pictures), "replay")


class Lessons:
    """A stream of lessons that is the same for the same seed.

    Args:
        world: The embedded world; only its old part is used.
        seed: Two seeds give unrelated streams.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._seed = seed
        self.studio = SceneFactory(world)
        """Its cached drawings and vocabularies."""

    def look(self, index: int) -> tuple[Pixels, Labels]:
        """Stage 1: one picture, (64, 64, 3) uint8, with what covers each of its 16 patches."""
        return looks.look(self.studio, random.Random(f"look/{self._seed}/{index}"))

    def names(self) -> tuple[str, ...]:
        """Every label that ``look`` can give, sorted."""
        return looks.names(self.studio)

    def sample(self, index: int, progress: float) -> Sample:
        """Stage 2: one lesson.

        Args:
            index: Which.
            progress: How far training is, in [0, 1]. Early lessons use few concepts and ask to name, count and read
                before they ask to compare; late ones mostly begin with the benchmark's own question.
        """
        rng = random.Random(f"lesson/{self._seed}/{index}")
        exercise = mix.draw(self.studio, rng, progress)
        return Sample(
            exercise.task,
            exercise.pictures,
            conversation(exercise, progress, rng),
            exercise.patches,
            exercise.cases[0].row if exercise.benchmark != "lesson" else {},
        )

    def corpus(self, samples: int = 12_000) -> Iterator[str]:
        """Text for the tokenizer: the old texts, then questions and answers of the first lessons."""
        for entity in self.studio.old:
            if self.studio.clean(entity.text):
                yield entity.text
        for index in range(samples):
            for question, answer in self.sample(index, index / samples).turns:
                yield question
                yield answer


def conversation(exercise: TaskInstance, progress: float, rng: random.Random) -> tuple[Pair, ...]:
    """Looks first, more rarely as progress grows, then the exercise's own turns; pictures go with the first turn."""
    pairs: list[Pair] = []
    cases = list(exercise.cases)
    if "rotation" in cases[0].row:
        cases = rng.sample(cases, min(2, len(cases)))
    for case in cases:
        questions = prompts.turns(exercise.benchmark, case.row, len(exercise.pictures))
        pairs += zip(questions, case.says, strict=True)
    pairs = halved(pairs, rng)
    looking = min(1.0, max(0.1, 1.0 - (progress - 0.1) / 0.6))
    if exercise.looks and rng.random() < looking:
        pairs = [*exercise.looks, *pairs]
    pairs = pairs[:MAX_TURNS]
    first, *rest = [(prompts.unmarked(question), answer) for question, answer in pairs]
    if IMAGE in pairs[0][0]:
        return (pairs[0], *rest)
    marks = "".join(f"{IMAGE}\n" for _ in exercise.pictures)
    return ((marks + first[0], first[1]), *rest)


def halved(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    """Keep mostly one of a Yes and a No that follow each other: the second would be told by the first, unseen."""
    kept: list[Pair] = []
    for pair in pairs:
        if kept and {kept[-1][1], pair[1]} == {"Yes", "No"} and rng.random() < 0.75:
            kept[-1] = rng.choice((kept[-1], pair))
        else:
            kept.append(pair)
    return kept


def png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
