"""The paper's printed numbers are complete, and those that do not add up are found."""

import pytest

from reports.paper import audit, printed


def test_everything_printed_is_read():
    rows = {(row.version, row.model, row.method): row for row in printed()}
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
    found = {(one.row.version, one.row.model, one.row.method, one.metric): one for one in audit().found}
    assert found[version, model, method, metric].recomputed == pytest.approx(follows, abs=0.01)


def test_what_adds_up_is_not_reported():
    found = {(one.row.version, one.row.method) for one in audit().found if one.row.model == "llava-1.5-7b"}
    assert not {("v1", "lora"), ("v2", "lora"), ("v2", "kore r=235"), ("v2", "kore r=256")} & found
    assert len(audit().found) < 40
