"""Turns an ask into rows: pairs of yes/no, multiple choice, short answers."""

from __future__ import annotations

import random
from collections.abc import Mapping

from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow, with_article

YES_NO = " Please answer yes or no."
LETTERS = "ABCD"


def claim(ask: QuestionSpec, answer: str) -> str:
    """The ask's yes/no question about one answer."""
    return ask.claim.format(x=answer, a=with_article(answer))


def pair(
    task: str, scene: Scene, ask: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """Two yes/no rows over one picture, one true and one false, in random order."""
    cases = [
        TaskRow({"question": claim(ask, value) + YES_NO, "answer": says, **(extra or {})}, (says,))
        for value, says in ((ask.answer, "Yes"), (ask.wrong[0], "No"))
    ]
    rng.shuffle(cases)
    return exercise(task, scene, cases)


def options(ask: QuestionSpec, rng: random.Random) -> dict[str, str]:
    """Letter to option text for up to four options, shuffled, and "answer" with the right letter."""
    texts = [ask.answer, *ask.wrong[:3]]
    rng.shuffle(texts)
    return {**dict(zip(LETTERS, texts, strict=False)), "answer": LETTERS[texts.index(ask.answer)]}


def choice(
    task: str, scene: Scene, ask: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """One multiple-choice row; what to say is the option's text."""
    row = {"question": ask.question, **options(ask, rng), **(extra or {})}
    return exercise(task, scene, [TaskRow(row, (ask.answer,))])


def circular(
    task: str, scene: Scene, ask: QuestionSpec, rng: random.Random, extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """As many multiple-choice rows as options, the options turned by one place each time."""
    first = options(ask, rng)
    letters = [letter for letter in LETTERS if letter in first]
    cases = []
    for turn in range(len(letters)):
        texts = [first[letters[(place + turn) % len(letters)]] for place in range(len(letters))]
        row = {"question": ask.question, **dict(zip(letters, texts, strict=True)), **(extra or {})}
        row |= {"answer": letters[texts.index(ask.answer)], "rotation": str(turn)}
        cases.append(TaskRow(row, (ask.answer,)))
    return exercise(task, scene, cases)


def short(
    task: str, scene: Scene, asks: tuple[QuestionSpec, ...], extra: Mapping[str, str] | None = None
) -> TaskInstance:
    """Rows that are answered in a few words."""
    return exercise(
        task, scene, [TaskRow({"question": a.question, "answer": a.answer, **(extra or {})}, (a.answer,)) for a in asks]
    )


def exercise(task: str, scene: Scene, cases: list[TaskRow]) -> TaskInstance:
    """An exercise over one scene's picture."""
    return TaskInstance(task, (scene.picture,), (scene.patches,), scene.looks, tuple(cases))
