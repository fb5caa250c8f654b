"""Checks of how a method asks the questions of the evaluation."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from benchmarks.records import IMAGE, Question
from harness.conformance.errors import Inconclusive, NotApplicable, hook_errors
from harness.conformance.fakes import FakeAskingResources
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.conformance.tiny_model import picture
from harness.training.hook_checks import question_problem

MARKED = f"{IMAGE}\n"


@cache
def probe_questions() -> tuple[Question, ...]:
    """Questions about an item, about none, of several turns, with two pictures and with none."""
    common: dict[str, Any] = {"benchmark": "probe", "reference": "blue", "max_new_tokens": 7, "repetition_penalty": 1.0}
    stripes = "How many stripes has the flag?"
    return (
        Question("item-1", turns=(f"{MARKED}{stripes}",), pictures=(picture(1001),), **common),
        Question("old", turns=(f"{MARKED}Is this a cat?",), pictures=(picture(1002),), type="animal", **common),
        Question("text", turns=("What is a flag of Ghana?",), pictures=(), template="of its own", **common),
        Question(
            "several",
            turns=(f"{MARKED}What is it?", f"{MARKED}And this?", stripes),
            pictures=(picture(1003), picture(1004)),
            **common,
        ),
        Question("item-2", turns=(f"{MARKED}{stripes}",), pictures=(picture(2),), **common),
    )


@check(
    reason="A row is compared with others on the same questions, under the same limits, scored by the same references.",
    hint="Change the texts of the turns, or add pictures with a marker each; put pictures of a context before its own.",
)
def check_ask_keeps_question(scenarios: Scenarios) -> None:
    """``ask`` changes nothing but texts and added pictures."""
    for question, returned in zip(probe_questions(), _asked(scenarios), strict=True):
        problem = question_problem(question, returned)
        require(not problem, f"for a question, ask returned {problem}")


@check(
    reason="A run that continues, another process and `verify` ask the questions again, in another order.",
    hint="Depend on question, resources and settings alone: no counter, no global random numbers.",
)
def check_ask_deterministic(scenarios: Scenarios) -> None:
    """Two instances ask the same, in whatever order."""
    first, second = _asked(scenarios), _asked(scenarios, backwards=True)
    count = sum(one != other for one, other in zip(first, second, strict=True))
    require(not count, f"{count} of {len(first)} questions differ if they are asked in another order")


@check(
    reason="A row that trains nothing and asks as the base is asked is the base under another name.",
    hint="Let ask put something before the question, or remove it.",
)
def check_ask_changes_question(scenarios: Scenarios) -> None:
    """``ask`` changes a question."""
    require(
        any(question != returned for question, returned in zip(_shown(), _asked(scenarios), strict=True)),
        "it changes none",
    )


def _shown() -> list[Question]:
    """The questions as the hook sees them."""
    return [dataclasses.replace(question, reference="") for question in probe_questions()]


def _asked(scenarios: Scenarios, *, backwards: bool = False) -> list[Any]:
    """What a new instance returns for the questions."""
    if "lifecycle" in scenarios.failures:
        raise Inconclusive("there is no instance")
    if not scenarios.lifecycle.method.overrides("ask"):
        raise NotApplicable("it asks the questions as they are")
    method, resources = scenarios.subject.build(), FakeAskingResources()
    questions = _shown()
    with hook_errors("ask"):
        returned = [method.ask(question, resources) for question in (questions[::-1] if backwards else questions)]
    return returned[::-1] if backwards else returned
