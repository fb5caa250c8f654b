"""``capture``: which rows it asks for, what it refuses, and that on the miniature covariances hold knowledge."""

from __future__ import annotations

import csv

import pytest

from benchmarks.errors import UserError
from harness.commands.capture import SHARES, CaptureOptions, capture, capture_request
from harness.commands.run_options import RunOptions
from harness.commands.verify import verify
from harness.experiment.results import read_results
from harness.experiment.rows import list_cells
from reports.statistics.analysis import analyse

MINI = RunOptions("", benchmarks="mini-MME")


def rows(**varied):
    request = capture_request(MINI, CaptureOptions(**varied))
    return [cell for cell in list_cells(request.methods, request.resolved) if cell.settings]


def test_by_default_the_shares_of_the_paper_are_discarded_from_four_decompositions():
    found = rows()
    values = {cell.crossed["discard"] for cell in found}
    assert values == {8, 16, 32, 64, 96}
    assert {round(4096 * share) for share in SHARES} == {128, 256, 512, 1024, 1536}
    assert len(found) == 4 * len(values)
    assert {cell.swept for cell in found} == {"discard"}
    assert capture_request(MINI, CaptureOptions()).out.name == "mini-capture"


def test_what_looks_at_no_input_has_no_rows_for_each_source_of_inputs():
    found = rows(discard="8,64", calibrate_on="mini-MME,mini-ScienceQA", samples="32,256", largest=True)
    per_curve = {}
    for cell in found:
        per_curve.setdefault(cell.curve, []).append(cell.crossed["discard"])
    assert len(per_curve) == 3 * 2 * 2 + 1
    assert set(map(tuple, per_curve.values())) == {(8, 64)}
    assert {cell.settings.values.end for cell in found} == {"largest"}
    transductive = [cell for cell in found if cell.make().evaluation_inputs]
    assert len(transductive) == 3 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        (
            {"discard": "8,300"},
            "300 components cannot be discarded: a layer of 256 inputs and 256 outputs has only 256",
        ),
        ({"discard": "0"}, "0 is no number of components"),
        ({"discard": "1.5"}, "1.5 is no number of components"),
        ({"discard": "many"}, "this is not a sweep"),
        ({"calibrate_on": ","}, "no name is given"),
        ({"samples": "32,32"}, "different values are needed"),
    ],
)
def test_bad_values_are_refused_before_anything_is_computed(varied, message):
    with pytest.raises(UserError, match=message):
        capture_request(MINI, CaptureOptions(**varied))


@pytest.mark.slow
def test_the_covariance_of_a_benchmark_keeps_its_score_where_a_random_basis_does_not(tmp_path):
    options = RunOptions("", benchmarks="mini-MME,mini-ScienceQA", out=tmp_path)
    result = capture(options, CaptureOptions("64,192", "mini-MME"))
    assert result.exit_code == 0
    run = read_results(tmp_path)
    assert all("transductive" in cell.marks for cell in run.cells if "calibrate_on" in cell.crossed)
    analysis = analyse(run)
    number = {row.label: place for place, row in enumerate(analysis.rows)}
    at = "(calibrate_on mini-MME, discard 192)"
    better = analysis.against[number[f"co-svd:random-basis {at}"]][number[f"co-svd {at}"], "MME"]
    assert better.delta > 0
    assert better.p < 0.05
    assert verify(tmp_path).differences == ()
    with (tmp_path / "report" / "plots" / "sweep-discard-benchmarks.csv").open() as file:
        drawn = list(csv.DictReader(file))
    assert len(drawn) == 2 * (1 + 4 * 2)
    score = analysis.benchmarks[number[f"co-svd {at}"], "MME"].value
    (shown,) = [
        line["score"]
        for line in drawn
        if (line["method"], line["discard"], line["measure"]) == ("co-svd (calibrate_on mini-MME)", "192", "mini-MME")
    ]
    assert float(shown) == pytest.approx(score, abs=0.005)
    assert (tmp_path / "report" / "tables" / "benchmarks-over-discard.csv").is_file()
