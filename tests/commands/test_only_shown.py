"""What is only shown cannot lose a run: any text in a record, on any terminal, and any error of the report."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.errors import UserError
from harness.commands.compare import REPORT_FAILURE, CompareResult, try_report
from harness.console import prepare_process, print_lines
from harness.experiment.results import read_results, write_results
from helpers.attacks import ATTACKS
from helpers.fake_run import fake_run
from reports.formats import terminal
from reports.record import Run, Setting
from reports.statistics import resampling
from reports.statistics.analysis import analyse
from reports.tables.tables import make_tables

LONG = ("x" * 10_000, "\u202e" * 10_000, "\\" * 10_000, "\ud800" * 10_000)
TEXT = st.one_of(st.text(st.characters(exclude_categories=()), max_size=30), st.sampled_from([*ATTACKS[:-1], *LONG]))
PLACES = ("title", "note", "label", "reason", "answer", "question", "type", "setting", "benchmark note", "code")
ENCODINGS = ("ascii", "latin-1", "cp1252", "utf-8", "shift_jis")


@cache
def small() -> Run:
    return fake_run(("Vanilla", "LoRA"), (0,), 1, {"news": {"x": 2}, "entity": {"y": 2}})


def filled(texts: dict[str, str]) -> Run:
    """A small run with a row that is ok and one that failed, and these texts in their places."""
    run, get = small(), texts.get
    base, lora = run.cells
    scores = {
        name: replace(
            score,
            items=tuple(replace(item, answer=get("answer", "")) for item in score.items),
            notes=(get("benchmark note", ""),),
        )
        for name, score in lora.scores.items()
    }
    setting = get("setting", "rank")
    label = get("label", "LoRA")
    lora = replace(lora, label=label, scores=scores, settings={setting: Setting(setting)}, code={get("code", "a"): "b"})
    failed = replace(lora, label=f"{label} 2", status="failed", reason=get("reason", ""), scores={})
    questions = [replace(one, text=get("question", ""), type=get("type", one.type)) for one in run.questions]
    return replace(
        run,
        title=get("title", ""),
        notes=(get("note", ""),),
        cells=(base, lora, failed),
        questions=tuple(questions),
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few draws, and no plots, which take seconds and are drawn of hostile texts elsewhere."""
    monkeypatch.setattr(resampling, "N_BOOTSTRAP", 20)
    monkeypatch.setattr(resampling, "N_PERMUTATIONS", 19)
    monkeypatch.setattr("reports.build.draw_plots", lambda analysis: ())


def test_any_text_is_kept_in_the_record_and_shown_everywhere():
    @settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
    @given(st.fixed_dictionaries(dict.fromkeys(PLACES, TEXT)))
    def test(texts):
        run = filled(texts)
        with tempfile.TemporaryDirectory() as folder:
            write_results(run, (), Path(folder))
            kept = read_results(Path(folder))
            assert kept.title == run.title.encode("utf-8", "replace").decode()
            assert [cell.scores.keys() for cell in kept.cells] == [cell.scores.keys() for cell in run.cells]
            page = try_report(run, Path(folder))
            assert page, Path(folder, REPORT_FAILURE).read_text("utf-8")
            for file in page.parent.rglob("*.*"):
                text = file.read_bytes().decode()
                if file.suffix == ".json":
                    json.loads(text)

    test()


@pytest.mark.parametrize("place", PLACES)
def test_half_a_surrogate_pair_is_shown_anywhere(place, tmp_path):
    run = filled({place: "half \ud800 a pair"})
    assert try_report(run, tmp_path), (tmp_path / REPORT_FAILURE).read_text("utf-8")


def test_any_terminal_shows_any_text(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    @settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
    @given(TEXT, st.sampled_from(ENCODINGS), st.integers(20, 200))
    def test(text, encoding, width):
        table = make_tables(analyse(filled(dict.fromkeys(("label", "title", "note"), text))))[0]
        with pytest.MonkeyPatch.context() as patch:
            shown = io.BytesIO()
            for name in ("stdout", "stderr"):
                patch.setattr(sys, name, io.TextIOWrapper(shown, encoding, write_through=True))
            prepare_process()
            print_lines(text, "the last line")
            terminal.show(table, Console(highlight=False, width=width))
            sys.stdout.flush()
            assert "the last line" in shown.getvalue().decode(encoding)

    test()


KINDS = st.sampled_from([Exception, ZeroDivisionError, KeyError, MemoryError, RecursionError, OSError, UnicodeError])


def test_any_error_of_the_report_leaves_the_record_and_a_way_on(caplog):
    @settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
    @given(KINDS, TEXT, st.sampled_from(["analyse", "make_tables", "draw_plots", "render_pages", "_table_files"]))
    def test(kind, text, part):
        def fail(*arguments):
            raise kind(text)

        caplog.clear()
        run = small()
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            out = Path(folder)
            write_results(run, (), out)
            patch.setattr(f"reports.build.{part}", fail)
            page = try_report(run, out)
            result = CompareResult(run, (), page, ())
            assert page is None
            assert result.exit_code == 1
            assert kind.__name__ in (out / REPORT_FAILURE).read_text("utf-8")
            assert f"`python -m harness report {out}` makes it" in caplog.text
            assert read_results(out) == run

    test()


def test_a_report_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    """The control of the test above: such an error is told as one, and the record stays."""
    write_results(small(), (), tmp_path)
    (tmp_path / "report").write_text("mine")
    with pytest.raises(UserError, match="there is a file"):
        try_report(small(), tmp_path)
    assert read_results(tmp_path) == small()
