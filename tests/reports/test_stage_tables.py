"""Average accuracy, forgetting and backward transfer: worked examples, the definitions written out, and their laws."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.storage.files import atomic_write
from helpers.fake_run import fake_run
from reports.build import build
from reports.plots.stages import stages as draw_stages
from reports.record import StageResult, from_json, to_json
from reports.statistics.analysis import analyse
from reports.statistics.ratios import item_score
from reports.statistics.stages import average_accuracy, backward_transfer, forgetting, stage_analysis
from reports.tables.stages import stage_tables

NAME = "mini-EVOKE"
NONE = float("nan")


@st.composite
def matrices(draw, least: int = 1):
    """Lower triangles of scores in 0-100; entries above the diagonal are unknown."""
    count = draw(st.integers(least, 6))
    score = st.floats(0, 100, allow_nan=False)
    return np.array([[draw(score) if j <= i else NONE for j in range(count)] for i in range(count)])


def test_worked_example():
    """By hand, after the definitions of Lopez-Paz and Ranzato (2017) and Chaudhry et al. (2018)."""
    matrix = np.array([[60, NONE, NONE], [70, 50, NONE], [40, 30, 80]], dtype=float)
    assert average_accuracy(matrix) == pytest.approx((40 + 30 + 80) / 3)
    assert backward_transfer(matrix) == pytest.approx(((40 - 60) + (30 - 50)) / 2)
    assert forgetting(matrix) == pytest.approx(((70 - 40) + (50 - 30)) / 2)


def test_a_single_stage_forgets_nothing_that_could_be_measured():
    matrix = np.array([[60.0]])
    assert average_accuracy(matrix) == 60
    assert np.isnan(forgetting(matrix))
    assert np.isnan(backward_transfer(matrix))


@given(matrices(2))
def test_the_definitions_written_out(matrix):
    last = len(matrix) - 1
    moved = [matrix[last][j] - matrix[j][j] for j in range(last)]
    fallen = [max(matrix[i][j] for i in range(j, last)) - matrix[last][j] for j in range(last)]
    assert average_accuracy(matrix) == pytest.approx(sum(matrix[last]) / len(matrix))
    assert backward_transfer(matrix) == pytest.approx(sum(moved) / last)
    assert forgetting(matrix) == pytest.approx(sum(fallen) / last)


@given(matrices(2))
def test_forgetting_is_at_least_what_backward_transfer_lost(matrix):
    assert forgetting(matrix) >= -backward_transfer(matrix) - 1e-9


@given(matrices(2), st.floats(-50, 50), st.floats(0.1, 3))
def test_both_differences_ignore_a_shift_and_follow_a_scale(matrix, shift, scale):
    moved = scale * matrix + shift
    assert forgetting(moved) == pytest.approx(scale * forgetting(matrix), abs=1e-8)
    assert backward_transfer(moved) == pytest.approx(scale * backward_transfer(matrix), abs=1e-8)
    assert average_accuracy(moved) == pytest.approx(scale * average_accuracy(matrix) + shift)


@given(matrices(2))
def test_nothing_that_stays_is_forgotten(matrix):
    kept = np.where(np.isnan(matrix), NONE, np.broadcast_to(np.diagonal(matrix), matrix.shape))
    assert forgetting(kept) == pytest.approx(0)
    assert backward_transfer(kept) == pytest.approx(0)


@given(st.lists(matrices(3).filter(lambda one: len(one) == 3), min_size=2, max_size=4))
def test_stacked_matrices_are_computed_separately(found):
    for measure in (average_accuracy, backward_transfer, forgetting):
        np.testing.assert_allclose(measure(np.stack(found)), [measure(one) for one in found])


def staged(run, scores, count=3):
    """The run with stages: part j holds every count-th question, ``scores(i, j)`` is K.A in 0-1 after stage i."""
    asked = [entry.id for entry in run.questions if entry.benchmark == NAME]
    parts = [tuple(asked[part::count]) for part in range(count)]

    def stages():
        for i in range(count):
            after = {name: scores(i, j) for j in range(i + 1) for name in parts[j]}
            yield StageResult(i + 1, len(parts[i]), parts[i], after)

    cells = [cell if cell.is_vanilla else dataclasses.replace(cell, stages=tuple(stages())) for cell in run.cells]
    return dataclasses.replace(run, cells=tuple(cells)), parts


@pytest.fixture(scope="module")
def plain(few_draws):
    """Two methods with two seeds, asked about the new knowledge alone: the other benchmarks have no stages."""
    kinds = {"news": {"head of state": 20}, "entity": {"country": 31}}
    whole = fake_run(("Vanilla", "LoRA", "Replay"), seeds=(0, 1), per_benchmark=1, types=kinds)
    cells = [dataclasses.replace(cell, scores={NAME: cell.scores[NAME]}) for cell in whole.cells]
    questions = [entry for entry in whole.questions if entry.benchmark == NAME]
    return dataclasses.replace(whole, cells=tuple(cells), questions=tuple(questions))


@pytest.fixture(scope="module")
def run(plain):
    return staged(plain, lambda i, j: 0.6 - 0.2 * (i - j))


def test_a_run_becomes_its_matrix(run):
    made, parts = run
    analysis = analyse(made)
    one = stage_analysis(analysis)[0]
    assert [row.label for row in stage_analysis(analysis)] == [
        row.label for row in analysis.rows if not row.is_baseline
    ]
    shown = [[value and round(value.value, 6) for value in line] for line in one.matrix]
    assert shown[1:] == [[60, None, None], [40, 60, None], [20, 40, 60]]
    base = next(cell for cell in made.cells if cell.is_vanilla)
    untouched = {item.question_id: 100 * item_score(item.values) for item in base.scores[NAME].items}
    assert [value.value for value in one.matrix[0]] == pytest.approx(
        [float(np.mean([untouched[name] for name in part])) for part in parts]
    )
    assert one.average.value == pytest.approx(40)
    assert one.forgetting.value == pytest.approx(((60 - 20) + (60 - 40)) / 2)
    assert one.backward.value == pytest.approx(-30)
    assert [mean.value for mean in one.so_far[1:]] == pytest.approx([60, 50, 40])
    assert one.matrix[3][1].n == len(parts[1])
    assert one.average.n == sum(map(len, parts))
    assert one.average.seeds == pytest.approx((40, 40))


def test_intervals_hold_the_number_and_shrink_with_agreement(plain):
    noisy, _ = staged(plain, lambda i, j: 0.5)
    draw = np.random.default_rng(0)
    cells = []
    for cell in noisy.cells:
        answered = [
            dataclasses.replace(one, adaptation={name: float(draw.random() < 0.5) for name in one.adaptation})
            for one in cell.stages
        ]
        cells.append(dataclasses.replace(cell, stages=tuple(answered)))
    quiet = stage_analysis(analyse(noisy))[0]
    varied = stage_analysis(analyse(dataclasses.replace(noisy, cells=tuple(cells))))[0]
    for name in ("average", "forgetting", "backward"):
        wide, narrow = getattr(varied, name), getattr(quiet, name)
        assert wide.low < wide.value < wide.high
        assert narrow.high - narrow.low == pytest.approx(0, abs=1e-9)


def test_a_run_without_stages_has_no_such_table(plain):
    analysis = analyse(plain)
    assert stage_analysis(analysis) == ()
    assert stage_tables(analysis) == ()


def test_a_run_whose_stages_were_never_scored_has_lines_without_numbers(run):
    made, _ = run
    cells = [
        dataclasses.replace(
            cell, scores={}, stages=tuple(dataclasses.replace(stage, adaptation={}) for stage in cell.stages)
        )
        for cell in made.cells
    ]
    summary, matrix = stage_tables(analyse(dataclasses.replace(made, cells=tuple(cells))))
    assert summary.lines
    assert not any(line.cells for table in (summary, matrix) for line in table.lines)


def test_marks_are_shown_with_the_numbers(plain):
    made, _ = staged(plain, lambda i, j: 0.5)
    cells = [
        dataclasses.replace(
            cell,
            marks=("limited",),
            scores={name: dataclasses.replace(one, marks=("limited",)) for name, one in cell.scores.items()},
        )
        for cell in made.cells
    ]
    summary, matrix = stage_tables(analyse(dataclasses.replace(made, cells=tuple(cells))))
    marked = [cell.marks for table in (summary, matrix) for line in table.lines for cell in line.cells.values()]
    assert marked
    assert set(marked) == {("limited",)}
    assert any("limited" in note for note in summary.notes)
    assert not any(cell.rank for line in summary.lines for cell in line.cells.values())


def test_a_method_that_did_not_finish_has_a_line_without_numbers(run):
    made, _ = run
    broken = dataclasses.replace(made.cells[-1], status="diverged", reason="stage 2 of 3: it diverged", stages=())
    label = broken.label
    cells = [broken if cell.label == label else cell for cell in made.cells]
    summary, matrix = stage_tables(analyse(dataclasses.replace(made, cells=tuple(cells))))
    line = next(line for line in summary.lines if line.label == label)
    assert line.cells == {}
    assert "diverged" in line.state
    assert not any(line.label.startswith(f"{label},") for line in matrix.lines)


def test_every_format_has_the_same_numbers(run, tmp_path):
    made, _ = run
    build(made, tmp_path, atomic_write)
    folder = tmp_path / "tables"
    document = json.loads((folder / "tables.json").read_text())
    table = next(one for one in document["tables"] if one["key"] == "stages")
    assert table["lines"][0]["cells"]["average"]["value"] == 40
    assert "40.00" in (folder / "stages.csv").read_text()
    assert "40.00" in (folder / "stages.tex").read_text()
    text = (folder / "tables.md").read_text()
    assert "Knowledge in 3 stages" in text
    assert "K.A on each part after each stage" in text
    page = (tmp_path / "leaderboard.html").read_text()
    assert "Knowledge in 3 stages" in page
    assert 'id="stage-matrix"' in page


def test_the_record_keeps_its_stages(run):
    made, _ = run
    assert from_json(to_json(made)) == made


# A task sequence: stages with names, and parts of unequal size.


def named(plain, names=("countries", "news"), sizes=(8, 43), seed=0):
    """The run with parts of these sizes and random scores; also the matrix (methods, stages, parts), by hand."""
    asked = [entry.id for entry in plain.questions if entry.benchmark == NAME]
    ends = np.cumsum(sizes)
    parts = [tuple(asked[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    draw, cells = np.random.default_rng(seed), []
    for cell in plain.cells:
        stages = [
            StageResult(
                i + 1, len(part), part, {name: draw.random() for each in parts[: i + 1] for name in each}, names[i]
            )
            for i, part in enumerate(parts)
        ]
        cells.append(cell if cell.is_vanilla else dataclasses.replace(cell, stages=tuple(stages)))
    return dataclasses.replace(plain, cells=tuple(cells)), parts


def test_the_matrix_of_a_sequence_counts_parts_equally(plain):
    made, parts = named(plain)
    analysis = analyse(made)
    one = stage_analysis(analysis)[0]
    cells = [cell for cell in made.cells if cell.label == one.label]
    by_hand = [
        [
            100 * np.mean([np.mean([cell.stages[i].adaptation[name] for name in parts[j]]) for cell in cells])
            for j in range(i + 1)
        ]
        for i in range(2)
    ]
    shown = [[value.value for value in line if value] for line in one.matrix[1:]]
    assert [len(line) for line in shown] == [1, 2]
    assert shown[0] == pytest.approx(by_hand[0])
    assert shown[1] == pytest.approx(by_hand[1])
    assert one.average.value == pytest.approx((by_hand[1][0] + by_hand[1][1]) / 2)
    assert one.backward.value == pytest.approx(by_hand[1][0] - by_hand[0][0])
    assert one.forgetting.value == pytest.approx(by_hand[0][0] - by_hand[1][0])
    for value in (one.average, one.backward, one.forgetting, one.matrix[2][1]):
        assert value.low < value.value < value.high
    assert [value.n for value in one.matrix[2]] == [8, 43]


def test_tables_and_plot_show_the_names_of_a_sequence(plain, run):
    made, _ = named(plain)
    analysis = analyse(made)
    summary, matrix = stage_tables(analysis)
    assert [column.title for column in matrix.columns] == ["countries", "news"]
    assert [column.title for column in summary.columns][3:] == ["countries", "news"]
    label = stage_analysis(analysis)[0].label
    assert [line.label for line in matrix.lines][:3] == [
        f"{label}, before the first",
        f"{label}, after countries",
        f"{label}, after news",
    ]
    assert any("in the order countries, news" in note for note in summary.notes)
    assert not any("shuffled" in note for note in summary.notes)
    (plot,) = draw_stages(analysis)
    assert {line[1] for line in plot.data[1:]} == {"0", "countries", "news"}
    assert {line[2] for line in plot.data[1:]} == {"countries", "news"}
    assert "part countries" in plot.alt
    for name in (b"countries", b"news"):
        assert name in plot.svg
    summary, matrix = stage_tables(analyse(run[0]))  # the control: random parts have numbers
    assert [column.title for column in matrix.columns] == ["1", "2", "3"]
    assert any("shuffled" in note for note in summary.notes)


def test_rows_of_different_sequences_share_columns_by_number(plain):
    made, _ = named(plain)
    last = made.cells[-1].label
    cells = [
        dataclasses.replace(
            cell, stages=tuple(dataclasses.replace(stage, name=f"{stage.name} 2") for stage in cell.stages)
        )
        if cell.label == last
        else cell
        for cell in made.cells
    ]
    summary, matrix = stage_tables(analyse(dataclasses.replace(made, cells=tuple(cells))))
    assert [column.title for column in matrix.columns] == ["1", "2"]
    assert {line.label for line in matrix.lines} >= {f"{last}, after countries 2", f"{made.cells[1].label}, after news"}
    assert any("countries, news." in note and "countries 2, news 2." in note for note in summary.notes)
