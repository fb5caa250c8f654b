"""The data types of all tasks: scenes, the questions that they allow, and task instances made from scenes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.mini.canvas import Canvas, Labels, Pixels

Pair = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class QuestionSpec:
    """A question about a scene, from which short, yes/no and multiple-choice questions are made."""

    question: str
    answer: str
    distractors: tuple[str, ...]
    """False answers, best first; none contains another or the answer, nor is contained in one."""
    claim: str = ""
    """A yes/no question with {x} for an answer and {a} for it with its article; empty if none makes sense."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is true of it."""

    picture: Pixels
    patches: Labels
    captions: tuple[Pair, ...]
    """Questions that only ask what is visible; early lessons ask them first."""
    questions: tuple[QuestionSpec, ...] = ()

    @classmethod
    def from_canvas(cls, canvas: Canvas, captions: Sequence[Pair], *questions: QuestionSpec) -> Scene:
        """A scene over what was drawn."""
        return cls(canvas.pixels, canvas.labels, tuple(captions), questions)


@dataclass(frozen=True)
class TaskRow:
    """One benchmark row and the expected answers to its turns."""

    columns: Mapping[str, str]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class TaskInstance:
    """One or more benchmark rows over the same pictures."""

    task: str
    """Benchmark (without "mini-", lower case) and category, such as "mme/existence"."""
    pictures: tuple[Pixels, ...]
    patches: tuple[Labels, ...]
    captions: tuple[Pair, ...]
    rows: tuple[TaskRow, ...]

    @classmethod
    def from_scene(cls, task: str, scene: Scene, rows: Sequence[TaskRow]) -> TaskInstance:
        """Rows over one scene's picture."""
        return cls(task, (scene.picture,), (scene.patches,), scene.captions, tuple(rows))

    @property
    def benchmark(self) -> str:
        """The part of the task before the slash."""
        return self.task.partition("/")[0]


def with_article(name: str) -> str:
    """The name after "a" or "an", or alone if it looks like a plural."""
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def sample_distractors(answer: str, candidates: Sequence[str], count: int, rng: random.Random) -> tuple[str, ...]:
    """Sample up to ``count`` candidates, none containing another or the answer, ignoring case."""
    excluded = [answer.lower()]
    chosen: list[str] = []
    for _ in range(20 * count if candidates else 0):
        candidate = rng.choice(candidates)
        lower = candidate.lower()
        if not any(lower in other or other in lower for other in excluded):
            excluded.append(lower)
            chosen.append(candidate)
        if len(chosen) == count:
            break
    return tuple(chosen)
