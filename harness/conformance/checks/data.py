"""Checks of what a method trains on and of what it gathers beforehand."""

from __future__ import annotations

import math

from benchmarks.records import Conversation
from harness.conformance.fakes import questions
from harness.conformance.registry import Inconclusive, check, require
from harness.conformance.scenarios import Scenarios
from harness.conformance.snapshot import changes
from harness.training.hook_checks import tensor_problem


@check(
    "data-usable",
    reason="Each sample is told from the others by its id, and ends with an answer to be learnt.",
    hint="Return a list of Conversation, at least one, with different ids, each ending with an assistant's turn.",
)
def data_usable(seen: Scenarios) -> None:
    """Conversations with ids of their own, ending with an answer."""
    data = seen.data[0]
    require(isinstance(data, list) and data, f"training_data gave {type(data).__name__} of {len(data)}")
    require(all(isinstance(one, Conversation) for one in data), "not all are of the class Conversation")
    ids = [one.id for one in data]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    require(not twice, f"{len(twice)} ids stand for several samples, such as {twice[:1]}")
    for one in data:
        require(one.turns[-1].role == "assistant" and one.turns[-1].text.strip(), f"{one.id} ends without an answer")


@check(
    "data-deterministic",
    reason="A run that goes on after a kill, or is repeated, must train on the same data.",
    hint="Draw from random.Random(resources.seed) or numpy's default_rng of it, never from a global generator.",
)
def data_deterministic(seen: Scenarios) -> None:
    """The same seed gives the same data."""
    one, other, _ = seen.data
    differ = sum(first != second for first, second in zip(one, other, strict=False)) + abs(len(one) - len(other))
    require(not differ, f"{differ} of {len(one)} samples differ between two calls with the same seed")


@check(
    "data-without-questions",
    reason="Training on evaluation questions would make every score of the row worthless.",
    hint="Use benchmark_prompts in prepare at most, never in training_data.",
)
def data_without_questions(seen: Scenarios) -> None:
    """No sample asks what an evaluation question asks."""
    asked = {one.turns[0].text for one in questions()}
    found = [one.id for one in seen.data[0] if any(turn.text in asked for turn in one.turns)]
    require(not found, f"{len(found)} samples are evaluation questions, such as {found[:1]}")


@check(
    "evaluation-declared",
    reason="A row that has seen the inputs of a benchmark is marked transductive and never ranked.",
    hint="Name the benchmark in the property evaluation_inputs, or do not ask for its questions.",
)
def evaluation_declared(seen: Scenarios) -> None:
    """Only declared benchmarks are read."""
    seen.tried("begun")
    declared = seen.life.method.evaluation_inputs
    read = {*seen.data[2], *seen.life.resources.read}
    require(read <= set(declared), f"it reads {', '.join(sorted(read - set(declared)))} and declares {list(declared)}")


@check(
    "prepare-leaves-base",
    reason="Statistics are gathered on the untouched base, and must leave it so.",
    hint="Work on copies; remove hooks and adapters in a `finally`; restore requires_grad.",
)
def prepare_leaves_base(seen: Scenarios) -> None:
    """The base after prepare is the base before."""
    difference = seen.begun.untouched.difference(seen.begun.base)
    require(not difference, f"after prepare {difference}")


@check(
    "prepare-deterministic",
    reason="Cached statistics stand for computed ones.",
    hint="Torch is seeded before prepare; draw from it or from resources.seed alone, and sum in a fixed order.",
)
def prepare_deterministic(seen: Scenarios) -> None:
    """Computed twice, the same bits."""
    _ = seen.begun
    if tensor_problem(seen.life.prepared):
        raise Inconclusive("the statistics are no tensors that could be compared")
    differ = changes(seen.life.prepared, seen.resumed[0].prepared)
    require(not differ, f"{len(differ)} tensors differ between two computations, such as {differ[:1]}")


@check(
    "prepared-storable",
    reason="Statistics are cached as safetensors; nothing is ever pickled.",
    hint="Return a dict of finite, dense tensors by name.",
)
def prepared_storable(seen: Scenarios) -> None:
    """Finite, dense tensors by name."""
    seen.tried("begun")
    problem = tensor_problem(seen.life.prepared)
    require(not problem, f"prepare gave {problem}")


@check(
    "diagnostics-numbers",
    reason="What prepare found out stands in the report as numbers by name.",
    hint="Return a dict from text to finite float.",
)
def figures_numbers(seen: Scenarios) -> None:
    """Finite numbers by name."""
    _ = seen.begun
    found = seen.life.method.diagnostics(seen.life.prepared)
    for name, value in found.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        require(isinstance(name, str) and number, f"figures gave {name!r}: {value!r}")
