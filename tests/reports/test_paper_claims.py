"""The verdicts on the paper's claims: the right sign, the right test, and nothing judged that was not run."""

from dataclasses import replace

import pytest

from methods.registry import PAPER_ROWS, get_method
from reports.record import Run
from reports.statistics import resampling, summary
from reports.statistics.analysis import analyse
from reports.tables.paper_claims import HEADS, judge_claims, read_claims
from tests.helpers import fake_run

SPECS = {
    "vanilla": ("vanilla", "", 0.04, 1.0),
    "lora": ("lora", "", 0.34, 0.62),
    "replay": ("replay", "", 0.30, 0.90),
    "kore": ("kore", "", 0.52, 0.84),
}
WITHOUT_HALF = "lora:scaled-0.5"


def run_of(specs, **changes) -> Run:
    entries = fake_run.questions(120)
    cells = [fake_run.cell(label, entries, 0, spec) for label, spec in specs.items()]
    return Run("claims", "claims", tuple(replace(cell, **changes) for cell in cells), tuple(entries), {})


@pytest.fixture(scope="module")
def analysis():
    return analyse(run_of(SPECS))


def records(listing) -> list[dict[str, str]]:
    return [dict(zip(HEADS, record, strict=True)) for record in listing.records]


def find(listing, claim: str, compared: str) -> dict[str, str]:
    (record,) = [one for one in records(listing) if one["Claim"].startswith(claim) and one["Compared"] == compared]
    return record


def test_every_claim_names_rows_that_exist_and_that_one_word_runs():
    measures = {measure.key for measure in summary.MAIN} | set(summary.PARTS)
    for claim in read_claims():
        assert claim.measure in measures
        assert set(claim.more + claim.less) <= {"vanilla", *PAPER_ROWS}, claim
        assert not set(claim.more) & set(claim.less)
    named = {row for claim in read_claims() for row in claim.more + claim.less}
    assert named == {"vanilla", *PAPER_ROWS}
    for row in PAPER_ROWS:
        if row != WITHOUT_HALF:  # a scaled row has no code of its own
            get_method(row)


def test_a_verdict_follows_sign_and_test(analysis):
    listing = judge_claims(analysis)
    assert find(listing, "KORE learns more than every other method", "kore - lora")["Verdict"] == "holds"
    assert find(listing, "Replay keeps more than LoRA", "replay - lora")["Verdict"] == "holds"
    # The same rows with exchanged names: the same difference with the other sign.
    exchanged = SPECS | {"lora": SPECS["kore"], "kore": SPECS["lora"]}
    other = judge_claims(analyse(run_of(exchanged)))
    assert find(other, "KORE learns more than every other method", "kore - lora")["Verdict"] == "does not hold"
    # A method that equals another to the answer is undecided.
    run = run_of(SPECS)
    lora = next(cell for cell in run.cells if cell.label == "lora")
    same = tuple(replace(lora, method="kore", label="kore") if cell.label == "kore" else cell for cell in run.cells)
    equal = judge_claims(analyse(replace(run, cells=same)))
    record = find(equal, "KORE learns more than every other method", "kore - lora")
    assert (record["Difference"], record["Verdict"]) == ("0.00", "undecided")


def test_a_row_without_one_of_its_seeds_is_not_judged():
    run = run_of(SPECS)
    lora = next(cell for cell in run.cells if cell.label == "lora")
    diverged = replace(lora, seed=1, status="diverged", scores={})
    judged = records(judge_claims(analyse(replace(run, cells=(*run.cells, diverged)))))
    assert {one["Verdict"] for one in judged if "lora" in one["Compared"].split(" - ")} == {"not run"}
    assert "holds" in {one["Verdict"] for one in judged}


def test_a_difference_is_that_of_the_two_rows_and_p_is_corrected_over_the_listing(analysis):
    listing = judge_claims(analysis)
    labels = [row.label for row in analysis.rows]
    judged = [one for one in records(listing) if one["Verdict"] != "not run"]
    raw = []
    for one in judged:
        first, second = (labels.index(name) for name in one["Compared"].split(" - "))
        values = [analysis.main[row, one["Measure"]].value for row in (first, second)]
        assert float(one["Difference"]) == pytest.approx(values[0] - values[1], abs=0.006)
        raw.append(analysis.raw[min(first, second), max(first, second), one["Measure"]].p)
    ordered = sorted(raw)
    largest = 0.0
    expected = {}
    for place, p in enumerate(ordered):  # Holm's step-down, written out
        largest = max(largest, min(1.0, (len(raw) - place) * p))
        expected[p] = largest
    for one, p in zip(judged, raw, strict=True):
        assert (one["Verdict"] != "undecided") == (expected[p] < resampling.ALPHA)
    assert len(judged) > 8


def test_what_was_not_run_is_not_judged(analysis):
    listing = judge_claims(analysis)
    missing = [one for one in records(listing) if one["Claim"] == "The constraint costs new knowledge (ablation)"]
    assert [one["Verdict"] for one in missing] == ["not run"]
    limited = judge_claims(analyse(run_of(SPECS, marks=("limited",))))
    assert {one["Verdict"] for one in records(limited)} == {"not run"}
