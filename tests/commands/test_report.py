"""report, diff and audit-paper: from stored records alone, refusing what cannot be compared."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.errors import UserError
from harness.commands.report import diff, report
from helpers.fake_run import fake_run
from reports.record import to_json
from reports.statistics import resampling


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "N_BOOTSTRAP", 200)
        patch.setattr(resampling, "N_PERMUTATIONS", 199)
        yield


def stored(folder, run):
    folder.mkdir(parents=True)
    (folder / "results.json").write_bytes(to_json(run))
    return folder


@pytest.fixture
def runs(tmp_path):
    made = [replace(fake_run(("Vanilla", label), (0,), 3), signature="base:a") for label in ("LoRA", "KORE")]
    return [stored(tmp_path / name, run) for name, run in zip(("first", "second"), made, strict=True)]


def test_one_run_is_reported_into_its_folder(runs):
    assert report(runs[:1], None, None).page == runs[0] / "report" / "leaderboard.html"
    assert (runs[0] / "report" / "tables" / "tables.json").is_file()


@pytest.mark.slow
def test_several_runs_become_one_report(runs, tmp_path):
    page = report(runs, tmp_path / "both", None).page
    tables = json.loads((page.parent / "tables" / "tables.json").read_text("utf-8"))
    assert [line["label"] for line in tables["tables"][0]["lines"]] == ["Vanilla", "LoRA", "KORE"]
    assert "Merged from 2 runs: first and second." in tables["tables"][0]["notes"]
    assert not (runs[0] / "report").exists()


def test_beside_the_paper(runs):
    done = report(runs[:1], None, "paper")
    assert [one.key for one in done.listings] == ["paper-v1", "paper-v2", "paper-claims"]
    assert {path.name for path in (runs[0] / "report" / "paper").iterdir()} >= {
        "paper-v1.tex",
        "paper-v2.csv",
        "paper-claims.csv",
        "tables.md",
    }


def test_what_an_earlier_report_had_and_this_one_has_not_is_removed_and_nothing_else(runs):
    """Such as claims that were judged on other rows."""
    report(runs[:1], None, "paper")
    folder = runs[0] / "report"
    own, outside = folder / "plots" / "mine.svg", runs[0] / "results.json"
    own.write_text("of the user")
    names = (folder / "files.txt").read_text("utf-8").splitlines()
    assert {"leaderboard.html", "tables/tables.md", "paper/paper-claims.csv"} < set(names)
    written = {path for path in folder.rglob("*") if path.is_file()}
    assert {folder / name for name in [*names, "files.txt"]} == written - {own}
    (folder / "files.txt").write_text("\n".join([*names, "../results.json", str(outside), "", "."]))
    report(runs[:1], None, None)
    now = {path for path in folder.rglob("*") if path.is_file()}
    assert written - now == {path for path in written if path.parent.name == "paper"}
    assert own.is_file()
    assert outside.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda runs: (runs, None, None), "belongs to none of them"),
        (lambda runs: (runs[:1], None, "blog"), "nothing of this name"),
        (lambda runs: ([runs[0] / "nowhere"], None, None), "no finished run"),
    ],
)
def test_bad_arguments_are_refused(runs, arguments, message):
    with pytest.raises(UserError, match=message):
        report(*arguments(runs))


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    other = stored(tmp_path / "third", replace(fake_run(("Vanilla", "Replay"), (0,), 3), signature="base:b"))
    with pytest.raises(UserError, match="different weights"):
        report([runs[0], other], tmp_path / "both", None)
    assert not (tmp_path / "both").exists()


def test_diff_says_what_changed(runs):
    making, scores = diff(*runs)
    assert ("LoRA", "the row", "is there", "–") in making.records
    assert {record[0] for record in scores.records} == {"Vanilla"}
    assert {record[-1] for record in scores.records} == {"the same"}


@pytest.mark.slow
def test_the_commands_run_without_torch(runs, tmp_path):
    """In a subprocess, as a user runs them; none of them needs torch."""
    script = (
        "import sys\nfrom harness.cli import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    outputs = []
    for arguments in (["audit-paper"], ["diff", *map(str, runs)]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "227 of them should follow from others" in " ".join(outputs[0].split())
    assert "What it did to the scores" in outputs[1]
