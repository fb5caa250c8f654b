"""How pictures are shown when a run answers: each benchmark's own way, in the answers' key and in the signature."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.plan import plan
from harness.config.settings import Request, resolve
from harness.experiment.results import read_results
from helpers import published_models, small_runs
from reports.record import VANILLA

LARGE = "answering.pictures.adaptation.min_pixels=12544"


@pytest.fixture
def base(short_answers, tmp_path):
    """A function that runs the untouched base; returns its cell, and how many sets of answers are stored."""
    return runner(tmp_path)


def runner(tmp_path):
    published_models.write_qwen(tmp_path / "model")
    preset = small_runs.write_preset(tmp_path / "bench", tmp_path / "model", items=4)

    def run(*sets):
        compare(Request((VANILLA,), resolve(str(preset), sets, {}), tmp_path / "run"))
        cell = read_results(tmp_path / "run").cells[0]
        return cell, len(list((tmp_path / "run/store/answers").glob("*.json")))

    return run


@pytest.fixture
def answered(base):
    """The same for a base that answers: its texts, the signature, and the number of sets."""

    def run(*sets):
        cell, stored = base(*sets)
        result = cell.scores["mini-EVOKE"]
        return [item.answer for item in result.items], result.signature, stored

    return run


def test_pictures_at_answering_are_in_the_key_and_in_the_signature(answered):
    plain, signature, _ = answered()
    assert "pictures" not in signature
    large, other, stored = answered(LARGE)
    assert stored == 2
    assert large != plain
    assert "|pictures min_pixels 12544|" in other
    assert answered("answering.pictures.retention.min_pixels=12544") == (plain, signature, 2), "of the twelve alone"
    assert answered("pictures.min_pixels=12544")[:2] == (large, other), "as in training, where that is the same"
    assert answered("pictures.min_pixels=12544", LARGE) == (large, other, 3)


def test_answers_that_did_not_end_are_counted(base, tmp_path):
    cell, _ = base()
    assert cell.scores["mini-EVOKE"].truncated == 4, "a random model generates up to the limit"
    published_models.write_qwen(tmp_path / "model", brief=True)
    cell, _ = base()
    assert cell.scores["mini-EVOKE"].truncated == 0


def test_plan_and_report_say_how_a_published_benchmark_is_asked(short_answers, tmp_path):
    published_models.write_qwen(tmp_path / "model", brief=True)
    preset = small_runs.write_preset(tmp_path / "bench", tmp_path / "model", items=4, benchmarks="EVOKE")
    request = Request((VANILLA,), resolve(str(preset), (LARGE,), {}), tmp_path / "run")
    way = "at most 8 new tokens, the model's own repetition penalty, pictures min_pixels 12544."
    assert plan(request).answering == (f"EVOKE: EVOKE's script, {way}",)
    compare(request)
    assert f"EVOKE: EVOKE's script, {way}" in read_results(tmp_path / "run").notes
    assert "at most 8 new tokens" in "".join(path.read_text() for path in (tmp_path / "run/report").rglob("*.md"))


def test_what_the_model_cannot_show_is_refused_before_it_answers(base):
    cell, stored = base("answering.pictures.adaptation.aspect=pad")
    assert stored == 0
    assert "takes any shape" in cell.reason


@pytest.mark.slow
def test_the_number_of_new_tokens_can_be_set_and_is_part_of_the_signature(tmp_path):
    """For all benchmarks, and for one of them, which wins."""
    run = runner(tmp_path)

    def answered(*sets):
        cell, stored = run(*sets)
        result = cell.scores["mini-EVOKE"]
        return [item.answer for item in result.items], result.signature, stored

    own = answered()
    assert "max_new_tokens" not in own[1]
    short, again, longer = (
        answered(*sets)
        for sets in (
            ("answering.max_new_tokens=1",),
            ("answering.max_new_tokens=64", "answering.max_new_tokens.mini-EVOKE=1"),
            ("answering.max_new_tokens.*=2",),
        )
    )
    assert "|max_new_tokens 1|" in short[1]
    assert again[:2] == short[:2]
    assert again[2] == short[2], "nothing is answered again"
    assert "|max_new_tokens 2|" in longer[1]
    assert len({signature for _, signature, _ in (own, short, longer)}) == 3
    assert short[0] != own[0]


def test_the_number_of_new_tokens_of_an_unknown_benchmark_is_refused():
    with pytest.raises(UserError, match="there is no benchmark 'MMEE'"):
        resolve("mini", ["answering.max_new_tokens.MMEE=5"])
    assert resolve("mini", ["answering.max_new_tokens.MME=5"]).settings.answering.new_tokens("MME") == 5
    with pytest.raises(UserError, match="max_new_tokens"):
        resolve("mini", ["answering.max_new_tokens=0"])
