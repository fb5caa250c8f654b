"""The paper's printed numbers are complete, and those that do not add up are found."""

import re
from dataclasses import replace

import pytest

from helpers.fake_run import fake_run
from reports.record import Setting
from reports.statistics.analysis import analyse
from reports.tables.paper_audit import audit, audit_listing, printed_rows
from reports.tables.paper_comparison import compare_with_paper, paper_model, printed_row


def test_everything_printed_is_read():
    rows = {(row.version, row.model, row.method): row for row in printed_rows()}
    assert sum(len(row.values) for row in rows.values()) == 953
    assert rows["v1", "llava-1.5-7b", "vanilla"].values["MME"] == 66.63
    assert rows["v2", "llava-1.5-7b", "kore r=235"].values["HARS"] == 82.81
    assert rows["v2", "llava-1.5-7b", "kore r=235"].tables["HARS"] == "Table 1"


@pytest.mark.parametrize(
    ("version", "model", "method", "metric", "follows"),
    [
        ("v1", "llava-1.5-7b", "full-ft", "HAL", 41.745),
        ("v2", "llava-1.5-7b", "full-ft", "K.R", 27.387),
    ],
)
def test_known_errata_are_found(version, model, method, metric, follows):
    found = {(one.row.version, one.row.model, one.row.method, one.metric): one for one in audit().discrepancies}
    assert found[version, model, method, metric].recomputed == pytest.approx(follows, abs=0.01)


def test_what_adds_up_is_not_reported():
    found = {(one.row.version, one.row.method) for one in audit().discrepancies if one.row.model == "llava-1.5-7b"}
    assert not {("v1", "lora"), ("v2", "lora"), ("v2", "kore r=235"), ("v2", "kore r=256")} & found
    assert len(audit().discrepancies) < 40


def test_the_audit_recomputes_every_dimension_and_average_that_has_its_parts():
    done = audit()
    assert done.values == 953
    summaries = {"COM", "OCR", "M-DIS", "INS", "M-IDU", "MAT", "HAL", "K.A", "K.R", "Avg", "HARS"}
    assert {one.metric for one in done.discrepancies} <= summaries
    assert done.checked == 227
    listing = audit_listing()
    assert len(listing.records) == len(done.discrepancies) == 22
    assert "227 of them should follow from others, 22 do not" in listing.notes[0]
    assert ("v1", "llava-1.5-7b", "full-ft", "HAL", "Table 1", "16.09", "41.74", "−25.65") in listing.records


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("LLaVA-v1.5-7B", "llava-1.5-7b"),
        ("llava-1.5-13b-hf", "llava-1.5-13b"),
        ("Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b"),
        ("mini-llava", None),
    ],
)
def test_models_are_known_by_their_usual_names(ours, theirs):
    assert paper_model(ours) == theirs


@pytest.fixture(scope="module")
def real():
    """A run that claims to be of the paper's model."""
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0,), per_benchmark=10)
    cells = [replace(cell, model="llava-1.5-7b") for cell in run.cells]
    cells[2] = replace(cells[2], settings=dict(cells[2].settings) | {"rank": Setting(256, "preset")})
    return replace(run, cells=tuple(cells))


def test_printed_and_ours_stand_side_by_side_and_versions_apart(real):
    analysis = analyse(real)
    v1, v2 = compare_with_paper(analysis)
    records = {(record[0], record[2]): record for record in v1.records}
    assert records["Vanilla", "MME"][3] == "66.63"
    assert records["KORE", "Avg"][1] == "kore (r=256)"
    second = {(record[0], record[2]): record for record in v2.records}
    assert second["KORE", "Avg"][1] == "kore r=256"
    ours = [analysis.main[2, key].value for key in ("Avg (v1)", "Avg (v2)")]
    assert [float(one["KORE", "Avg"][5]) for one in (records, second)] == [round(value, 2) for value in ours]
    assert ours[0] != ours[1]
    for listing, version in ((v1, "v1"), (v2, "v2")):
        known = {row.method: row for row in printed_rows() if (row.version, row.model) == (version, "llava-1.5-7b")}
        for _, method, metric, value, table, *_ in listing.records:
            assert float(value) == pytest.approx(known[method].values[metric], abs=0.005)
            assert table == known[method].tables[metric]


def test_verdicts_follow_from_the_interval(real):
    listing = compare_with_paper(analyse(real))[0]
    seen = set()
    for *_, value, _, ours, interval, _, verdict in (record[2:] for record in listing.records):
        seen.add(verdict)
        if verdict in ("within", "ours is higher", "ours is lower"):
            low, high = map(float, re.findall(r"[\d.]+", interval))
            place = (
                "within"
                if low <= float(value) <= high
                else "ours is lower"
                if float(ours) < float(value)
                else "ours is higher"
            )
            assert verdict == place
    assert {"within", "ours is higher", "ours is lower", "not comparable: rule-judge"} <= seen


def test_no_verdict_on_another_model_or_a_limited_run(real):
    other = replace(real, cells=tuple(replace(cell, model="mini") for cell in real.cells))
    listing = compare_with_paper(analyse(other))[0]
    assert {record[-1] for record in listing.records} <= {"not comparable: another model", "not measured"}
    assert any("no model named mini" in note for note in listing.notes)
    limited = replace(real, cells=tuple(replace(cell, marks=("limited",)) for cell in real.cells))
    assert not {"within", "ours is higher", "ours is lower"} & {
        r[-1] for r in compare_with_paper(analyse(limited))[0].records
    }


def test_a_variant_that_the_paper_lacks_is_not_taken_for_another(real):
    kore = real.cells[2]
    assert printed_row(replace(kore, variant="random-subspace"), "v1", "llava-1.5-7b") is None
    assert printed_row(replace(kore, variant="no-constraint"), "v2", "llava-1.5-7b").method.startswith("w/o constraint")
    assert printed_row(replace(kore, method="my-own"), "v1", "llava-1.5-7b") is None
