"""Questions of a run out, answers from elsewhere in: the documented example, other turns, and bad files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace

import pytest
from transformers import AutoModelForImageTextToText

from benchmarks.errors import UserError
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from harness.commands.answers import export_questions, import_answers
from harness.commands.api import load_run
from harness.commands.compare import compare
from harness.commands.export import export
from harness.commands.plan import plan
from harness.commands.training_data import write_training_data
from harness.commands.verify import verify
from harness.config.settings import Request, parse_rows, resolve
from harness.data import answers_file
from harness.executors import accelerate_launch
from harness.experiment.outputs import CellOutput
from harness.experiment.request_file import read_request, write_request
from harness.experiment.results import read_results
from helpers import small_runs
from helpers.paths import ROOT

BENCHMARKS = ("mini-EVOKE", "mini-MMDU")
"""Questions of one turn, and of several."""


def finish(folder, model, benchmarks, assignments=()):
    """A finished run, and its preset."""
    retention = str(EMBEDDED / "retention")
    preset = small_runs.write_preset(folder, model, benchmarks=", ".join(benchmarks), retention=retention)
    result = compare(request(preset, folder / "run", assignments=assignments))
    assert not [output.reason for output in result.outputs if output.status != "ok"]
    return folder / "run", preset


@pytest.fixture(scope="module")
def base_run(tmp_path_factory, tiny_folder):
    """A finished run with questions of one turn, to be copied, and its preset."""
    return finish(tmp_path_factory.mktemp("finished"), tiny_folder, BENCHMARKS[:1])


@pytest.fixture(scope="module")
def half_folder(tmp_path_factory, tiny_folder):
    """The tiny model stored in 16 bits, as most models on the hub are; a run on a CPU computes in 32."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("half") / "model")
    AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype="float16").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory, half_folder):
    """One whose questions have also several turns; limited, because a random model never ends its answers."""
    return finish(tmp_path_factory.mktemp("both"), half_folder, BENCHMARKS, ["limit=4"])[0]


@pytest.fixture
def run(base_run, tmp_path):
    return shutil.copytree(base_run[0], tmp_path / "run")


@pytest.fixture(scope="module")
def exported(base_run, tmp_path_factory):
    """The lines of the export, and its file."""
    file = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    export_questions(base_run[0], file)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()], file


def request(preset, out, methods=("lora",), assignments=(), **rows):
    return Request(tuple(methods), resolve(str(preset), assignments, parse_rows([], [], **rows)), out)


def command(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answered(rows):
    """Each line with an answer to each turn."""
    return [row | {"answers": [f"{row['id']} {number} stripes" for number in range(len(row["turns"]))]} for row in rows]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def cells(folder):
    return {cell.label: cell for cell in read_results(folder).cells}


ALONE = """
import runpy, sys
sys.modules |= dict.fromkeys(("harness", "methods", "benchmarks", "reports"))  # to import them is an error
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny", "miniature"])
def test_the_documented_example_gives_the_rows_own_scores(model, request, tmp_path):
    """Both models are stored in 16 bits; the miniature is asked all kinds of questions."""
    if model == "tiny":
        base, run = request.getfixturevalue("half_folder"), tmp_path / "run"
        shutil.copytree(request.getfixturevalue("both"), run)
    else:
        resolved, run = resolve("mini", ["limit=4"]), tmp_path / "run"
        base = resolved.settings.model
        compare(Request(("lora",), resolved, run))
    page = (ROOT / "docs" / "exchange.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    (tmp_path / "answer.py").write_text(script, "utf-8")
    adapter, questions, answers = (tmp_path / name for name in ("adapter", "questions.jsonl", "answers.jsonl"))
    before = read_results(run)
    command("-m", "harness", "export", run, "--row", "lora", "--to", adapter)
    out = command("-m", "harness", "answers", "export", run, "--to", questions)
    assert "after the model's own answers" in out
    command("-c", ALONE, tmp_path / "answer.py", base, adapter, questions, answers, cwd=tmp_path)
    out = command("-m", "harness", "answers", "import", answers, "--run", run, "--as", "again")
    assert "again" in out
    after = cells(run)
    assert after["again"].scores == after["lora"].scores, "texts, scores and answers that were cut"
    assert after["again"].scores != after["vanilla"].scores, "control"
    assert after["again"].data == "elsewhere"
    assert read_results(run).cells[: len(before.cells)] == before.cells
    assert not verify(run).differences


@pytest.mark.slow
def test_the_export_says_how_each_question_is_asked(both, tmp_path):
    file = tmp_path / "questions.jsonl"
    export_questions(both, file)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert {row["benchmark"] for row in rows} == set(BENCHMARKS)
    for row in rows:
        several = len(row["turns"]) > 1
        assert several == (row["benchmark"] == "mini-MMDU")
        assert ("after the model's own answers" in row["asked"]) == several
        assert row["max_new_tokens"] > 0
        assert row["decoding"]["strategy"] == "greedy"
        assert "".join(row["turns"]).count("<image>") == len(row["images"])
        for image in row["images"]:
            assert hashlib.sha256((file.parent / image["file"]).read_bytes()).hexdigest() == image["sha256"]
    assert len({row["digest"] for row in rows}) == len(rows)
    assert len({row["set"] for row in rows}) == 1
    assert str(both.parent) not in file.read_text()
    rows[-1]["answers"] = ["one"]
    with pytest.raises(UserError, match="one for each turn"):
        import_answers(write(tmp_path / "answers.jsonl", answered(rows[:-1]) + rows[-1:]), both, "theirs")


def test_an_export_overwrites_nothing(exported, base_run):
    with pytest.raises(UserError, match="--to"):
        export_questions(base_run[0], exported[1])


@pytest.mark.slow
def test_a_run_with_an_imported_row_can_be_moved(run, exported, tmp_path):
    import_answers(write(tmp_path / "answers.jsonl", answered(exported[0])), run, "theirs")
    assert json.loads((run / "settings.json").read_text("utf-8"))["settings"]["rows"]["theirs"]["folder"] == (
        "imported/theirs.jsonl"
    )
    moved = run.rename(tmp_path / "elsewhere")
    assert not verify(moved).differences
    (row,) = read_request(moved).resolved.settings.rows.values()
    assert row.folder == moved / "imported" / "theirs.jsonl"


def test_a_row_outside_the_run_keeps_its_place(base_run, exported, tmp_path):
    file = write(tmp_path / "a.jsonl", answered(exported[0]))
    asked = request(base_run[1], tmp_path / "run", answers=[f"theirs={file}"])
    (tmp_path / "run").mkdir()
    write_request(asked)
    assert read_request(tmp_path / "run").resolved.settings.rows["theirs"].folder == file


def test_every_process_of_a_launch_has_the_imported_rows(run, base_run, exported, tmp_path, monkeypatch):
    import_answers(write(tmp_path / "answers.jsonl", answered(exported[0])), run, "theirs")
    computed = []
    monkeypatch.setattr(
        accelerate_launch, "run_cell", lambda context, cell: computed.append(cell.label) or CellOutput(cell)
    )
    tasks = iter((1, 2, accelerate_launch.STOP))
    group = SimpleNamespace(receive_task=lambda: next(tasks), rank=1)
    accelerate_launch.run_follower(request(base_run[1], run), group)
    assert computed == ["lora", "theirs"]


@pytest.mark.slow
def test_an_imported_row_is_kept_by_later_comparisons(run, base_run, exported, tmp_path):
    file = write(tmp_path / "answers.jsonl", answered(exported[0]))
    import_answers(file, run, "theirs")
    file.unlink()
    first = cells(run)
    assert first["theirs"].scores["mini-EVOKE"].items[0].answer.endswith("0 stripes")
    assert not verify(run).differences
    result = compare(request(base_run[1], run, methods=("lora", "full-ft")))
    assert result.exit_code == 0
    again = cells(run)
    assert again["theirs"] == first["theirs"]
    assert again["theirs"].ranked
    assert again["full-ft"].status == "ok"
    assert not verify(run).differences
    limited = compare(request(base_run[1], run, assignments=["limit=2"]))
    assert limited.exit_code == 2
    assert "the run has no question" in cells(run)["theirs"].reason
    (run / "imported" / "theirs.jsonl").unlink()
    compare(request(base_run[1], run))
    assert set(cells(run)) == {"vanilla", "lora"}


def test_costs_are_elsewhere_and_change_no_other_line(run, exported, tmp_path):
    before = (run / "report" / "costs.md").read_text().splitlines()
    import_answers(write(tmp_path / "answers.jsonl", answered(exported[0])), run, "theirs")
    after = (run / "report" / "costs.md").read_text().splitlines()
    (line,) = [line for line in after if line not in before]
    assert line.startswith("| theirs |")
    assert line.count("elsewhere") == 2
    page = (run / "report" / "leaderboard.html").read_text("utf-8")
    assert page.count('<td class="num">elsewhere</td>') >= 2


@pytest.mark.slow
def test_compare_reads_a_file_and_keys_it_by_content(base_run, exported, tmp_path):
    run, preset = base_run
    out = shutil.copytree(run, tmp_path / "run")
    file = write(tmp_path / "a.jsonl", answered(exported[0]))
    compare(request(preset, out, answers=[f"theirs={file}"]))
    first = cells(out)["theirs"]
    assert first.status == "ok", first.reason
    assert str(tmp_path) not in json.dumps({name: one.value for name, one in first.settings.items()})
    moved = shutil.copy(file, tmp_path / "b.jsonl")
    compare(request(preset, out, answers=[f"theirs={moved}"]))
    assert cells(out)["theirs"] == first
    planned = plan(request(preset, out, answers=[f"theirs={moved}"])).cells[-1]
    assert (planned.trained, planned.answered, planned.scored) == (None, 1, 1)
    write(file, [row | {"answers": ["Ghana"] * len(row["turns"])} for row in exported[0]])
    compare(request(preset, out, answers=[f"theirs={file}"]))
    assert cells(out)["theirs"].signature != first.signature
    with pytest.raises(UserError, match="no such file"):
        compare(request(preset, out, answers=[f"theirs={tmp_path / 'nowhere.jsonl'}"]))


@pytest.mark.slow
def test_workers_take_a_file_too(base_run, exported, tmp_path):
    out = shutil.copytree(base_run[0], tmp_path / "run")
    file = write(tmp_path / "a.jsonl", answered(exported[0]))
    compare(request(base_run[1], out, assignments=["workers=2"], answers=[f"theirs={file}"]))
    assert cells(out)["theirs"].status == "ok"


@pytest.mark.slow
def test_a_row_of_answers_has_no_stages(tiny_folder, tmp_path):
    preset = small_runs.write_preset(tmp_path, tiny_folder)
    compare(request(preset, tmp_path / "run", assignments=["stages=2"]))
    export_questions(tmp_path / "run", tmp_path / "q.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text("utf-8").splitlines()]
    import_answers(write(tmp_path / "a.jsonl", answered(rows)), tmp_path / "run", "theirs")
    assert len(cells(tmp_path / "run")["lora"].stages) == 2
    assert cells(tmp_path / "run")["theirs"].stages == ()
    assert not verify(tmp_path / "run").differences


def test_what_cannot_be_scored_is_not_kept(run, exported, tmp_path, monkeypatch):
    def broken(*arguments):
        raise UserError("the scorer failed")

    before = contents(run / "report")
    monkeypatch.setattr("harness.commands.answers.score_all", broken)
    with pytest.raises(UserError, match="scorer failed"):
        import_answers(write(tmp_path / "a.jsonl", answered(exported[0])), run, "theirs")
    assert not list((run / "imported").iterdir())
    assert contents(run / "report") == before
    assert not verify(run).differences


def test_from_python(run, exported, tmp_path):
    folder = load_run(run).export_questions(tmp_path / "q.jsonl")
    assert folder.is_dir()
    assert (tmp_path / "q.jsonl").read_bytes() == exported[1].read_bytes().replace(b"questions-pictures", b"q-pictures")
    result = load_run(run).import_answers(write(tmp_path / "a.jsonl", answered(exported[0])), "theirs")
    assert "theirs" in result.table().index


def test_what_is_known_of_an_answer_is_kept(run, exported, tmp_path):
    rows = answered(exported[0])
    rows[0] |= {"truncated": True, "new_tokens": 7}
    rows[1] |= {"error": "refused by the API", "answers": [""]}
    import_answers(write(tmp_path / "a.jsonl", rows), run, "theirs")
    items = cells(run)["theirs"].scores["mini-EVOKE"].items
    assert items[0].truncated
    assert not items[2].truncated
    assert [item.status for item in items[:3]] == ["parsed", "failed", "parsed"]


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


BAD = {
    "missing": (lambda rows: rows[:3] + rows[4:], "1 of .* questions have no answer"),
    "nothing": (lambda rows: [], "questions have no answer"),
    "doubled": (lambda rows: [*rows, rows[2]], r"answered in line 3, too"),
    "unknown": (lambda rows: [rows[0] | {"id": "x"}, *rows[1:]], "line 1: the run has no question 'x'"),
    "an id that is no text": (lambda rows: [rows[0] | {"id": [1]}, *rows[1:]], "line 1: the run has no question"),
    "another benchmark": (lambda rows: [*rows, rows[0] | {"benchmark": "MME"}], "of 'MME'"),
    "re-ordered": (lambda rows: [rows[1], rows[0], *rows[2:]], "line 1: the lines are in another order"),
    "another text": (lambda rows: [rows[0], rows[1] | {"turns": ["Why?"]}, *rows[2:]], "line 2: .*'turns'"),
    "another limit": (lambda rows: [rows[0] | {"max_new_tokens": 4096}, *rows[1:]], "line 1: .*'max_new_tokens'"),
    "another digest": (lambda rows: [rows[0] | {"digest": "0" * 64}, *rows[1:]], "line 1: .*'digest'"),
    "another set": (lambda rows: [row | {"set": "0" * 64} for row in rows], "line 1: .*'set'"),
    "no digest": (lambda rows: [without(rows[0], "digest"), *rows[1:]], "line 1: the digest"),
    "no answer": (lambda rows: [*rows[:2], without(rows[2], "answers"), *rows[3:]], "line 3: it needs a list of 1"),
    "a text for a list": (lambda rows: [rows[0] | {"answers": "yes"}, *rows[1:]], "line 1: it needs a list"),
    "a number": (lambda rows: [rows[0] | {"answers": [3]}, *rows[1:]], "line 1: it needs a list of 1 texts"),
    "half a surrogate": (lambda rows: [rows[0] | {"answers": ["\ud800"]}, *rows[1:]], "line 1: .*surrogate"),
    "odd extras": (lambda rows: [rows[0] | {"truncated": "yes"}, *rows[1:]], "line 1: .*truncated"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_and_nothing_changes(case, base_run, exported, tmp_path):
    change, words = BAD[case]
    before = contents(base_run[0])
    with pytest.raises(UserError, match=words):
        import_answers(write(tmp_path / "a.jsonl", change(answered(exported[0]))), base_run[0], "theirs")
    assert contents(base_run[0]) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not json\n", "line 1: this is no JSON"),
        (b"[1]\n", "line 1: this is no JSON object"),
        (b"\xff\xfe\n", "line 1: this is no JSON"),
        (b"[" * 100_000 + b"\n", "line 1: this is no JSON"),
        (b'{"id": ' + b"9" * 10_000 + b"}\n", "line 1: this is no JSON"),
        (b"\n", "line 1: this is no JSON"),
    ],
)
def test_lines_that_are_no_json_are_named(content, words, base_run, exported, tmp_path):
    file = tmp_path / "a.jsonl"
    good = write(tmp_path / "good.jsonl", answered(exported[0])[:2]).read_bytes()
    for before, line in ((b"", "line 1"), (good, "line 3")):
        file.write_bytes(before + content)
        with pytest.raises(UserError, match=words.replace("line 1", line)):
            import_answers(file, base_run[0], "theirs")
    with pytest.raises(UserError, match="cannot be read"):
        import_answers(tmp_path, base_run[0], "theirs")


@pytest.mark.parametrize("kind", ["one line", "the same line", "a sparse file"])
def test_of_100_mb_no_more_is_read_than_the_questions_need(kind, base_run, exported, tmp_path):
    file, size = tmp_path / "a.jsonl", 100_000_000
    line = json.dumps(answered(exported[0])[0]).encode() + b"\n"
    with file.open("wb") as stream:
        if kind == "one line":
            stream.write(b'{"id": "' + b"a" * size)
        elif kind == "the same line":
            stream.write(line * (size // len(line)))
        else:
            stream.truncate(size)
    tasks = [_task(base_run)]
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"line \d: (the line is longer|question .* is answered in line 1, too)"):
        answers_file.read_answers(file, tasks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert time.perf_counter() - started < 5


def _task(base_run):
    from harness.experiment.context import build_context
    from harness.experiment.request_file import read_request

    return build_context(read_request(base_run[0])).inputs.tasks[0]


@pytest.mark.parametrize("name", ["lora", "vanilla", "kore", "a b", "../x", ""])
def test_a_name_that_is_taken_or_no_name_is_refused(name, base_run, exported, tmp_path):
    before = contents(base_run[0])
    with pytest.raises(UserError, match="name"):
        import_answers(write(tmp_path / "a.jsonl", answered(exported[0])), base_run[0], name)
    assert contents(base_run[0]) == before


@pytest.mark.slow
def test_the_same_answers_may_be_imported_again_and_others_need_another_name(run, exported, tmp_path):
    rows = answered(exported[0])
    file = write(tmp_path / "a.jsonl", rows)
    import_answers(file, run, "theirs")
    first = (run / "results.json").read_bytes()
    import_answers(file, run, "theirs")
    assert (run / "results.json").read_bytes() == first
    rows[0]["answers"] = ["else"]
    with pytest.raises(UserError, match=r"another name, or delete .*theirs\.jsonl"):
        import_answers(write(file, rows), run, "theirs")
    import_answers(file, run, "others")
    assert list(cells(run)) == ["vanilla", "lora", "theirs", "others"]
    assert not verify(run).differences


def test_after_a_later_comparison_was_killed_nothing_is_imported_or_exported(run, base_run, exported, tmp_path):
    """Its settings are written before its rows are computed, and its results after."""
    write_request(request(base_run[1], run, methods=("full-ft", "ewc")))
    before = contents(run)
    file = write(tmp_path / "answers.jsonl", answered(exported[0]))
    for command_of in (
        lambda: import_answers(file, run, "theirs"),
        lambda: export(run, "lora", tmp_path / "adapter"),
        lambda: write_training_data(run, "lora", tmp_path / "data"),
    ):
        with pytest.raises(UserError, match="did not finish; settings and results differ in ewc seed 0, full-ft"):
            command_of()
    assert contents(run) == before
    write_request(request(base_run[1], run))  # the positive control
    import_answers(file, run, "theirs")
    assert list(cells(run)) == ["vanilla", "lora", "theirs"]


def test_training_data_are_not_made_from_knowledge_that_changed_since(run, base_run, tmp_path):
    file = base_run[1].parent / "data" / INJECTION_FILE
    trained_on = file.read_text("utf-8")
    file.write_text(trained_on.replace(" stripes", " spots", 1), "utf-8")
    try:
        with pytest.raises(UserError, match="lora seed 0: the knowledge changed since this row was trained"):
            write_training_data(run, "lora", tmp_path / "data")
    finally:
        file.write_text(trained_on, "utf-8")
    assert write_training_data(run, "lora", tmp_path / "data").conversations == 8  # the positive control


def test_a_folder_without_a_run_is_refused(exported, tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        import_answers(exported[1], tmp_path / "nowhere", "theirs")
    assert not (tmp_path / "nowhere").exists()
