"""Ellipses cover what they claim, no row on the Pareto front is beaten, sweeps and stages show their numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.fake_run import cell, fake_run, questions
from reports.formats import markdown
from reports.plots.all_plots import draw_plots
from reports.plots.canvas import MAX_ROWS, best_learners, legend_columns, row_styles, rows_with, shorten
from reports.plots.costs import costs
from reports.plots.losses import SMOOTHING, _smooth
from reports.plots.stages import stages
from reports.plots.style import new_figure, series_style, styled
from reports.plots.sweeps import sweeps
from reports.plots.tradeoff import curve_rows, ellipse, pareto_front, tradeoff
from reports.record import SCALED, StageResult
from reports.statistics import summary
from reports.statistics.analysis import analyse
from reports.tables.matched import sweep_curves
from reports.tables.sweep_scores import sweep_tables
from reports.text import format_number


@pytest.fixture(scope="module")
def swept(few_draws):
    """LoRA at three ranks, KORE at one."""
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0,), 8)
    base, lora, kore = run.cells
    points = [
        replace(
            fake_run(("LoRA",), (seed,), 8).cells[0], seed=0, label=f"lora (rank {rank})", crossed={"rank": rank},
            swept="rank", curve="lora",
        )
        for seed, rank in enumerate((4, 16, 64))
    ]  # fmt: skip
    return analyse(replace(run, cells=(base, *reversed(points), kore, replace(lora, label="plain"))))


@pytest.fixture(scope="module")
def scaled(few_draws):
    """One training of LoRA scaled to a half, to three quarters and whole, beside another method."""
    skills = {"lora:scaled-0.5": (0.20, 0.90), "lora": (0.42, 0.55), "lora:scaled-0.75": (0.31, 0.76)}
    entries = questions(16)
    lora = [
        replace(
            cell(name, entries, 0, ("lora", "", *skill)), crossed={SCALED: float(name.partition("-")[2] or 1)},
            swept=SCALED, curve="lora",
        )
        for name, skill in skills.items()
    ]  # fmt: skip
    run = fake_run(("Vanilla", "KORE"), (0,), 16)
    return analyse(replace(run, cells=(*run.cells, *lora)))


def test_an_ellipse_covers_95_percent_of_normal_draws(analysis):
    """Against the chi-square law: draws of a normal with the row's variances."""
    number = 1
    wide, high, angle = ellipse(analysis, number)
    xx, xy, yy = analysis.covariances[number]
    draws = np.random.default_rng(0).multivariate_normal((0, 0), [[xx, xy], [xy, yy]], 20_000)
    turn = np.radians(angle)
    along = draws @ np.array([np.cos(turn), np.sin(turn)])
    across = draws @ np.array([-np.sin(turn), np.cos(turn)])
    inside = (2 * along / wide) ** 2 + (2 * across / high) ** 2 <= 1
    assert np.mean(inside) == pytest.approx(0.95, abs=0.006)


def test_the_pareto_front_is_what_no_ranked_row_beats(analysis):
    points = rows_with(analysis, summary.KA, summary.KR1)
    best = pareto_front(analysis, points)
    values = {number: np.array([one.value for one in pair]) for number, pair in points.items()}
    for number in points:
        able = [other for other in points if analysis.rows[other].ranked]
        beaten = any(
            (values[other] >= values[number]).all() and (values[other] > values[number]).any() for other in able
        )
        assert (number in best) == (analysis.rows[number].ranked and not beaten)
    assert best == sorted(best, key=lambda number: values[number][0])
    marked = analyse(
        replace(analysis.run, cells=tuple(replace(cell, marks=("limited",)) for cell in analysis.run.cells))
    )
    assert pareto_front(marked, rows_with(marked, summary.KA, summary.KR1)) == []


def test_the_points_of_a_sweep_share_a_style_and_are_joined(swept):
    drawn = row_styles(swept)
    labels = [row.label for row in swept.rows]
    of = {label: drawn[labels.index(label)] for label in labels}
    assert of["lora (rank 4)"] == of["lora (rank 64)"]
    assert len({of[label] for label in ("lora (rank 4)", "KORE", "plain")}) == 3
    with styled():
        alt = tradeoff(swept).alt
    assert "A line joins lora over rank: 4, 16 and 64." in alt


def test_scaled_rows_are_joined_from_the_base_to_the_whole_update(scaled):
    (curve,) = sweep_curves(scaled)
    labels = [scaled.rows[number].label for number in curve_rows(scaled, curve)]
    assert labels == ["Vanilla", "lora:scaled-0.5", "lora:scaled-0.75", "lora"]
    with styled():
        plot = tradeoff(scaled)
    assert "A line joins the untouched base and lora over update factor: 0.5, 0.75 and 1." in plot.alt
    assert "scaled updates" in plot.caption
    assert all(f">{name}</text>" in plot.svg.decode() for name in labels), "each point has its name"
    points = rows_with(scaled, summary.KA, summary.KR1)
    line = [points[number] for number in curve_rows(scaled, curve)]
    adaptation, retention = ([one.value for one in scores] for scores in zip(*line, strict=True))
    assert adaptation == sorted(adaptation)
    assert retention == sorted(retention, reverse=True)
    drawn = re.findall(
        r'<path d="M ([^"]+)" clip-path="[^"]+" style="fill: none; stroke: [^"]+; stroke-width: 0.8', plot.svg.decode()
    )
    assert len([path for path in drawn if path.count("L") == len(line) - 1]) == 1


def test_a_sweep_of_settings_begins_at_no_base(swept):
    (curve,) = sweep_curves(swept)
    assert curve_rows(swept, curve) == curve.rows
    with styled():
        assert "scaled updates" not in tradeoff(swept).caption


def test_a_sweep_is_drawn_over_its_values(swept):
    with styled():
        plot, benchmarks = sweeps(swept)
    assert (benchmarks.key, benchmarks.title) == ("sweep-rank-benchmarks", "Scores by benchmark over rank")
    assert (plot.key, plot.title) == ("sweep-rank", "Scores over rank")
    assert [record[1] for record in plot.data[1:4]] == ["4", "16", "64"]
    labels = [row.label for row in swept.rows]
    for name, value, measure, score, low, high in plot.data[1:]:
        one = swept.main[labels.index(f"{name} (rank {value})"), measure]
        assert (score, low, high) == tuple(map(format_number, (one.value, one.low, one.high)))
    assert {record[2] for record in plot.data[1:]} == {summary.KA, summary.KR1, summary.AVG1}


def test_a_sweep_is_drawn_and_listed_by_benchmark_beside_the_base(swept):
    with styled():
        plot = sweeps(swept)[1]
    (table,) = sweep_tables(swept)
    assert [line.label for line in table.lines] == ["Vanilla", "lora"], "KORE has one rank"
    assert [line.state for line in table.lines] == ["baseline", ""]
    assert len(table.columns) == 12 * 3
    labels = [row.label for row in swept.rows]
    drawn = {(name, value, measure): score for name, value, measure, score, *_ in plot.data[1:]}
    assert len(drawn) == 12 * (1 + 3)
    for column in table.columns:
        name, value = column.key.split("/")
        one = swept.benchmarks[labels.index(f"lora (rank {value})"), name]
        assert table.lines[1].cells[column.key] is one
        assert drawn["lora", value, f"mini-{name}"] == format_number(one.value)
        base = swept.benchmarks[labels.index("Vanilla"), name]
        assert table.lines[0].cells[column.key] is base
        assert drawn["Vanilla", "", f"mini-{name}"] == format_number(base.value)
    assert table.column_title(table.columns[0]) == "mini-MME 4"
    assert "| mini-MME 4<br>" in markdown.render(table)


def test_a_sweep_without_new_knowledge_is_drawn_by_benchmark_alone(swept):
    cells = [
        replace(cell, scores={name: score for name, score in cell.scores.items() if name == "mini-MME"})
        for cell in swept.run.cells
    ]
    with styled():
        (plot,) = sweeps(analyse(replace(swept.run, cells=tuple(cells))))
    assert plot.key == "sweep-rank-benchmarks"
    assert {record[2] for record in plot.data[1:]} == {"mini-MME"}


def test_stages_are_drawn_as_a_matrix(few_draws):
    run = fake_run(("Vanilla", "LoRA"), (0,), 2, {"news": {"x": 6}, "entity": {"y": 6}})
    asked = [q.id for q in run.questions if q.benchmark == "mini-EVOKE"]
    parts = (tuple(asked[:6]), tuple(asked[6:]))
    found = tuple(
        StageResult(
            number, 6, parts[number - 1], {one: (n + number) % 3 / 2 for n, one in enumerate(asked[: 6 * number])}
        )
        for number in (1, 2)
    )
    cells = (run.cells[0], replace(run.cells[1], stages=found))
    with styled():
        (plot,) = stages(analyse(replace(run, cells=cells)))
        assert stages(analyse(run)) == []
    assert [record[1:3] for record in plot.data[1:]] == [("0", "1"), ("0", "2"), ("1", "1"), ("2", "1"), ("2", "2")]
    assert "after the last of 2 stages: part 1" in plot.alt


def test_costs_are_means_over_seeds(analysis):
    with styled():
        plot = costs(analysis)
    assert plot.data[0] == (
        "method",
        "Avg (v1)",
        "low",
        "high",
        "Trained parameters, millions",
        "Peak memory, GiB",
        "Training time, minutes",
    )
    lora = next(record for record in plot.data if record[0] == "LoRA")
    assert lora[4:] == ("0.983", format_number(1.2e9 / 2**30, 3), format_number((92.0 + 93.0) / 2 / 60, 3))
    assert "Vanilla" not in {record[0] for record in plot.data}
    free = analyse(fake_run(("Vanilla",), (0,), 4))
    assert costs(free) is None


def test_a_smoothed_line_is_a_running_mean():
    values = np.random.default_rng(1).random(20)
    expected = [values[max(0, place - 2) : place + 1].mean() for place in range(20)]
    assert _smooth(values, 3) == pytest.approx(expected)
    assert _smooth(values, 1) == pytest.approx(values)
    assert SMOOTHING > 1


@pytest.fixture(scope="module")
def crowd(few_draws):
    """Ten variants of one method and two of another: more rows than one panel holds and than there are colours."""
    run = fake_run(("Vanilla", "LoRA"), (0,), 4)
    cost = run.cells[1].cost
    cells = [
        replace(
            run.cells[1], label=f"lora:a-rather-long-variant-{n}", variant=f"a-rather-long-variant-{n}",
            cost=replace(cost, trainable_parameters=10_000 * 2**n), method="replay" if n > 9 else "lora",
        )
        for n in range(12)
    ]  # fmt: skip
    return analyse(replace(run, cells=(run.cells[0], *cells)))


@pytest.fixture(scope="module")
def drawn(crowd):
    return {plot.key: plot for plot in draw_plots(crowd)}


@pytest.mark.slow
def test_many_methods_are_all_drawn_and_distinguishable(crowd, drawn):
    assert drawn.keys() == {"tradeoff", "dimensions", "types", "losses", "costs"}
    assert len(drawn["tradeoff"].data) == 14
    shapes = row_styles(crowd)
    assert len({(one.colour, one.marker) for one in shapes}) == len(crowd.rows) == 13
    assert len({one.colour for one in shapes}) == 3, "one for the base, one for each method"
    for key in ("tradeoff", "dimensions", "losses", "costs"):
        text = drawn[key].svg.decode()
        assert all(f">{row.label[:31]}" in text for row in crowd.rows if not row.is_baseline), key
    assert not any("math" in plot.svg.decode() for plot in drawn.values()), "numbers on axes are plain text"


@pytest.mark.slow
def test_bars_of_many_methods_are_those_that_learned_most(crowd, drawn):
    shown = list(dict.fromkeys(record[3] for record in drawn["types"].data[1:]))
    assert len(shown) == MAX_ROWS
    assert shown[0] == "Vanilla"
    assert best_learners(crowd)[0] == 0
    values = {row.label: crowd.main[number, summary.KA].value for number, row in enumerate(crowd.rows)}
    assert min(values[name] for name in shown[1:]) >= max([v for name, v in values.items() if name not in shown])


def test_legends_take_as_many_columns_as_fit():
    with styled():
        half = new_figure(6.2, 3)
    assert legend_columns(half, ["kore", "lora"]) > legend_columns(half, ["kore:random-subspace"] * 2) >= 2
    assert legend_columns(half, ["x" * 200]) == 1


def test_long_names_are_cut():
    assert shorten("kore:random-subspace") == "kore:random-subspace"
    assert len(shorten("x" * 33)) == 32 < len(shorten("x" * 33, 120))


def test_no_two_styles_are_the_same():
    every = [series_style(colour, colour) for colour in range(60)]
    assert len({(one.colour, one.marker) for one in every}) == 60
