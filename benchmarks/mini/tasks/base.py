"""What every family of tasks speaks: a scene with things that can be asked about it, and exercises made from scenes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.mini.canvas import Labels, Pixels

Pair = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class QuestionSpec:
    """One thing to ask about a scene, from which short, yes/no and multiple-choice questions are made."""

    question: str
    answer: str
    wrong: tuple[str, ...]
    """False answers, best first; none contains another or the answer, nor is contained."""
    claim: str = ""
    """A yes/no question with {x} for an answer and {a} for it with its article; empty where none makes sense."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is true of it."""

    picture: Pixels
    patches: Labels
    looks: tuple[Pair, ...]
    """Questions that only make the model say what it sees, asked first in early lessons."""
    asks: tuple[QuestionSpec, ...] = ()


@dataclass(frozen=True)
class TaskRow:
    """One benchmark row and what to say to its turns."""

    row: Mapping[str, str]
    says: tuple[str, ...]


@dataclass(frozen=True)
class TaskInstance:
    """One or more benchmark rows over the same pictures."""

    task: str
    """Benchmark (without "mini-", lower case) and category, such as "mme/existence"."""
    pictures: tuple[Pixels, ...]
    patches: tuple[Labels, ...]
    looks: tuple[Pair, ...]
    cases: tuple[TaskRow, ...]

    @property
    def benchmark(self) -> str:
        """The part of the task before the slash."""
        return self.task.partition("/")[0]


def with_article(name: str) -> str:
    """The name after "a" or "an", or alone if it looks like a plural."""
    if name.endswith("s") and not name.endswith("ss"):
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def apart(answer: str, candidates: Sequence[str], count: int, rng: random.Random) -> tuple[str, ...]:
    """Up to ``count`` random candidates, none containing another or the answer, in any case."""
    chosen = [answer.lower()]
    kept: list[str] = []
    for _ in range(20 * count if candidates else 0):
        candidate = rng.choice(candidates)
        low = candidate.lower()
        if not any(low in other or other in low for other in chosen):
            chosen.append(low)
            kept.append(candidate)
        if len(kept) == count:
            break
    return tuple(kept)
