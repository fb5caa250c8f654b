"""Turn a question into rows: yes/no pairs, multiple choice, short answers."""

from __future__ import annotations

import random
from collections.abc import Mapping

from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow, with_article

YES_NO = " Please answer yes or no."
LETTERS = "ABCD"


def claim(spec: QuestionSpec, answer: str) -> str:
    """The yes/no question about one answer."""
    return spec.claim.format(x=answer, a=with_article(answer))


def pair(
    task: str, scene: Scene, spec: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """Two yes/no rows over one picture, one true and one false, in random order."""
    rows = [
        TaskRow({"question": claim(spec, value) + YES_NO, "answer": says, **(extra or {})}, (says,))
        for value, says in ((spec.answer, "Yes"), (spec.distractors[0], "No"))
    ]
    rng.shuffle(rows)
    return TaskInstance.from_scene(task, scene, rows)


def options(spec: QuestionSpec, rng: random.Random) -> dict[str, str]:
    """Letter to option text for up to four options, shuffled, and "answer" with the right letter."""
    texts = [spec.answer, *spec.distractors[:3]]
    rng.shuffle(texts)
    return {**dict(zip(LETTERS, texts, strict=False)), "answer": LETTERS[texts.index(spec.answer)]}


def choice(
    task: str, scene: Scene, spec: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """One multiple-choice row; the expected answer is the option's text."""
    row = {"question": spec.question, **options(spec, rng), **(extra or {})}
    return TaskInstance.from_scene(task, scene, [TaskRow(row, (spec.answer,))])


def circular(
    task: str, scene: Scene, spec: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """One multiple-choice row per rotation of the options."""
    first = options(spec, rng)
    letters = [letter for letter in LETTERS if letter in first]
    rows = []
    for shift in range(len(letters)):
        texts = [first[letters[(position + shift) % len(letters)]] for position in range(len(letters))]
        row = {"question": spec.question, **dict(zip(letters, texts, strict=True)), **(extra or {})}
        row |= {"answer": letters[texts.index(spec.answer)], "rotation": str(shift)}
        rows.append(TaskRow(row, (spec.answer,)))
    return TaskInstance.from_scene(task, scene, rows)
