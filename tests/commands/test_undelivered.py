"""What was asked for and not delivered is listed; what is complete is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.answer_judge import NO_VERDICTS
from harness.commands.compare import CompareResult, show_result
from harness.commands.undelivered import list_undelivered
from reports.marks import UNJUDGED
from reports.record import BenchmarkResult, CellResult, ItemResult, Run

RIGHT = ItemResult("q0", {"acc": 1.0}, "A")
SCORED = BenchmarkResult(100.0, {"acc": 100.0}, (RIGHT,))
UNSCORED = BenchmarkResult(None, {}, (RIGHT,), notes=("an earlier note", "the judge: no route"), marks=(UNJUDGED,))
UNREACHED = dataclasses.replace(SCORED, judge="openai:m", notes=("another", f"{NO_VERDICTS}openai:m: 3 calls failed"))
FAILED = BenchmarkResult(0.0, {"acc": 0.0}, (dataclasses.replace(RIGHT, status="failed"),))
WITHOUT_HEADLINE = BenchmarkResult(None, {"T-Loc": 90.0}, (RIGHT,))


def cell(label, status="ok", seed=0, **scores):
    reason = "" if status == "ok" else "no memory"
    return CellResult("mini", label, label, seed, status=status, reason=reason, scores=scores)


def test_a_complete_run_has_delivered_everything():
    cells = (cell("vanilla", POPE=SCORED, Editing=WITHOUT_HEADLINE), cell("lora", "diverged"))
    assert list_undelivered(Run("x", cells=cells)) == []


def test_failed_rows_unscored_benchmarks_and_failed_answers_are_named():
    cells = (
        cell("vanilla", POPE=SCORED, MMDU=UNSCORED),
        cell("lora", seed=1, POPE=FAILED, MMDU=UNSCORED),
        cell("kore", "oom"),
    )
    assert list_undelivered(Run("x", cells=cells)) == [
        "kore seed 0: oom: no memory",
        "POPE: 1 answers failed in lora seed 1",
        "MMDU: not scored in all rows; the judge: no route",
    ]


LABELS = st.text(st.sampled_from("lora [rank=4] :smile: é→\U0001f600"), min_size=1, max_size=12).filter(str.strip)
STATUSES = st.sampled_from(["ok", "ok", "ok", "diverged", "failed", "oom", "interrupted", "missing"])
KINDS = {
    "scored": SCORED,
    "unscored": UNSCORED,
    "failed": FAILED,
    "no headline": WITHOUT_HEADLINE,
    "unreached": UNREACHED,
}
KINDS["both"] = dataclasses.replace(UNSCORED, items=FAILED.items * 3)

PARTS = {
    "not scored in ": ("unscored", "both"),
    "answers failed in ": ("failed", "both"),
    ": no K.A by openai:m: 3 calls failed": ("unreached",),
}


@st.composite
def plans(draw):
    """Rows, each with its status and with what came of each benchmark."""
    names = draw(st.lists(st.sampled_from(["POPE", "mini-EVOKE", "MMDU", "[b]"]), min_size=1, unique=True))
    kinds = st.fixed_dictionaries({name: st.sampled_from(sorted(KINDS)) for name in names})
    labels = draw(st.lists(LABELS, min_size=1, max_size=4, unique=True))
    return [(label, draw(STATUSES), draw(st.integers(0, 2)), draw(kinds)) for label in labels]


@pytest.fixture
def only_undelivered(monkeypatch):
    """No table before what was not delivered."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("reports.statistics.analysis.analyse", lambda run: None)
    for table in ("tables.main_table", "editing.editing_table", "outcomes.outcome_listing"):
        monkeypatch.setattr(f"reports.tables.{table}", lambda analysis: None)


def test_exactly_what_is_missing_is_named_last_and_in_the_exit_code(only_undelivered, capsys):
    @settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
    @given(plans())
    def test(rows):
        cells = [
            cell(label, status, seed, **({name: KINDS[kind] for name, kind in kinds.items()} if status == "ok" else {}))
            for label, status, seed, kinds in rows
        ]
        missing = [
            (f"{label} seed {seed}", f": {status}: no memory")
            for label, status, seed, _ in rows
            if status not in ("ok", "diverged")
        ]
        finished = [(f"{label} seed {seed}", kinds) for label, status, seed, kinds in rows if status == "ok"]
        for name in finished[0][1] if finished else ():
            for part, of in PARTS.items():
                titles = [title for title, kinds in finished if kinds[name] in of]
                everywhere = len(titles) == len(finished)
                missing += [(f"{name}: ", part, "all rows" if everywhere else title) for title in titles]
        result = CompareResult(Run("x", cells=tuple(cells)), (), Path("page.html"), ())
        show_result(result)
        lines = capsys.readouterr().out.split("leaderboard: page.html\n")[1].splitlines()
        assert result.exit_code == (2 if missing else 0)
        assert bool(lines) == bool(missing)
        for parts in missing:
            assert any(all(part in line for part in parts) for line in lines[1:]), parts
        assert lines[1:] == [f"  {line}" for line in list_undelivered(result.run)]

    test()
