"""Checks of the training data and of the statistics computed before training."""

from __future__ import annotations

import math

from benchmarks.records import Conversation
from harness.conformance.errors import Inconclusive
from harness.conformance.fakes import evaluation_questions
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.conformance.snapshot import changed_tensors
from harness.training.hook_checks import tensor_problem


@check(
    reason="Samples are identified by their ids, and each must end with an answer to learn.",
    hint="Return a list of at least one Conversation, with unique ids, each ending with a turn of the assistant.",
    training=True,
)
def check_training_data(scenarios: Scenarios) -> None:
    """Training data are conversations with unique ids that end with an answer."""
    samples = scenarios.training_data.first
    require(isinstance(samples, list) and samples, f"training_data returned {type(samples).__name__} of {len(samples)}")
    require(
        all(isinstance(sample, Conversation) for sample in samples), "not all samples are of the class Conversation"
    )
    ids = [sample.id for sample in samples]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    require(not repeated, f"{len(repeated)} ids are used more than once, such as {repeated[:1]}")
    for sample in samples:
        last = sample.turns[-1]
        require(last.role == "assistant" and last.text.strip(), f"{sample.id} does not end with an answer")


@check(
    reason="A run that is resumed or repeated must train on the same data.",
    hint="Draw from random.Random(resources.seed) or numpy's default_rng(resources.seed), not from a global generator.",
    training=True,
)
def check_training_data_deterministic(scenarios: Scenarios) -> None:
    """The same seed gives the same training data."""
    first, second = scenarios.training_data[:2]
    pairs = zip(first, second, strict=False)
    count = sum(one != other for one, other in pairs) + abs(len(first) - len(second))
    require(not count, f"{count} of {len(first)} samples differ between two calls with the same seed")


@check(
    reason="Training on evaluation questions would make every score of the row worthless.",
    hint="Use benchmark_prompts in prepare only, never in training_data.",
    training=True,
)
def check_no_evaluation_questions(scenarios: Scenarios) -> None:
    """No training sample contains an evaluation question."""
    questions = {question.turns[0].text for question in evaluation_questions()}
    samples = scenarios.training_data.first
    ids = [sample.id for sample in samples if any(turn.text in questions for turn in sample.turns)]
    require(not ids, f"{len(ids)} samples contain evaluation questions, such as {ids[:1]}")


@check(
    reason="A row that has seen the inputs of a benchmark is marked transductive and never ranked.",
    hint="Name the benchmark in the property evaluation_inputs, or do not ask for its questions.",
)
def check_evaluation_inputs_declared(scenarios: Scenarios) -> None:
    """Only benchmarks named in ``evaluation_inputs`` are read."""
    scenarios.attempt("attach_state")
    lifecycle = scenarios.lifecycle
    declared = lifecycle.method.evaluation_inputs
    read = {*scenarios.training_data.benchmarks_read, *lifecycle.resources.benchmarks_read}
    undeclared = ", ".join(sorted(read - set(declared)))
    require(not undeclared, f"it reads {undeclared} and declares {list(declared)}")


@check(
    reason="Results are stored by the content of the pools that a method declares, and it can draw from no other.",
    hint="Name the pool in the property pools, or do not draw from it.",
)
def check_pools_declared(scenarios: Scenarios) -> None:
    """Samples are drawn only from pools named in ``pools``."""
    scenarios.attempt("attach_state")
    lifecycle = scenarios.lifecycle
    declared = lifecycle.method.pools
    read = {*scenarios.training_data.pools_read, *lifecycle.resources.pools_read}
    undeclared = ", ".join(sorted(read - set(declared)))
    require(not undeclared, f"it draws from {undeclared} and declares {list(declared)}")


@check(
    reason="Statistics are measured on the untouched base, which must stay untouched.",
    hint="Work on copies; remove hooks and adapters in a `finally` block; restore requires_grad.",
)
def check_prepare_keeps_base(scenarios: Scenarios) -> None:
    """After ``prepare``, the base is what it was before."""
    difference = scenarios.attach_state.loaded.difference(scenarios.attach_state.base)
    require(not difference, f"after prepare, {difference}")


@check(
    reason="Cached statistics must equal computed ones.",
    hint="Torch is seeded before prepare; draw only from it or from resources.seed, and sum in a fixed order.",
)
def check_prepare_deterministic(scenarios: Scenarios) -> None:
    """Computed twice, the statistics are equal bit for bit."""
    _ = scenarios.attach_state
    prepared = scenarios.lifecycle.prepared
    if tensor_problem(prepared):
        raise Inconclusive("the statistics are not tensors that can be compared")
    names = changed_tensors(prepared, scenarios.resumed_run.lifecycle.prepared)
    require(not names, f"{len(names)} tensors differ between two computations, such as {names[:1]}")


@check(
    reason="Statistics are cached as safetensors; nothing is ever pickled.",
    hint="Return a dict from names to finite, dense tensors.",
)
def check_prepare_tensors(scenarios: Scenarios) -> None:
    """``prepare`` returns finite, dense tensors by name."""
    scenarios.attempt("attach_state")
    problem = tensor_problem(scenarios.lifecycle.prepared)
    require(not problem, f"prepare returned {problem}")


@check(
    reason="The report shows the diagnostics as numbers with names.",
    hint="Return a dict from strings to finite floats.",
)
def check_diagnostics_numbers(scenarios: Scenarios) -> None:
    """``diagnostics`` returns finite numbers by name."""
    _ = scenarios.attach_state
    lifecycle = scenarios.lifecycle
    for name, value in lifecycle.method.diagnostics(lifecycle.prepared).items():
        is_number = isinstance(value, int | float) and math.isfinite(value)
        require(isinstance(name, str) and is_number, f"diagnostics returned {name!r}: {value!r}")
