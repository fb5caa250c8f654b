"""Evaluation questions in the training data are counted in every stage, by the code of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.registry import EVOKE_FILE
from harness.config.settings import Request, resolve
from harness.experiment import leaks
from harness.experiment.context import RunContext, build_context
from harness.experiment.leaks import LEAKS, count_leaked
from harness.experiment.method_files import core_files
from harness.experiment.resources import make_resources
from harness.experiment.stages import list_stages
from harness.storage import source_code
from helpers import small_runs

ASKED = "Unique question seven?"
SAMPLES = 24


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    """Replay of one old sample for each new item, with a question that no item's text has."""
    file = small_runs.write_preset(tmp_path, tiny_folder, old=str(tmp_path / "pool.json"))
    questions = tmp_path / "data" / EVOKE_FILE
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    rows[7]["text"] = ASKED
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def open_with_leak(preset: Path, leaking: int, stages: int) -> RunContext:
    """The run's context, with the question and its answer as one sample of the pool."""
    texts = [(f"Old question {n}?", f"answer {n}") for n in range(SAMPLES)]
    texts[leaking] = (ASKED, "7 stripes")
    rows = [
        {"id": f"old/{n}", "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}
        for n, (q, a) in enumerate(texts)
    ]
    (preset.parent / "pool.json").write_text(json.dumps(rows))
    sets = [f"stages={stages}", "replay.ratio=1"]
    return build_context(Request(("replay",), resolve(str(preset), sets), preset.parent / f"run{leaking}"))


def test_a_leak_counts_whichever_stage_trains_on_it(preset):
    found = []
    for leaking in range(SAMPLES):
        context = open_with_leak(preset, leaking, 2)
        cell = context.cells[1]
        asked = [
            any(sample.turns[0].text == ASKED for sample in cell.make().training_data(stage.knowledge, resources))
            for stage in list_stages(context, cell)
            for resources in [make_resources(context, stage)]
        ]
        assert count_leaked(context, cell) == any(asked)
        found.append(tuple(asked))
    assert {(True, False), (False, True), (False, False)} <= set(found)  # otherwise this test shows nothing


def test_the_count_is_stored_until_the_code_that_counts_changes(preset, monkeypatch):
    context = open_with_leak(preset, 0, 1)
    first = count_leaked(context, context.cells[1])
    monkeypatch.setattr(leaks, "count_contained", lambda *arguments: 99)
    assert count_leaked(context, context.cells[1]) == first
    monkeypatch.setattr(leaks, "core_digest", lambda file: "another")
    assert count_leaked(context, context.cells[1]) == 99
    assert len(context.store.all_json(LEAKS)) == 2


def test_the_code_that_counts_is_part_of_the_key():
    names = {path.name for path in source_code._follow(core_files("experiment/leaks.py"))}
    assert {"leaks.py", "contamination.py"} <= names
