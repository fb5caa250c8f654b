"""Five formats, one set of numbers; hostile text stays text in each."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from helpers.attacks import ATTACKS, attacked_analysis
from helpers.fake_run import fake_run
from reports.formats import data, latex, markdown, sheet, terminal
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.tables.tables import LONG_COLUMNS, long_table, make_tables
from reports.text import footnote_symbols, format_number, format_signed, sanitize

NUMBER = re.compile(r"-?\d+\.\d\d(?!\d)")


@pytest.fixture(scope="module")
def made(analysis):
    return make_tables(analysis)


def values(table):
    """The numbers of a table, line by line, as every format must show them."""
    return [
        [format_number(line.cells[c.key].value) for c in table.columns if c.key in line.cells] for line in table.lines
    ]  # fmt: skip


def from_markdown(table):
    rows = [line for line in markdown.render(table).splitlines() if line.startswith("| ")][2:]
    cells = [re.split(r"(?<!\\)\|", row)[2:-1] for row in rows]
    return [[NUMBER.search(cell)[0] for cell in row if NUMBER.search(cell)] for row in cells]


def from_latex(table):
    body = latex.render(table).split("\\midrule", 1)[1].split("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")][::2]
    cells = [re.split(r"(?<!\\)&", row)[1:] for row in rows]
    return [[NUMBER.search(cell)[0] for cell in row if NUMBER.search(cell)] for row in cells]


def from_csv(table):
    rows = list(csv.reader(io.StringIO(sheet.render(table))))[1:]
    return [[cell for cell in row[2 :: len(sheet.FIELDS)] if cell] for row in rows]


def from_json(table):
    document = json.loads(data.render((table,)))["tables"][0]
    return [[format_number(cell["value"]) for cell in line["cells"].values()] for line in document["lines"]]


def from_terminal(table):
    out = io.StringIO()
    terminal.show(table, Console(file=out, width=400, color_system=None))
    rows = [line for line in out.getvalue().splitlines() if NUMBER.search(line)]
    return [NUMBER.findall(row) for row in rows[: len(table.lines)]]


def test_the_three_tables(made):
    assert [table.key for table in made] == ["main", "benchmarks", "types"]
    assert [len(table.columns) for table in made] == [16, 12, 10]
    assert made[0].lines[0].label == "Vanilla"
    assert "All" not in {line.group for line in made[2].lines}


@pytest.mark.parametrize("read", [from_markdown, from_latex, from_csv, from_json, from_terminal])
def test_every_format_shows_the_same_numbers(made, read):
    for table in made:
        assert read(table) == values(table)


def test_the_comparison_notices_one_changed_digit(made):
    line = made[0].lines[1]
    cem = line.cells["CEM"]
    changed = replace(line, cells=line.cells | {"CEM": replace(cem, value=cem.value + 0.01)})
    other = replace(made[0], lines=(made[0].lines[0], changed, *made[0].lines[2:]))
    assert from_csv(other) != values(made[0])


def test_best_is_bold_and_second_underlined(made):
    table = made[0]
    for column in ("K.A", "HAL"):
        best = next(line.cells[column] for line in table.lines if line.cells[column].rank == 1)
        second = next(line.cells[column] for line in table.lines if line.cells[column].rank == 2)
        assert f"**{format_number(best.value)}**" in markdown.render(table)
        assert f"\\textbf{{{format_number(best.value)}}}" in latex.render(table)
        assert f"\\underline{{{format_number(second.value)}}}" in latex.render(table)


def test_stars_stand_where_the_test_says_so_and_are_explained(made):
    text = markdown.render(made[0])
    stars = sum(one.significant for line in made[0].lines for one in line.cells.values())
    assert stars > 0
    assert text.count("\\*<br>") == stars
    assert "Holm-corrected" in text
    assert "rule-judge" in text.split("† ", 1)[1]


def test_tables_hold_no_time_and_no_cost(run, made):
    slower = tuple(replace(one, cost=replace(one.cost, training_seconds=9e4, peak_memory_bytes=7)) for one in run.cells)
    again = make_tables(analyse(replace(run, cells=slower)))
    for render in (markdown.render, latex.render, sheet.render):
        assert [render(table) for table in again] == [render(table) for table in made]
    other = make_tables(analyse(replace(run, cells=run.cells[:-1])))
    assert data.render(other) != data.render(made)


def test_the_long_frame_has_every_number_once(analysis):
    table = long_table(analysis)
    assert tuple(table.columns) == LONG_COLUMNS
    assert not table.duplicated(["label", "seed", "table", "metric"]).any()
    means = table[table.seed == "mean"]
    assert len(means) == len(analysis.main) + len(analysis.benchmarks) + len(analysis.types)
    assert set(table.seed) == {"mean", "0", "1"}


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_hostile_text_stays_text_in_every_format(text):
    """Invariant I6."""
    made = make_tables(attacked_analysis(text))
    for table in made:
        for row in csv.reader(io.StringIO(sheet.render(table))):
            assert not any(cell.lstrip()[:1] in "=+-@" and not NUMBER.fullmatch(cell) for cell in row if cell)
        tex = latex.render(table)
        assert not re.search(r"\\(input|write18|frac)\b", tex)
        assert tex.count("{") - tex.count("\\{") == tex.count("}") - tex.count("\\}")
        text_of = markdown.render(table)
        assert not re.search(r"<(?!br>|sub>|/sub>|ins>|/ins>)", text_of)
        assert not re.search(r"(?<!\\)\]\(|(?<!:)https?://|(?<!\\)@", text_of)
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in text_of.splitlines() if line.startswith("|")}
        assert widths == {len(table.columns) + 3}
        out = io.StringIO()
        terminal.show(table, Console(file=out, width=100, color_system=None))
        for shown in (out.getvalue(), tex, text_of, sheet.render(table), data.render((table,))):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
            assert "A" * 1000 not in shown
        assert "\x1b" not in out.getvalue()


def test_plain_numbers_are_not_touched_by_the_spreadsheet_guard():
    assert sheet.records([("-1.50", "=1", "ok")]) == "-1.50,'=1,ok\n"


@pytest.mark.parametrize(
    ("value", "text"), [(1.005, "1.00"), (-0.001, "0.00"), (float("nan"), "–"), (float("inf"), "–"), (12, "12.00")]
)
def test_fixed(value, text):
    assert format_number(value) == text


def test_small_helpers():
    assert (format_signed(1.0), format_signed(-1.0), format_signed(0.001)) == ("+1.00", "−1.00", "0.00")
    assert sanitize("a" * 200, 10) == "aaaaaaaaaa… (200 characters)"
    assert footnote_symbols(("rule-judge", "limited", "strange")) == "†‡#"


def shapes():
    base = fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=4)
    some = tuple(
        replace(one, scores={name: score for name, score in one.scores.items() if one.is_vanilla or "MME" not in name})
        for one in base.cells
    )
    nan = tuple(
        replace(one, scores=one.scores | {"mini-POPE": replace(one.scores["mini-POPE"], headline=float("nan"))})
        for one in base.cells
    )
    dead = tuple(
        one if one.is_vanilla else replace(one, status="oom", reason="out of memory", scores={}) for one in base.cells
    )
    many = {"news": {f"kind {n}": 1 for n in range(200)}}
    bare = tuple(replace(c, scores={n: replace(s, items=()) for n, s in c.scores.items()}) for c in base.cells)
    return {
        "nothing": (Run("empty"), "no cells yet"),
        "only vanilla": (replace(base, cells=base.cells[:1]), "Smallest|Scores are"),
        "no vanilla": (replace(base, cells=base.cells[1:]), "No test against the untouched base"),
        "one seed": (base, "One training seed"),
        "a benchmark that only some have": (replace(base, cells=some), "LoRA has no score for mini-MME"),
        "nan": (replace(base, cells=nan), "Scores are"),
        "all failed": (replace(base, cells=dead), "oom: out of memory"),
        "200 types": (fake_run(("Vanilla", "LoRA"), (0,), 2, many), "n = 200"),
        "one question": (fake_run(("Vanilla", "LoRA"), (0,), 1, {"news": {"x": 1}}), "Scores are"),
        "no items": (
            replace(base, cells=bare),
            "Scores are",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", shapes())
def test_odd_runs_read_well_and_say_what_is_missing(name):
    run, says = shapes()[name]
    made = make_tables(analyse(run))
    text = "\n".join(markdown.render(table) + latex.render(table) + sheet.render(table) for table in made)
    assert re.search(says, text)
    assert "nan" not in text.lower().replace("finance", "")
    json.loads(data.render(made))
    terminal.show(made[0], Console(file=io.StringIO(), width=60))
