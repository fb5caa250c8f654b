"""The run record survives storage, and unknown fields or versions are refused."""

import json
import math

import pytest

from benchmarks.errors import UserError
from helpers.fake_run import fake_run
from reports.record import BenchmarkResult, CellResult, ItemResult, Run, TrainingStep, from_json, schema, to_json


def test_round_trip_keeps_every_digit(run):
    again = from_json(to_json(run))
    assert again == run
    assert to_json(again) == to_json(run)
    assert from_json(to_json(Run("other"))) != run


def test_nan_and_infinity_survive():
    run = Run("x", cells=(CellResult("m", "a", "A", 0, training=(TrainingStep(1, math.nan, math.inf),)),))
    step = from_json(to_json(run)).cells[0].training[0]
    assert math.isnan(step.loss)
    assert step.learning_rate == math.inf


def test_the_record_follows_its_schema():
    assert schema()["properties"]["version"]["default"] == 1
    document = json.loads(to_json(fake_run(labels=("Vanilla",), per_benchmark=1)))
    assert set(document) == set(schema()["properties"])
    assert set(document["cells"][0]) == set(schema()["$defs"]["CellResult"]["properties"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "Invalid JSON"),
        (b'{"title": 3}', "title"),
        (b'{"title": "x", "colour": 1}', "colour"),
        (b'{"title": "x", "version": 99}', "version 99"),
    ],
)
def test_bad_records_are_named(text, says):
    with pytest.raises(UserError, match=says) as caught:
        from_json(text, where="runs/a/results.json")
    assert "runs/a/results.json" in str(caught.value)
    assert caught.value.hint


def test_item_status_is_counted(run):
    result = run.cells[1].scores["mini-EVOKE"]
    assert result.count("empty") == sum(item.answer == "" for item in result.items) > 0
    assert ItemResult("1", {}).status == "parsed"


def test_truncated_answers_are_counted_and_older_records_have_none():
    cut = BenchmarkResult(50.0, {}, (ItemResult("1", {}, "so", truncated=True), ItemResult("2", {}, "yes")))
    assert cut.truncated == 1
    run = Run("x", cells=(CellResult("m", "a", "A", 0, scores={"POPE": cut}),))
    assert from_json(to_json(run)) == run
    old = to_json(run).replace(b',"truncated":true', b"").replace(b',"truncated":false', b"")
    assert b"truncated" not in old
    assert from_json(old).cells[0].scores["POPE"].truncated == 0
