"""Runs with rows that ask the questions in their own way: keys, records, marks, limits, and what verify finds."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.experiment import answer as answering
from harness.experiment.asking import ASKED, Asker
from harness.experiment.context import build_context
from harness.experiment.request_file import read_request
from harness.experiment.results import read_results
from harness.experiment.rows import list_cells
from harness.experiment.stages import list_stages, stored_record
from helpers.small_runs import write_preset
from helpers.tiny import knowledge
from methods import registry

pytestmark = pytest.mark.slow

ROWS = ("golden-context", "retrieval", "retrieval:text", "in-context")
ITEMS = knowledge(8)


def request(preset, out, methods=ROWS, assignments=(), plugins=()):
    return Request(tuple(methods), resolve(str(preset), assignments), out, plugins)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder, short_answers):
    """A finished run of ids that are those of the items row by row, and its preset."""
    folder = tmp_path_factory.mktemp("asking")
    preset = write_preset(folder, tiny_folder)
    result = compare(request(preset, folder / "run"))
    assert not [output.reason for output in result.outputs if output.status != "ok"]
    return folder / "run", preset


def cells(folder):
    return {cell.label: cell for cell in read_results(folder).cells}


def recorded(folder):
    """The texts of the questions as they were asked, by row, in order."""
    context = build_context(read_request(folder))
    (task,) = context.inputs.tasks
    texts = {}
    for cell in context.cells[1:]:
        stage = list_stages(context, cell)[-1]
        stage = dataclasses.replace(stage, record=stored_record(context, stage))
        ((_, key),) = answering._keys(context, cell, stage, [task])
        texts[cell.label] = [turns[0] for _, turns, _ in context.store.read_json(ASKED, key)]
    return texts


def test_rows_are_asked_marked_and_verified(finished):
    run, preset = finished
    found = cells(run)
    assert {label: cell.marks for label, cell in found.items()} == {
        "vanilla": (),
        "golden-context": ("oracle",),
        **dict.fromkeys(ROWS[1:], ("context",)),
    }
    assert [found[row].ranked for row in ROWS] == [False, True, True, True]
    assert {
        (found[row].cost.trainable_parameters, found[row].cost.optimiser_steps, found[row].data) for row in ROWS
    } == {(0, 0, "")}
    asked = recorded(run)
    assert all(ITEMS[number].text in text for number, text in enumerate(asked["golden-context"]))
    originals = {question.text for question in read_results(run).questions}
    for row in ROWS:
        assert originals.isdisjoint(asked[row])
        answers = [item.answer for item in found[row].scores["mini-EVOKE"].items]
        assert answers != [item.answer for item in found["vanilla"].scores["mini-EVOKE"].items]
    tables = "".join(path.read_text() for path in (run / "report" / "tables").glob("*.md"))
    assert "⊤ oracle: the questions are asked with the text" in tables
    assert "⊕ context" in tables
    assert not verify(run).differences
    planned = {line.title: (line.answered, line.asked) for line in plan(request(preset, run)).cells}
    assert set(planned.values()) == {(1, 1)}, "everything is stored"


def test_verify_finds_a_question_that_was_asked_otherwise(finished, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    context = build_context(read_request(run))
    (task,) = context.inputs.tasks
    stage = list_stages(context, context.cells[1])[-1]
    stage = dataclasses.replace(stage, record=stored_record(context, stage))
    ((_, key),) = answering._keys(context, stage.cell, stage, [task])
    rows = context.store.read_json(ASKED, key)
    rows[3][1][0] = rows[3][1][0].replace("yellow", "green")
    context.store.write_json(ASKED, key, rows)
    (difference,) = verify(run).differences
    assert difference == "golden-context seed 0: 1 questions of mini-EVOKE are asked otherwise than recorded"
    context.store.remove(ASKED, key)
    assert any("are not in the store" in line for line in verify(run).differences)


def test_other_knowledge_asks_again_and_equal_knowledge_does_not(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished[0], tmp_path / "run")
    data = shutil.copytree(finished[1].parent / "data", tmp_path / "data")
    preset = tmp_path / "small.yaml"
    preset.write_text(finished[1].read_text())
    asked = []
    original = Asker.ask
    monkeypatch.setattr(Asker, "ask", lambda self, task: asked.append(task.name) or original(self, task))
    compare(request(preset, run))
    assert asked == []
    (file,) = data.glob("*injection*")
    file.write_text(file.read_text().replace("yellow", "green"))
    compare(request(preset, run))
    assert len(asked) == len(ROWS)
    assert all("green" in text for text in recorded(run)["golden-context"])


def test_a_killed_answering_continues_with_the_same_questions(finished, tmp_path, monkeypatch):
    from harness.models import batched_generation

    batches, original = [], batched_generation._Engine.answer

    def answer(self, questions):
        batches.append(len(questions))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return original(self, questions)

    monkeypatch.setattr(batched_generation._Engine, "answer", answer)
    with pytest.raises(KeyboardInterrupt):
        compare(request(finished[1], tmp_path / "run", ["golden-context"]))
    compare(request(finished[1], tmp_path / "run", ["golden-context"]))
    row = cells(tmp_path / "run")["golden-context"]
    assert row.scores == cells(finished[0])["golden-context"].scores
    assert recorded(tmp_path / "run")["golden-context"] == recorded(finished[0])["golden-context"]


def test_stages_ask_with_the_items_so_far(finished, tmp_path):
    compare(request(finished[1], tmp_path / "run", ["retrieval:text", "golden-context"], ["stages=2"]))
    found = cells(tmp_path / "run")
    assert len(found["golden-context"].stages) == 2
    assert not verify(tmp_path / "run").differences


LONG = '''
import dataclasses
from methods.golden_context import GoldenContext

class Long(GoldenContext):
    """A context that is too long."""
    name = "long-context"

    def ask(self, question, resources):
        return dataclasses.replace(question, turns=("blue " * 600 + question.turns[0],))

class Same(GoldenContext):
    """Asks as the base is asked."""
    name = "same-context"

    def ask(self, question, resources):
        return question

class Cheats(GoldenContext):
    """Gives the model more room."""
    name = "more-tokens"

    def ask(self, question, resources):
        assert not question.reference
        return dataclasses.replace(question, max_new_tokens=500)

class Learns(GoldenContext):
    """Sees the reference."""
    name = "sees-reference"

    def ask(self, question, resources):
        return dataclasses.replace(question, turns=(question.reference + question.turns[0],))
'''
REASONS = {
    "long-context": "do not fit into the model's window of 512 tokens",
    "same-context": "asks every question as the untouched base",
    "more-tokens": "ask gave another max_new_tokens",
    "sees-reference": "asks every question as the untouched base",
}


def test_a_row_that_may_not_ask_so_fails_by_name_and_stops_no_other(finished, tmp_path, monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))
    plugin = tmp_path / "long.py"
    plugin.write_text(LONG)
    registry.load_file(plugin)
    result = compare(request(finished[1], tmp_path / "run", [*REASONS, "golden-context"], plugins=(plugin,)))
    found = {output.cell.label: output for output in result.outputs}
    for row, reason in REASONS.items():
        assert found[row].status == "failed"
        assert reason in found[row].reason
    assert found["golden-context"].status == "ok"


def test_the_row_and_the_question_are_named_where_a_context_is_too_long(finished):
    context = build_context(read_request(finished[0]))
    (task,) = context.inputs.tasks
    asker = Asker(context, list_stages(context, context.cells[1])[-1])
    asked = asker.ask(task)
    asker.check_lengths(asked, task.questions)
    long = [dataclasses.replace(question, turns=("blue " * 600 + question.turns[0],)) for question in asked]
    with pytest.raises(UserError, match="8 questions do not fit into the model's window of 512") as caught:
        asker.check_lengths(long, task.questions)
    assert caught.value.location == "golden-context seed 0"
    assert all(f"question {question.id}: " in caught.value.message for question in asked)
    asker.check_lengths(long, long)  # control: what the benchmark itself asks is asked


def test_a_row_without_an_update_cannot_be_scaled(finished, tmp_path):
    result = compare(request(finished[1], tmp_path / "run", ["golden-context:scaled-0.5"]))
    assert result.outputs[-1].status == "failed"
    assert "no update that could be scaled" in result.outputs[-1].reason


def test_sweeps_of_training_do_not_multiply_rows_that_are_not_trained(finished):
    resolved = resolve(str(finished[1]), [], {"cross": [{"setting": "learning_rate", "values": [1e-3, 1e-2]}]})
    labels = [cell.label for cell in list_cells(["retrieval", "lora"], resolved, lambda: [(8, 8)])]
    assert labels[1:] == ["retrieval", "lora (learning_rate 0.001)", "lora (learning_rate 0.01)"]
