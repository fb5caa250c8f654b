"""Whole runs in several injection stages, on a tiny random model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.errors import UserError
from harness.commands import compare as conductor
from harness.commands import verify as verifying
from harness.commands.compare import CompareResult
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.method_settings import ResolvedMethodSettings
from harness.config.settings import Request, resolve
from harness.data.knowledge_split import split_knowledge
from harness.experiment import leaks, resources
from harness.experiment import run_cell as running
from harness.experiment.cell import ANSWERS, TRAINING, Cell
from harness.experiment.context import build_context
from harness.experiment.results import read_results
from harness.experiment.stages import cached_stages, tasks_after
from harness.experiment.train import train_stage
from harness.training import loop as core
from helpers import small_runs, tiny
from helpers.log_lines import log_lines
from methods import base
from reports.record import Cost, to_json

pytestmark = pytest.mark.usefixtures("short_answers")
PLAIN = "lora"
COUNT = 3


class Killed(BaseException):
    """Simulates a kill: nothing in the program may catch it."""


class Carrier(base.InjectionMethod):
    """Passes on how many stages were trained, and reports what it received."""

    def prepare(self, model, resources):
        assert resources.stages == COUNT
        self.before = float(resources.stage_state["count"]) if resources.stage_state else 0.0
        assert self.before == resources.stage - 1
        return {"seen": torch.tensor(self.before)}

    def export_stage_state(self, model):
        return {"count": torch.tensor(self.before + 1)}

    def diagnostics(self, prepared):
        return {"stages before": float(prepared["seen"])}


class WildLater(base.InjectionMethod):
    """Diverges at the second stage."""

    def prepare(self, model, resources):
        self.stage = resources.stage
        return {}

    def penalty(self, model, batch, logits):
        return logits.sum() * float("inf") if self.stage == 2 else None


class Pickler(base.InjectionMethod):
    """Passes on something that is not a tensor."""

    def export_stage_state(self, model):
        return {"state": [1, 2]}


class Fresh(base.InjectionMethod):
    """Starts every stage afresh."""

    def load_previous_stage(self, model, earlier):
        pass


@pytest.fixture
def method(monkeypatch):
    """Registers a class under a name for the length of a test."""
    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))

    def register(kind: type[base.InjectionMethod], name: str = "own") -> str:
        base.METHODS[name] = type(kind.__name__, (kind,), {"name": name, "__module__": kind.__module__})
        return name

    return register


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_folder, short_answers) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    small_runs.write_preset(folder, tiny_folder)
    return folder


def request(bench: Path, out: Path, *methods: str, sets=(), stages=COUNT, **flags) -> Request:
    return Request(methods or (PLAIN,), resolve(str(bench / "small.yaml"), sets, {"stages": stages, **flags}), out)


def run(bench: Path, out: Path, *methods: str, report: bool = False, **options) -> tuple[CompareResult, str]:
    """Run a comparison; its report, which takes longest, only for tests that look at it."""
    with log_lines() as lines, pytest.MonkeyPatch.context() as patch:
        if not report:
            patch.setattr(conductor, "write_report", lambda record, folder: folder)
        result = conductor.compare(request(bench, out, *methods, **options))
    return result, "\n".join(lines)


def numbers(out: Path) -> bytes:
    """The record of a run without its costs; all tables follow from it."""
    record = read_results(out)
    cells = (dataclasses.replace(cell, cost=Cost()) for cell in record.cells)
    return to_json(dataclasses.replace(record, cells=tuple(cells)))


def contents(out: Path, kind: str) -> dict[str, bytes]:
    """The content of the store's entries of a kind."""
    folder = out / "store" / kind
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".manifest"}


@pytest.fixture(scope="module")
def finished(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    result, _ = run(bench, out, report=True)
    assert result.exit_code == 0
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_each_stage_is_asked_about_all_parts_so_far(bench, finished):
    base_cell, trained = read_results(finished).cells
    assert base_cell.stages == ()
    assert [(stage.number, stage.items) for stage in trained.stages] == [(1, 3), (2, 3), (3, 2)]
    dealt = split_knowledge(tiny.knowledge(8), COUNT, 0)
    for stage, part in zip(trained.stages, dealt, strict=True):
        assert set(stage.questions) == {item.id.removeprefix("item-") for item in part}
        so_far = {name for other in trained.stages[: stage.number] for name in other.questions}
        assert stage.adaptation.keys() == so_far
        assert all(0 <= value <= 1 for value in stage.adaptation.values())
    assert len(contents(finished, "adapters")) == len(contents(finished, "training")) == COUNT
    assert len(contents(finished, "answers")) == 1 + COUNT
    assert trained.cost.optimiser_steps == len(trained.training) == 3 * 2  # two epochs of one batch each


def test_a_second_run_does_nothing_and_other_stages_share_only_the_base(bench, copy):
    results = (copy / "results.json").read_bytes()
    _, log = run(bench, copy)
    assert "reused from earlier runs: 3 training, 4 answers, 4 scores; 0 scores are new" in log
    assert (copy / "results.json").read_bytes() == results
    _, log = run(bench, copy, stages=1)
    assert "0 training, 1 answers" in log
    assert "stages: 3 -> 1" in log
    assert read_results(copy).cells[1].stages == ()


def test_I7_verify_covers_the_stages(bench, copy, monkeypatch):
    findings = verify(copy)
    assert findings.differences == ()
    assert findings.answers == 8 + 3 + 6 + 8
    assert findings.scores == 4
    record = read_results(copy)
    trained = record.cells[1]
    stage = trained.stages[1]
    changed = {name: 1.0 - value for name, value in stage.adaptation.items()}
    others = (
        dataclasses.replace(stage, adaptation=changed),
        dataclasses.replace(stage, questions=stage.questions[::-1]),
        dataclasses.replace(stage, items=9),
    )
    monkeypatch.setattr(verifying, "_compare_files", lambda *_: 0)  # the record is looked at, not its tables
    for other in others:
        stages = (trained.stages[0], other, trained.stages[2])
        cells = (record.cells[0], dataclasses.replace(trained, stages=stages))
        (copy / "results.json").write_bytes(to_json(dataclasses.replace(record, cells=cells)))
        assert any("stages[1]" in line for line in verify(copy).differences)


def test_verify_changes_nothing_in_the_folder(copy, monkeypatch):
    """Neither by what it counts, with other libraries than the run had, nor by what it finds damaged."""
    next((copy / "store" / "scores").glob("*.json")).write_bytes(b"{}")
    monkeypatch.setattr(resources, "versions", lambda *names: {})
    monkeypatch.setattr(leaks, "core_digest", lambda file: "another")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for _ in range(2):
        assert any(line.endswith("is damaged") for line in verify(copy).differences)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_verify_misses_what_a_stage_left(copy, monkeypatch):
    monkeypatch.setattr(verifying, "_compare_files", lambda *_: 0)
    for path in (copy / "store" / "answers").iterdir():
        path.unlink()
    assert any("stage 1 of 3: its answers are not in the store" in line for line in verify(copy).differences)


def test_plan_shows_each_stage(bench, copy, tmp_path):
    done = plan(request(bench, copy))
    assert [line.title for line in done.cells][1:] == [f"{PLAIN} seed 0, stage {n} of 3" for n in (1, 2, 3)]
    assert [(line.trained, line.answered, line.asked, line.scored) for line in done.cells][1:] == [(True, 1, 1, 1)] * 3
    assert done.seconds == done.bytes == 0
    todo = plan(request(bench, tmp_path / "new"))
    assert [(line.trained, line.answered) for line in todo.cells] == [(None, 0), *[(False, 0)] * 3]
    assert all(line.seconds > 0 for line in todo.cells)


def test_what_a_method_hands_on_comes_back_and_is_stored(bench, tmp_path, method):
    result, _ = run(bench, tmp_path / "run", method(Carrier))
    own = result.run.cells[1]
    assert own.status == "ok", own.reason
    assert own.diagnostics == {"stages before": 2.0}
    stored = (tmp_path / "run" / "store" / "carried").glob("*.safetensors")
    assert sorted(float(load_file(path)["count"]) for path in stored) == [1.0, 2.0]


def test_nothing_is_handed_on_with_a_single_stage(bench, tmp_path, method):
    result, _ = run(bench, tmp_path / "run", method(Pickler), stages=1)
    assert result.run.cells[1].status == "ok"
    assert not (tmp_path / "run" / "store" / "carried").exists()


def test_what_is_no_tensor_is_not_handed_on(bench, copy, method):
    result, _ = run(bench, copy, method(Pickler), PLAIN)
    assert [cell.status for cell in result.run.cells] == ["ok", "failed", "ok"]
    assert "export_stage_state" in result.run.cells[1].reason
    assert result.run.cells[1].stages == ()


def _still(bench: Path, out: Path, name: str) -> list[dict[str, torch.Tensor]]:
    """The adapters of two stages, the second trained at a rate that changes nothing."""
    context = build_context(request(bench, out, name))
    adapters, untouched = [], context.model.fingerprint()
    first = next(running.run_stages(context, context.cells[1])).stage
    assert first.status == "ok"
    adapters.append(context.store.read_tensors("adapters", first.training_key(context.cache_inputs)))
    rate = dataclasses.replace(first.cell.settings.values, learning_rate=1e-30, projector_learning_rate=1e-30)
    second = dataclasses.replace(first, number=2, cell=_with(first.cell, rate), previous=first, record={})
    train_stage(context, second)
    adapters.append(context.store.read_tensors("adapters", second.training_key(context.cache_inputs)))
    assert context.model.fingerprint() == untouched
    return adapters


def _with(cell: Cell, values) -> Cell:
    return dataclasses.replace(cell, settings=ResolvedMethodSettings(values, cell.settings.origins))


def test_I4_a_stage_begins_where_the_one_before_ended_and_leaves_the_base_alone(bench, tmp_path, method):
    first, second = _still(bench, tmp_path / "on", PLAIN)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = _still(bench, tmp_path / "fresh", method(Fresh))  # the positive control
    assert not all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if "lora_A" in name]
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


def test_a_stage_that_diverges_is_said_and_what_came_before_is_kept(bench, tmp_path, method, monkeypatch):
    result, _ = run(bench, tmp_path / "run", method(WildLater), PLAIN)
    own = result.run.cells[1]
    assert own.status == "diverged"
    assert own.reason.startswith("stage 2 of 3: ")
    assert [stage.number for stage in own.stages] == [1]
    assert own.scores == {}
    assert result.run.cells[2].status == "ok"
    monkeypatch.setattr(verifying, "_compare_files", lambda *_: 0)  # there is no report
    assert verify(tmp_path / "run").differences == ()
    titles = [line.title for line in plan(request(bench, tmp_path / "run", "own")).cells]
    assert titles[1:] == ["own seed 0, stage 1 of 3", "own seed 0, stage 2 of 3"]
    _, log = run(bench, tmp_path / "run", "own", PLAIN)
    assert "reused from earlier runs: 5 training, 5 answers" in log


def test_I5_a_limited_run_marks_the_numbers_of_its_stages(bench, tmp_path):
    result, _ = run(bench, tmp_path / "run", limit=4)
    assert [stage.items for stage in result.run.cells[1].stages] == [2, 1, 1]
    assert "limited" in result.run.cells[1].marks


# Kills, losses, refusals.


@pytest.mark.parametrize(
    "moment",
    [
        "between stages",
        "inside the second stage",
        pytest.param("while asking after the first", marks=pytest.mark.slow),
    ],
)
def test_I9_a_killed_run_goes_on_to_the_same_bytes(bench, finished, tmp_path, monkeypatch, moment):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        if moment == "between stages":
            trained: list[int] = []

            def train(context, stage):
                if trained:
                    raise Killed
                trained.append(stage.number)
                return train_stage(context, stage)

            patch.setattr(running, "train_stage", train)
        elif moment == "inside the second stage":
            made, steps = core._Loop.step, []

            def step(loop):
                if len(steps) == 3:  # two steps of the first stage, one of the second
                    raise Killed
                steps.append(1)
                return made(loop)

            patch.setattr(core._Loop, "step", step)
        else:
            answered = running.get_answers

            def ask(context, cell, stage, tasks):
                if stage:
                    raise Killed
                return answered(context, cell, stage, tasks)

            patch.setattr(running, "get_answers", ask)
        with pytest.raises(Killed):
            run(bench, out)
    kept = contents(out, "adapters")
    assert len(kept) == 1
    checkpoints = list((out / "store").glob("training_checkpoint/*.safetensors"))
    assert bool(checkpoints) == (moment == "inside the second stage")
    _, log = run(bench, out)
    assert "reused from earlier runs: 1 training" in log
    assert contents(out, "adapters") == contents(finished, "adapters")
    assert kept.items() <= contents(out, "adapters").items()
    assert contents(out, "answers") == contents(finished, "answers")
    assert numbers(out) == numbers(finished)
    assert not list((out / "store").glob("training_checkpoint/*.safetensors"))


def test_I9_what_a_kill_leaves_of_finished_work_is_removed(bench, copy):
    """Between a record and the deletion of its checkpoint, and between answers and that of their log."""
    context = build_context(request(bench, copy))
    for stage in cached_stages(context, context.cells[1]):
        key = stage.training_key(context.cache_inputs)
        context.store.checkpoint(TRAINING, key).save({"weight": torch.ones(1)}, 1)
    for kind, entry_id in list(context.store.entries()):
        if kind == ANSWERS:
            context.store.journal(ANSWERS, context.store.read_by_id(kind, entry_id)[1]).append([1])
    left = [*copy.glob("store/training_checkpoint/*"), *copy.glob("store/answers/*.log")]
    assert len(left) == 3 * 4 + 4
    _, log = run(bench, copy)
    assert "3 training, 4 answers" in log
    assert [path for path in left if path.exists()] == []


def test_I1_lost_adapters_are_trained_again_only_where_they_are_needed(bench, finished, copy):
    whole = contents(copy, "adapters")
    for path in (copy / "store" / "adapters").iterdir():
        path.unlink()
    _, log = run(bench, copy)
    assert "3 training, 4 answers" in log  # nothing needed them
    record = read_results(copy).cells[1]
    context = build_context(request(bench, copy))
    stage = cached_stages(context, context.cells[1])[1]
    (task,) = tasks_after(context, stage)
    context.store.remove("answers", stage.cell.answers_key(context.cache_inputs, stage.adapter, task.questions))
    _, log = run(bench, copy)
    assert "1 training, 3 answers" in log  # the third stage stands; the second is needed, and the first for it
    assert contents(copy, "adapters").items() <= whole.items()
    assert len(contents(copy, "adapters")) == 2
    assert read_results(copy).cells[1].stages == record.stages
    assert numbers(copy) == numbers(finished)


def test_questions_and_knowledge_belong_together_by_id_or_by_place(bench, tmp_path):
    inputs = build_context(request(bench, tmp_path / "run")).inputs
    assert inputs.item_of_question == {str(number): f"item-{number}" for number in range(8)}
    by_id = dataclasses.replace(inputs, item_ids=tuple(str(number) for number in reversed(range(9))))
    assert by_id.item_of_question == {str(number): str(number) for number in range(8)}
    with pytest.raises(UserError, match="'0' names no knowledge item"):
        _ = dataclasses.replace(inputs, item_ids=inputs.item_ids[:-1]).item_of_question


def test_stages_that_the_data_does_not_allow_are_refused_before_anything_is_computed(bench, tmp_path):
    with pytest.raises(UserError, match="8 knowledge items cannot be split into 9 stages"):
        build_context(request(bench, tmp_path / "run", stages=9))
    inputs = build_context(request(bench, tmp_path / "run")).inputs
    with pytest.raises(UserError, match="questions about the new knowledge"):
        _ = dataclasses.replace(inputs, tasks=()).item_of_question
    with pytest.raises(UserError, match="stages"):
        request(bench, tmp_path / "run", stages=0)
