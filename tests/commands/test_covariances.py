"""``inspect covariances``: which layers it looks at, what it draws, and what it refuses."""

from __future__ import annotations

import csv
import re

import pytest

from benchmarks.errors import UserError
from harness.commands.covariances import CovarianceOptions, choose_ranks, inspect_covariances, parse_norm
from harness.config.settings import resolve
from helpers.small_runs import write_preset

MINI = {"benchmarks": ("mini-MME", "mini-ScienceQA"), "limit": 12}


def records(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two benchmarks of the miniature at one layer."""
    out = tmp_path_factory.mktemp("covariances")
    options = CovarianceOptions(r"layers\.1\.self_attn\.q_proj", samples=8, rank=16)
    return inspect_covariances(resolve("mini", flags=MINI), out, options)


@pytest.mark.slow
def test_pictures_and_similarities_are_written_with_their_data(drawn):
    assert [file.name for file in drawn if file.suffix == ".svg"] == ["covariances-1.svg", "similarity-1.svg"]
    files = {file.name: file for file in drawn}
    maps = records(files["covariances-1.csv"])
    assert len(maps) == 2 * 32 * 32
    assert {line["benchmark"] for line in maps} == set(MINI["benchmarks"])
    assert all(line["layer"].endswith("layers.1.self_attn.q_proj") for line in maps)
    values = {(line["benchmark"], line["row"], line["column"]): line["largest absolute value"] for line in maps}
    assert all(values[name, row, column] == values[name, column, row] for name, row, column in values)
    found = {(line["measure"], line["first"], line["second"]): line for line in records(files["similarity-1.csv"])}
    assert len(found) == 3 * 4
    for (measure, first, second), line in found.items():
        assert line["similarity"] == found[measure, second, first]["similarity"]
        assert 0 <= float(line["similarity"]) <= 1
    chances = {measure: line["chance"] for (measure, _, _), line in found.items()}
    assert chances["cosine of covariances"] == ""
    assert float(chances["overlap of bottom subspaces"]) == 16 / 256


@pytest.mark.slow
def test_halves_of_a_benchmark_are_more_alike_than_two_benchmarks(drawn):
    found = records(next(file for file in drawn if file.name == "similarity-1.csv"))
    for measure in {line["measure"] for line in found}:
        own = [float(line["similarity"]) for line in found if line["measure"] == measure]
        assert min(own[0], own[3]) > own[1], measure


def test_layers_are_chosen_by_a_pattern_or_by_place(tiny_model):
    names = list(choose_ranks(tiny_model, CovarianceOptions()))
    assert len(names) == 2, "two decoder layers have no other middle than the last"
    assert all(name.endswith("q_proj") for name in names)
    chosen = choose_ranks(tiny_model, CovarianceOptions(r"layers\.1\..*(down|o)_proj", rank=5))
    assert [name.rpartition(".")[2] for name in chosen] == ["o_proj", "down_proj"]
    assert set(chosen.values()) == {5}
    ranks = choose_ranks(tiny_model, CovarianceOptions(r"layers\.0\.mlp"))
    widths = {name: tiny_model.module.get_submodule(name).in_features for name in ranks}
    assert ranks == {name: round(width / 16) for name, width in widths.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CovarianceOptions("layers.99"), r"no linear layer of the decoder matches.*\n.*the names are like .*q_proj"),
        (CovarianceOptions("(q_proj"), "this is no pattern"),
        (CovarianceOptions(r"layers\.0\.", rank=4096), "rank 4096, but .* has only 32 inputs"),
    ],
)
def test_bad_layers_and_ranks_are_refused(options, message, tiny_model):
    with pytest.raises(UserError) as caught:
        choose_ranks(tiny_model, options)
    assert re.search(message, str(caught.value))


def test_other_bad_input_is_refused(tmp_path, tiny_folder):
    with pytest.raises(UserError, match="no such way to weight tokens"):
        parse_norm("largest")
    assert parse_norm("official") == "official"
    preset = write_preset(tmp_path, tiny_folder)
    with pytest.raises(UserError, match="two prompts are needed"):
        inspect_covariances(resolve(str(preset), flags={"limit": 1}), tmp_path / "out", CovarianceOptions())
