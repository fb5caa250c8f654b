"""Whole comparisons with a tiny random model: what is reused, what fails, and what is stored and reported."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

import harness
import harness.models.registry
from benchmarks.errors import UserError
from benchmarks.records import Answer
from benchmarks.registry import EVOKE_FILE
from harness.commands.compare import FAILURES, REPORT_FAILURE, CompareResult, compare
from harness.commands.plan import plan
from harness.commands.report import report
from harness.commands.report import report as make_report
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.experiment.compose import _join_rows
from harness.experiment.context import build_context
from harness.experiment.outputs import AnswerSet, CellOutput
from harness.experiment.results import read_results
from harness.experiment.score import score_all
from harness.storage.files import locked
from harness.storage.store import Store
from helpers import small_runs
from helpers.executor_runs import tables
from helpers.log_lines import log_lines
from methods import base

PLAIN = "lora"


class RestoresNothing(base.InjectionMethod):
    """Restores nothing: its answers would be those of the base."""

    def restore(self, model, tensors):
        pass

    def detach(self, model):
        if "_injection_tuner" in vars(model.module):
            super().detach(model)


class ChangesBase(base.InjectionMethod):
    """Changes the base."""

    def detach(self, model):
        super().detach(model)
        with torch.no_grad():
            next(iter(model.module.parameters())).view(-1)[0] += 1


class Buggy(base.InjectionMethod):
    """Fails with a bug."""

    def prepare(self, model, resources):
        raise RuntimeError("a bug\nwith details")


class NeedsOldData(base.InjectionMethod):
    """Asks for data that the user must give."""

    pools = ("replay",)

    def prepare(self, model, resources):
        return resources.pool_samples(3, "rehearsal") and {}


class DrawsUndeclared(base.InjectionMethod):
    """Does not say which pool it draws from."""

    def prepare(self, model, resources):
        return resources.pool_samples(3, "rehearsal") and {}


class NeedsMemory(base.InjectionMethod):
    """Needs too much memory."""

    def prepare(self, model, resources):
        raise torch.OutOfMemoryError("no memory left")


class Diverging(base.InjectionMethod):
    """Diverges."""

    def penalty(self, model, batch, logits):
        return logits.sum() * float("inf")


@pytest.fixture
def method(monkeypatch):
    """Registers a class under a name for the length of a test."""
    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))

    def register(kind: type[base.InjectionMethod], name: str = "own") -> str:
        base.METHODS[name] = type(kind.__name__, (kind,), {"name": name, "__module__": kind.__module__})
        return name

    return register


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_folder) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    small_runs.write_preset(folder, tiny_folder)
    return folder


def request(bench: Path, out: Path, *methods: str, sets=(), **flags) -> Request:
    return Request(methods or (PLAIN,), resolve(str(bench / "small.yaml"), sets, flags), out)


def run(bench: Path, out: Path, *methods: str, sets=(), **flags) -> tuple[CompareResult, str]:
    with log_lines() as lines:
        result = compare(request(bench, out, *methods, sets=sets, **flags))
    return result, "\n".join(lines)


@pytest.fixture(scope="module")
def finished(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    result, _ = run(bench, out)
    assert result.exit_code == 0
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def entry(out: Path, kind: str, suffix: str) -> list[Path]:
    return sorted((out / "store" / kind).glob(f"*.{suffix}"))


def status(result: CompareResult) -> dict[str, str]:
    return {output.cell.name: output.status for output in result.outputs}


def test_a_second_run_computes_nothing_and_logs_that(bench, copy, monkeypatch):
    def refuse(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(harness.models.registry, "load_model", refuse)
    before, results = tables(copy), (copy / "results.json").read_bytes()
    result, log = run(bench, copy)
    assert "reused from earlier runs: 1 training, 2 answers, 2 scores; 0 scores are new" in log
    assert tables(copy) == before
    assert (copy / "results.json").read_bytes() == results
    assert result.damaged == ()


@pytest.mark.slow
def test_I1_damaged_answers_are_made_again_and_counted(bench, copy):
    before = tables(copy)
    damaged = entry(copy, "answers", "json")[0]
    damaged.write_bytes(damaged.read_bytes().replace(b"question_id", b"question-id"))
    result, log = run(bench, copy)
    assert "1 damaged entries were set aside and made again" in log
    assert len(result.damaged) == 1
    assert tables(copy) == before


@pytest.mark.slow
def test_I1_a_damaged_adapter_is_trained_again_when_it_is_needed(bench, copy):
    before = tables(copy)
    (adapter,) = entry(copy, "adapters", "safetensors")
    whole = adapter.read_bytes()
    adapter.write_bytes(whole[:-1])
    _, log = run(bench, copy)
    assert "1 training, 2 answers" in log  # nothing needed it
    for path in (copy / "store" / "answers").iterdir():
        path.unlink()
    result, log = run(bench, copy)
    assert "0 training, 0 answers" in log
    assert len(result.damaged) == 1
    assert adapter.read_bytes() == whole
    assert tables(copy) == before


@pytest.mark.slow
def test_I2_retraining_in_the_same_folder_never_serves_old_answers(bench, copy):
    (adapter,) = entry(copy, "adapters", "safetensors")
    old = adapter.read_bytes()
    _, log = run(bench, copy, sets=[f"{PLAIN}.learning_rate=0.03"])
    assert "0 training, 1 answers" in log  # those of the untouched base
    assert f"methods.{PLAIN}.learning_rate: null -> 0.03" in log
    assert len(entry(copy, "answers", "json")) == 3
    adapter.write_bytes(old)
    _, log = run(bench, copy)
    assert "1 training, 2 answers" in log


@pytest.mark.slow
def test_I2_other_pictures_under_the_same_names_are_other_knowledge(bench, copy, tmp_path):
    again = tmp_path / "bench"
    shutil.copytree(bench, again)
    _, log = run(again, copy)
    assert "1 training, 2 answers" in log
    shutil.copy(again / "data" / "1.png", again / "data" / "2.png")
    _, log = run(again, copy)
    assert "0 training, 1 answers" in log


def test_I3_no_score_without_exactly_one_answer_to_each_question(bench, finished):
    context = build_context(request(bench, finished))
    (asked,) = context.inputs.tasks
    whole = [Answer(question.id, ("one",)) for question in asked.questions]
    for answers in (whole[:-1], [*whole, whole[0]], [*whole[:-1], Answer("unknown", ("one",))]):
        output = CellOutput(context.cells[0], answers={asked.name: AnswerSet(answers)})
        with pytest.raises(UserError):
            score_all(Store(finished / "nowhere"), [output], [asked])
        assert output.scores == {}
    output = CellOutput(context.cells[0], answers={asked.name: AnswerSet(whole)})
    assert score_all(Store(finished / "nowhere"), [output], [asked]) == (0, 1)
    assert output.scores[asked.name].headline is not None
    shutil.rmtree(finished / "nowhere")


def test_I4_an_adapter_that_changes_no_logit_is_not_scored(bench, copy, method):
    result, _ = run(bench, copy, method(RestoresNothing), PLAIN)
    assert status(result) == {"vanilla": "ok", "own": "failed", PLAIN: "ok"}
    own = result.run.cells[1]
    assert "changes no logit" in own.reason
    assert own.scores == {}
    assert result.exit_code == 2


def test_I4_a_method_that_changes_the_base_fails_and_harms_no_other(bench, copy, method):
    before = {cell.label: cell.scores for cell in read_results(copy).cells}
    result, _ = run(bench, copy, method(ChangesBase), PLAIN, sets=["answering.batch_size=5"])
    assert status(result) == {"vanilla": "ok", "own": "failed", PLAIN: "ok"}
    assert "the base model has changed" in result.outputs[1].reason
    after = {cell.label: cell.scores for cell in result.run.cells}
    assert after[PLAIN]["mini-EVOKE"].headline == before[PLAIN]["mini-EVOKE"].headline


def test_I5_a_limited_run_is_marked_everywhere_and_ranked_nowhere(bench, tmp_path):
    result, _ = run(bench, tmp_path / "run", limit=3)
    assert all("limited" in cell.marks for cell in result.run.cells)
    assert all("limited" in score.marks for cell in result.run.cells for score in cell.scores.values())
    assert not any(cell.ranked for cell in result.run.cells)
    assert any("Limited to 3" in note for note in result.run.notes)
    assert {len(score.items) for cell in result.run.cells for score in cell.scores.values()} == {3}
    assert b"limited" in tables(tmp_path / "run")["tables.md"].lower()


def test_a_full_run_is_not_marked(finished):
    """The positive control of the test above."""
    cells = read_results(finished).cells
    assert not any(cell.marks for cell in cells)
    assert cells[1].ranked


@pytest.mark.slow
def test_a_diverged_method_is_a_marked_row_and_is_not_tried_again(bench, copy, method):
    result, _ = run(bench, copy, method(Diverging), PLAIN)
    assert status(result) == {"vanilla": "ok", "own": "diverged", PLAIN: "ok"}
    assert "diverged" in result.outputs[1].reason
    assert result.exit_code == 0
    assert b"diverged" in tables(copy)["tables.md"]
    _, log = run(bench, copy, "own", PLAIN)
    assert "reused from earlier runs: 2 training, 2 answers" in log


@pytest.mark.parametrize(
    ("kind", "expected", "reason", "code"),
    [
        (Buggy, "failed", "RuntimeError: a bug", 1),
        (NeedsOldData, "failed", "data.replay: samples of the replay pool are needed for rehearsal", 2),
        (DrawsUndeclared, "failed", "pools: the method draws from the replay pool, for rehearsal, and does not", 2),
        (NeedsMemory, "oom", "OutOfMemoryError: no memory left", 2),
    ],
)
def test_one_cell_that_fails_does_not_stop_the_others(bench, copy, method, kind, expected, reason, code):
    result, log = run(bench, copy, method(kind), PLAIN)
    assert status(result) == {"vanilla": "ok", "own": expected, PLAIN: "ok"}
    assert result.outputs[1].reason.startswith(reason)
    assert reason in log
    assert result.exit_code == code
    assert (copy / FAILURES).exists() == (code == 1)


@pytest.mark.slow
def test_a_report_that_fails_loses_no_result(bench, copy, monkeypatch):
    before = tables(copy)
    shutil.rmtree(copy / "report")
    with monkeypatch.context() as broken:
        broken.setattr("reports.build.draw_plots", lambda analysis: 1 // 0)
        result, log = run(bench, copy)
    assert result.exit_code == 1
    assert f"`python -m harness report {copy}` makes it" in log
    assert "ZeroDivisionError" in (copy / REPORT_FAILURE).read_text()
    assert read_results(copy).cells == result.run.cells
    report([copy], None, None)
    assert tables(copy) == before


def test_a_folder_in_use_is_refused(bench, copy):
    with locked(copy), pytest.raises(UserError, match="another command is running"):
        run(bench, copy)
    run(bench, copy)


def test_a_file_in_the_place_of_the_run_is_refused(bench, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="there is a file"):
        run(bench, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_I7_verify_finds_no_difference_in_a_finished_run(finished):
    report = verify(finished)
    assert report.differences == ()
    assert report.answers == 16
    assert report.scores == 2
    assert report.numbers > 100


@pytest.mark.slow
def test_I7_verify_only_reads_and_takes_moved_data(finished, bench, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    data = Path(shutil.copytree(bench / "data", tmp_path / "elsewhere"))
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    assert verify(folder).differences == ()
    moved = [f"data.knowledge={data}", f"data.evaluation={data / EVOKE_FILE}"]
    with pytest.raises(UserError, match="not where data or the model are"):
        verify(folder, ["training.epochs=3"])
    assert verify(folder, moved).differences == ()
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before
    (data / EVOKE_FILE).write_text((data / EVOKE_FILE).read_text().replace('"3 stripes"', '"three stripes"'))
    assert verify(folder, moved).differences


@pytest.mark.parametrize("harm", ["score", "item", "table", "claims", "answer"])
def test_I7_verify_finds_every_number_that_was_changed(copy, harm):
    if harm in ("score", "item"):
        run_record = read_results(copy)
        cell = run_record.cells[1]
        (name,) = cell.scores
        score = cell.scores[name]
        changed = (
            dataclasses.replace(score, headline=99.0)
            if harm == "score"
            else dataclasses.replace(score, items=(dataclasses.replace(score.items[0], answer="x"), *score.items[1:]))
        )
        cells = (run_record.cells[0], dataclasses.replace(cell, scores={name: changed}))
        from reports.record import to_json

        (copy / "results.json").write_bytes(to_json(dataclasses.replace(run_record, cells=cells)))
    elif harm == "table":
        table = copy / "report" / "tables" / "main.csv"
        table.write_bytes(table.read_bytes().replace(b"0", b"1", 1))
    elif harm == "claims":
        make_report([copy], None, "paper")
        assert not verify(copy).differences
        claims = copy / "report" / "paper" / "tables.md"
        claims.write_bytes(claims.read_bytes().replace(b"0", b"1", 1))
    else:
        answers = entry(copy, "answers", "json")[0]
        answers.write_bytes(answers.read_bytes()[:-1])
    assert verify(copy).differences


def test_verify_refuses_the_run_of_another_version(copy):
    path = copy / "results.json"
    record = path.read_text("utf-8")
    assert f"harness:{harness.__version__}|" in record
    for signature, made_by in (("harness:0.1.9|", "version 0.1.9"), ("", "an earlier version")):
        path.write_text(record.replace(f"harness:{harness.__version__}|", signature), "utf-8")
        with pytest.raises(UserError, match=f"made by {made_by}"):
            verify(copy)


def test_verify_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        verify(tmp_path)


def test_plan_knows_what_is_stored_and_what_is_missing(bench, copy, tmp_path):
    done = plan(request(bench, copy))
    assert [(cell.trained, cell.answered, cell.scored) for cell in done.cells] == [(None, 1, 1), (True, 1, 1)]
    assert done.seconds == done.bytes == 0
    assert done.basis == "earlier cells in this folder"
    todo = plan(request(bench, tmp_path / "new"))
    assert [(cell.trained, cell.answered, cell.scored) for cell in todo.cells] == [(None, 0, 0), (False, 0, 0)]
    assert todo.cells[1].seconds > todo.cells[0].seconds > 0
    assert "nothing was measured" in todo.basis


def test_the_record_of_a_run_names_no_path_of_the_machine(finished, bench):
    text = (finished / "results.json").read_text()
    assert str(bench) not in text
    assert str(finished) not in text


def test_a_run_of_many_rows_is_not_named_after_each():
    rows = [f"method-{number}" for number in range(7)]
    assert _join_rows(rows[:2]) == "method-0, method-1"
    assert _join_rows(rows) == "7 methods and variants"
    assert _join_rows([]) == "vanilla"
