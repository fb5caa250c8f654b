"""Every row is tested against every other, once, and each baseline has its own Holm correction."""

import math
from dataclasses import replace

import numpy as np
import pytest

from helpers.fake_run import fake_run
from reports.html.score_data import pack_scores, unpack_json
from reports.statistics import resampling, summary
from reports.statistics.analysis import analyse


def test_each_baseline_has_every_other_row(analysis):
    rows, whole = range(len(analysis.rows)), {**analysis.main, **analysis.benchmarks, **analysis.types}
    for base in rows:
        assert {row for row, _ in analysis.against[base]} == set(rows) - {base}
        for (row, measure), one in analysis.against[base].items():
            values = [whole[number, measure].value for number in (row, base)]
            assert one.delta == pytest.approx(values[0] - values[1])
            assert one.low - 1e-9 <= one.delta <= one.high + 1e-9


def test_two_rows_differ_as_much_from_either_side(analysis):
    for (first, second, measure), one in analysis.raw.items():
        there, back = analysis.against[second][first, measure], analysis.against[first][second, measure]
        assert (
            (there.delta, there.low, there.high)
            == (-back.delta, -back.high, -back.low)
            == (one.delta, one.low, one.high)
        )
        assert there.flip == back.flip


def test_holm_is_over_the_tests_of_one_table_against_one_baseline(analysis):
    base = 1
    measures = {measure for _, measure in analysis.main}
    family = {key: one for key, one in analysis.raw.items() if key[2] in measures and base in key[:2]}
    expected = resampling.holm_correction(np.array([one.p for one in family.values()]))
    for (first, second, measure), p in zip(family, expected, strict=True):
        other = second if first == base else first
        assert analysis.against[base][other, measure].p == pytest.approx(p)


def test_the_tables_show_the_tests_against_the_untouched_base(analysis):
    for (row, measure), one in analysis.main.items():
        if row and measure != summary.HARS:
            assert one.p == analysis.against[0][row, measure].p
            assert one.delta == analysis.against[0][row, measure].delta


def test_rows_on_other_questions_are_not_compared():
    run = fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=8)
    lora = run.cells[1]
    pope = lora.scores["mini-POPE"]
    fewer = replace(lora, scores=lora.scores | {"mini-POPE": replace(pope, items=pope.items[:5])})
    found = analyse(replace(run, cells=(run.cells[0], fewer)))
    assert (0, 1, "MME") in found.raw
    assert not {"POPE", "HAL", summary.KR1, summary.AVG1} & {measure for _, _, measure in found.raw}


def test_the_page_holds_every_number_and_every_test(analysis):
    data = unpack_json(pack_scores(analysis))
    keys = [one["key"] for one in data["measures"]]
    whole = {**analysis.main, **analysis.benchmarks, **analysis.types}
    assert set(keys) == {measure for _, measure in whole}
    assert [row["label"] for row in data["rows"]] == [row.label for row in analysis.rows]
    for row, values in enumerate(data["values"]):
        for key, value in zip(keys, values, strict=True):
            one = whole.get((row, key))
            assert (value is None) == (one is None)
            if one is not None:
                assert value[0] == pytest.approx(one.value, abs=0.0051)
    for base, rows in enumerate(data["tests"]):
        assert all(test is None for test in rows[base])
        for row, tests in enumerate(rows):
            for key, test in zip(keys, tests, strict=True):
                one = analysis.against[base].get((row, key))
                assert (test is None) == (one is None)
                if one is not None:
                    assert test[0] == pytest.approx(one.p, abs=0.0001)


def test_measures_say_where_they_belong(analysis):
    found = {one["key"]: one for one in unpack_json(pack_scores(analysis))["measures"]}
    assert (found["MME"]["dimension"], found["MME"]["benchmark"], found["MME"]["n"]) == ("COM", "mini-MME", 24)
    assert (found["K.A"]["dimension"], found["K.A"]["benchmark"]) == ("Adaptation", "mini-EVOKE")
    assert (found["entity/animal/F1"]["type"], found["entity/animal/F1"]["metric"]) == ("entity · animal", "F1")
    assert {one["dimension"] for one in found.values()} > {"COM", "HAL", "Adaptation", "Summary"}


def test_a_single_row_has_no_contrasts():
    found = analyse(fake_run(labels=("Vanilla",), seeds=(0,), per_benchmark=4))
    assert found.raw == {}
    assert all(math.isnan(one.p) for one in found.main.values())
