"""Whole runs of a task sequence on a tiny random model, beside those of random parts, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from benchmarks.registry import EVOKE_FILE, INJECTION_FILE
from harness.commands import compare as conductor
from harness.commands import verify as verifying
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.data.inputs import load_inputs
from harness.data.knowledge_split import check_stages, split_knowledge, stages_signature
from harness.experiment import run_cell as running
from harness.experiment.context import build_context
from harness.experiment.results import read_results
from harness.experiment.stages import list_stages, tasks_after
from harness.experiment.train import train_stage
from harness.storage.store import Store
from helpers import tiny
from helpers.log_lines import log_lines
from helpers.sequences import write_sequence, write_stage
from reports.record import Cost, to_json
from reports.tables.run_diff import diff_runs

pytestmark = pytest.mark.usefixtures("short_answers")
NAMES = ("first", "second")
PARTS = [[int(item.id.removeprefix("item-")) for item in part] for part in split_knowledge(tiny.knowledge(8), 2, 0)]


class Killed(BaseException):
    """Simulates a kill: nothing in the program may catch it."""


@pytest.fixture(scope="module")
def preset(tmp_path_factory, tiny_folder) -> Path:
    """A sequence of the parts that ``--stages 2`` draws from the data of ``small.yaml`` beside it."""
    return write_sequence(tmp_path_factory.mktemp("bench"), tiny_folder, dict(zip(NAMES, PARTS, strict=True)))


def request(preset: Path, out: Path, *methods: str, sets=(), **flags) -> Request:
    return Request(methods or ("lora",), resolve(str(preset), sets, flags), out)


def run(preset: Path, out: Path, *methods: str, report: bool = False, **options):
    with log_lines() as lines, pytest.MonkeyPatch.context() as patch:
        if not report:
            patch.setattr(conductor, "write_report", lambda record, folder: folder)
        result = conductor.compare(request(preset, out, *methods, **options))
    return result.run, "\n".join(lines)


def contents(out: Path, kind: str) -> dict[str, bytes]:
    folder = out / "store" / kind
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".manifest"}


@pytest.fixture(scope="module")
def finished(preset, tmp_path_factory, short_answers) -> Path:
    out = tmp_path_factory.mktemp("finished")
    run(preset, out)
    return out


def test_the_parts_that_stages_draw_give_the_same_adapters_bit_for_bit(preset, finished, tmp_path):
    drawn, _ = run(preset.with_name("small.yaml"), tmp_path, stages=2)
    assert contents(finished, "adapters") == contents(tmp_path, "adapters")
    assert len(contents(finished, "adapters")) == 2
    given = read_results(finished)
    assert [(stage.name, stage.items) for stage in given.cells[1].stages] == [("first", 4), ("second", 4)]
    pairs = list(zip(given.cells[1].stages, drawn.cells[1].stages, strict=True))
    assert all(dataclasses.replace(one, name="") == other for one, other in pairs[:1])
    assert [one.questions for one, _ in pairs] == [other.questions for _, other in pairs]
    assert [one.adaptation.keys() for one, _ in pairs] == [other.adaptation.keys() for _, other in pairs]
    assert [stage.name for stage in drawn.cells[1].stages] == ["", ""]


def test_it_is_verified_planned_and_reused_by_name_and_place(preset, finished, monkeypatch):
    monkeypatch.setattr(verifying, "_compare_files", lambda *_: 0)  # there is no report
    assert verify(finished).differences == ()
    titles = [line.title for line in plan(request(preset, finished)).cells]
    assert titles[1:] == ["lora seed 0, stage 1 of 2 (first)", "lora seed 0, stage 2 of 2 (second)"]
    assert plan(request(preset, finished)).seconds == 0
    before = (finished / "results.json").read_bytes()
    _, log = run(preset, finished)
    assert "reused from earlier runs: 2 training, 3 answers, 3 scores; 0 scores are new" in log
    assert (finished / "results.json").read_bytes() == before


def test_the_signature_is_that_of_the_content(preset, finished, tmp_path):
    def signature(*sets: str) -> str:
        inputs = load_inputs(resolve(str(preset), sets).settings, Store(tmp_path))
        return stages_signature(inputs, len(inputs.sequence))

    moved = write_stage(preset.parent / "first", tmp_path / "moved", range(4))
    second = preset.parent / "second"
    same = signature(f"stages=[{{knowledge: {moved}, name: other}}, {{knowledge: {second}}}]")
    assert signature() == same
    assert f"|stages:{same}|" in read_results(finished).signature
    swapped = signature(f"stages=[{{knowledge: {second}}}, {{knowledge: {moved}}}]")
    assert swapped.startswith("2 given, data ")
    assert swapped != same
    old, new = (dataclasses.replace(read_results(finished), signature=f"stages:{one}") for one in (same, swapped))
    assert ("the run", "stages", same, swapped) in diff_runs(old, new)[0].records


def test_one_stage_is_a_run_over_its_data_and_a_limit_is_dealt(preset, tmp_path):
    one = build_context(request(preset, tmp_path, sets=[f"stages=[{{knowledge: {preset.parent / 'data'}}}]"]))
    plain = build_context(request(preset.with_name("small.yaml"), tmp_path))
    (stage,), (all_at_once,) = (list_stages(context, context.cells[1]) for context in (one, plain))
    assert stage.training_key(one.cache_inputs) == all_at_once.training_key(plain.cache_inputs)
    assert [task.fingerprint for task in one.inputs.tasks] == [task.fingerprint for task in plain.inputs.tasks]
    limited = build_context(request(preset, tmp_path, limit=3))
    stages = list_stages(limited, limited.cells[1])
    assert [[item.id for item in stage.knowledge] for stage in stages] == [
        [f"item-{row}" for row in sorted(PARTS[0])[:2]],
        [f"item-{row}" for row in sorted(PARTS[1])[:1]],
    ]
    asked = [[question.id for question in tasks_after(limited, stage)[0].questions] for stage in stages]
    assert asked == [[str(row) for row in sorted(PARTS[0])[:2]], [*asked[0], str(min(PARTS[1]))]]


# What is refused, before anything is computed.


@pytest.fixture
def stages(preset, tmp_path):
    """Copies of both data sets to spoil."""
    return [write_stage(preset.parent / name, tmp_path / name, range(4)) for name in NAMES]


def refused(preset: Path, stages: list[Path], **options) -> str:
    listed = ", ".join(f"{{knowledge: {stage}}}" for stage in stages)
    with pytest.raises(UserError) as caught:
        load_inputs(resolve(str(preset), [f"stages=[{listed}]"], options).settings, Store(stages[0].parent / "store"))
    assert caught.value.hint
    return str(caught.value)


def edit(folder: Path, row: int, **changes) -> None:
    rows = json.loads((folder / INJECTION_FILE).read_text())
    rows[row].update(changes)
    (folder / INJECTION_FILE).write_text("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]")


def test_items_of_two_stages_are_refused_with_both_places(preset, stages):
    rows = json.loads((stages[0] / INJECTION_FILE).read_text())
    first, second = (stage / INJECTION_FILE for stage in stages)
    edit(stages[0], 0)  # one row a line
    edit(stages[1], 2, id=rows[1]["id"])
    assert f"{second}:4: item '{rows[1]['id']}' has the id of another item, in {first}:3" in refused(preset, stages)
    edit(stages[1], 2, **rows[1])
    assert f"{second}:4: item '{rows[1]['id']}' is also in {first}:3" in refused(preset, stages)
    edit(stages[1], 2, **rows[1] | {"id": "own"})
    assert f"{second}:4: item 'own' has the picture and the text of {first}:3" in refused(preset, stages)
    edit(stages[1], 2, **rows[1] | {"id": "own", "image": rows[2]["image"]})  # another picture: the control
    listed = ", ".join(f"{{knowledge: {stage}}}" for stage in stages)
    assert load_inputs(resolve(str(preset), [f"stages=[{listed}]"]).settings, Store(stages[0].parent / "store"))


def test_missing_shared_and_exchanged_questions_are_refused(preset, stages, tmp_path):
    questions = [(stage / EVOKE_FILE).read_text() for stage in stages]
    (stages[1] / EVOKE_FILE).unlink()
    words = f"stages, number 2 (second): {stages[1] / EVOKE_FILE}: there are no questions about this stage"
    assert words in refused(preset, stages)
    (stages[1] / EVOKE_FILE).write_text("")
    assert "the file is empty" in refused(preset, stages)
    for stage, rows in zip(stages, questions[::-1], strict=True):
        (stage / EVOKE_FILE).write_text(
            rows.replace('"question_id": ', '"question_id": "item-').replace(', "im', '", "im')
        )
    assert "of the stage 'first' have the ids of items of the stage 'second'" in refused(preset, stages)
    one_folder = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, stage in zip(one_folder, stages, strict=True):
        file.write_text((stage / INJECTION_FILE).read_text().replace('"image": "', f'"image": "{stage.name}/'))
    (tmp_path / EVOKE_FILE).write_text(questions[0])
    assert "the stage 'a' has these questions too" in refused(preset, one_folder)


def test_missing_files_small_limits_and_no_questions_at_all_are_refused(preset, stages):
    gone = stages[1].with_name("gone.json")
    words = f"stages, number 2 (gone): {gone}: there is no such file of knowledge"
    assert words in refused(preset, [stages[0], gone])
    assert "1 items cannot be shared among 2 stages" in refused(preset, stages, limit=1)
    inputs = load_inputs(resolve(str(preset)).settings, Store(stages[0].parent / "store"))
    check_stages(inputs, 2)
    with pytest.raises(UserError, match="several stages need questions about the new knowledge"):
        check_stages(dataclasses.replace(inputs, tasks=()), 2)


# Methods that continue in their own way, and kills.


@pytest.mark.slow
def test_methods_that_hold_earlier_stages_do_so_as_with_drawn_parts(preset, tmp_path):
    methods = ("o-lora", "sefe", "ewc")
    given, _ = run(preset, tmp_path / "given", *methods, report=True)
    drawn, _ = run(preset.with_name("small.yaml"), tmp_path / "drawn", *methods, stages=2)
    assert [cell.status for cell in (*given.cells, *drawn.cells)] == ["ok"] * 8
    for kind in ("adapters", "carried"):
        assert contents(tmp_path / "given", kind) == contents(tmp_path / "drawn", kind)
    assert verify(tmp_path / "given").differences == ()


@pytest.mark.slow
def test_I9_a_killed_sequence_goes_on_to_the_same_bytes(preset, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        trained: list[int] = []

        def train(context, stage):
            if trained:
                raise Killed
            trained.append(stage.number)
            return train_stage(context, stage)

        patch.setattr(running, "train_stage", train)
        with pytest.raises(Killed):
            run(preset, tmp_path)
    record, log = run(preset, tmp_path)
    assert "reused from earlier runs: 1 training" in log
    for kind in ("adapters", "answers"):
        assert contents(tmp_path, kind) == contents(finished, kind)

    def without_costs(one):
        return to_json(dataclasses.replace(one, cells=tuple(dataclasses.replace(c, cost=Cost()) for c in one.cells)))

    assert without_costs(record) == without_costs(read_results(finished))


def test_I7_a_changed_name_is_found(finished, monkeypatch):
    monkeypatch.setattr(verifying, "_compare_files", lambda *_: 0)
    record = read_results(finished)
    kept = (finished / "results.json").read_bytes()
    first, second = record.cells[1].stages
    cell = dataclasses.replace(record.cells[1], stages=(dataclasses.replace(first, name="other"), second))
    (finished / "results.json").write_bytes(to_json(dataclasses.replace(record, cells=(record.cells[0], cell))))
    try:
        assert [line for line in verify(finished).differences if "stages[0].name" in line]
    finally:
        (finished / "results.json").write_bytes(kept)
