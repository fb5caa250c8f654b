"""The formats match their snapshots, and files follow their published schemas.

After an intended change, ``UPDATE_SNAPSHOTS=1 pytest tests/reports/test_snapshots.py`` rewrites the files.
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from harness.storage.files import atomic_write
from helpers.fake_run import fake_run
from reports import record as record
from reports.build import build
from reports.formats import data, latex, markdown
from reports.statistics.analysis import analyse
from reports.table import TextTable
from reports.tables.tables import make_tables, pairs_listing

SNAPSHOTS = Path(__file__).parent / "snapshots"
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def check_snapshot(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text, f"{path.name} changed; if that is intended: UPDATE_SNAPSHOTS=1"


@pytest.fixture(scope="module")
def small(few_draws):
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0, 1), 6, {"news": {"head of state": 5}, "entity": {"animal": 7}})
    marked = tuple(replace(one, marks=("limited",)) if one.label == "LoRA" else one for one in run.cells)
    extra = replace(run.cells[3], label="KORE & 50 % data", variant="half")
    return analyse(replace(run, cells=(*marked, extra)))


def test_markdown(small):
    parts = [*map(markdown.render, make_tables(small)), markdown.listing(pairs_listing(small))]
    check_snapshot(SNAPSHOTS / "tables.md", "\n".join(parts))


def test_latex(small):
    main, _, types = make_tables(small)
    check_snapshot(SNAPSHOTS / "main.tex", latex.render(main))
    check_snapshot(SNAPSHOTS / "types.tex", latex.render(types))
    check_snapshot(SNAPSHOTS / "pairs.tex", latex.listing(pairs_listing(small)))


def test_json(small):
    check_snapshot(SNAPSHOTS / "tables.json", data.render(make_tables(small), (pairs_listing(small),)))


def test_the_schemas_are_published():
    check_snapshot(SCHEMAS / data.SCHEMA, data.schema_text(data.schema()))
    check_snapshot(SCHEMAS / f"results-{record.VERSION}.schema.json", data.schema_text(record.schema()))
    for path in SCHEMAS.iterdir():
        Draft202012Validator.check_schema(json.loads(path.read_text("utf-8")))


def test_tables_follow_their_schema_which_is_beside_them(small, tmp_path, monkeypatch):
    monkeypatch.setattr("reports.build.draw_plots", lambda _: ())
    build(small.run, tmp_path, atomic_write)
    document = json.loads((tmp_path / "tables" / "tables.json").read_text("utf-8"))
    schema = json.loads((tmp_path / "tables" / document["$schema"]).read_text("utf-8"))
    validator = Draft202012Validator(schema)
    validator.validate(document)
    assert document["version"] == data.VERSION
    invalid = (
        document | {"version": 99},
        document | {"more": 1},
        {name: part for name, part in document.items() if name != "tables"},
        document | {"tables": [document["tables"][0] | {"lines": [{"label": 1}]}]},
    )
    for changed in invalid:
        assert list(validator.iter_errors(changed))


def test_a_run_record_follows_its_schema(small):
    validator = Draft202012Validator(record.schema())
    document = json.loads(record.to_json(small.run))
    validator.validate(document)
    assert list(validator.iter_errors(document | {"cells": [{"model": 1}]}))


@pytest.mark.parametrize(("methods", "kinds"), [(2, 200), (12, 20), pytest.param(12, 200, marks=pytest.mark.slow)])
def test_long_and_wide_tables_are_split_into_floats_of_a_page(methods, kinds):
    run = fake_run(("Vanilla", "LoRA"), (0,), 1, {"news": {f"kind {n}": 1 for n in range(kinds)}})
    rows = [run.cells[0], *(replace(run.cells[1], label=f"method {n}", variant=f"v{n}") for n in range(methods))]
    table = next(one for one in make_tables(analyse(replace(run, cells=tuple(rows)))) if one.key == "types")
    text = latex.render(table)
    floats = re.findall(r"\\begin\{table\*\}.*?\\end\{table\*\}", text, re.DOTALL)
    assert len(floats) >= kinds // latex.LINES * (2 if methods > 6 else 1)
    for one in floats:
        assert one.count(r"\\") <= 2 * latex.LINES + 3
        assert len(re.search(r"\\begin\{tabular\}\{l(r+)\}", one)[1]) <= latex.COLUMNS
    shown = re.findall(r"^([^&%\\]+) \(n = \d+\) &", text, re.MULTILINE)
    assert {line.label.rsplit(" (n", 1)[0] for line in table.lines} == set(shown)
    assert len(re.findall(r"\\label\{tab:types\}", text)) == 1
    assert text.count("Holm") == sum(note.count("Holm") for note in table.notes)


def test_hostile_listings_stay_text():
    whole = TextTable("x", "\\input{a}", ("=1", "b"), (("<b>|x", "\\write18{rm}"),), ("$\\frac{",))
    text = markdown.listing(whole)
    assert "<" not in text
    assert len(re.findall(r"(?<!\\)\|", text.splitlines()[4])) == 3
    assert not re.search(r"\\(input|write18|frac)\b", latex.listing(whole))
