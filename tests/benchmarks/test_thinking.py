"""Thinking blocks are cut before scoring, by every benchmark, and an unclosed one counts as truncated."""

from __future__ import annotations

import pytest

from benchmarks.base import pair_answers
from benchmarks.records import Answer
from benchmarks.registry import get_benchmark
from benchmarks.retention import score_batch
from benchmarks.thinking import any_thinking, cut_thinking, is_unclosed, without_thinking
from helpers import tiny

TEXTS = {
    "Ghana": ("Ghana", False),
    "<think>Is it Chad? No.</think>\n\nGhana": ("Ghana", False),
    "Is it Chad? No.</think>\n\nGhana": ("Ghana", False),  # the prompt opened the block
    "<think>\n\n</think>\n\nGhana": ("Ghana", False),
    "<think>a</think>b<think>c</think> Ghana": ("Ghana", False),
    "<think>Is it Chad? Perhaps": ("", True),
    "<think>a</think>Ghana<think>or": ("Ghana", True),
    "  Ghana ": ("  Ghana ", False),  # without a block nothing changes, not even white space
    "": ("", False),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_what_is_left_of_a_text(text, expected):
    assert (cut_thinking(text), is_unclosed(text)) == expected


def test_an_answer_keeps_everything_else():
    given = Answer("1", ("<think>a</think>b", "<think>c"), new_tokens=7)
    assert without_thinking(given) == Answer("1", ("b", ""), new_tokens=7, truncated=True)
    plain = Answer("1", ("b", "c"), new_tokens=7)
    assert without_thinking(plain) is plain
    assert any_thinking([plain, given])
    assert not any_thinking([plain])


def test_answers_are_paired_without_their_blocks():
    (question,) = tiny.questions(1)
    [(_, answer)] = pair_answers([question], [Answer(question.id, ("<think>a</think>b",))])
    assert answer.texts == ("b",)


def scores(name, workspace, write):
    """The headline if every answer is what ``write`` makes of the right one, and of a wrong one."""
    benchmark = get_benchmark(name).open(workspace)
    questions = benchmark.questions(8)
    right = [Answer(each.id, tuple(write(each.reference, "nothing") for _ in each.turns)) for each in questions]
    wrong = [Answer(each.id, tuple(write("nothing", each.reference) for _ in each.turns)) for each in questions]
    if name == "mini-EVOKE":
        return [benchmark.score(questions, answers).headline for answers in (right, wrong)]
    return [score.headline for score in score_batch([(benchmark, questions, each) for each in (right, wrong)])]


@pytest.mark.parametrize("name", ["mini-EVOKE", pytest.param("mini-ScienceQA", marks=pytest.mark.slow)])
def test_a_benchmark_scores_what_comes_after_the_block(name, tmp_path):
    """The right answer in the block and a wrong one after it is wrong, and the other way round right."""
    plain = scores(name, tmp_path, lambda said, _: said)
    thought = scores(name, tmp_path, lambda said, other: f"<think>{other}</think>\n\n{said}")
    assert thought == plain
    assert plain[0] == 100
    assert plain[1] < 20  # VLMEvalKit's rule reads an option now and then in what names none
    unclosed = scores(name, tmp_path, lambda said, other: f"<think>{said} {other}")
    assert unclosed == scores(name, tmp_path, lambda *_: "")
