"""MathVista, MathVision and MMMU's open questions: the published rule to the digit, and the corrected one by kinds."""

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import Answer
from benchmarks.registry import get_benchmark
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from benchmarks.vlmeval import published_rule
from benchmarks.vlmeval.options import options_of, read_option
from benchmarks.vlmeval.published_rule import answers_equal_as_published, evaluate, time_limit
from benchmarks.vlmeval.rules_maths import mathvista_verdict, states
from benchmarks.vlmeval.values import answers_equal, read_value
from helpers import synthetic
from helpers.paths import PYTHONPATH, TESTS

CASES = json.loads((Path(__file__).parents[1] / "data" / "answers.json").read_text("utf-8"))
METRIC = {"MathVision": "acc", "MathVista": "acc_corrected", "MMMU": "acc_corrected", "OCRVQA": "acc"}


class CaseJudge:
    """Replies to each row's prompt, recognised by its "(case N)", with what the case says."""

    name, last_error = "cases", ""

    def __init__(self, replies):
        self._replies = replies

    def replies(self, requests):
        found = {}
        for key, request in requests.items():
            text = " ".join(value for kind, value in request["parts"] if kind == "text")
            found[key] = self._replies[re.search(r"\(case \d+\)", text)[0]]
        return found


def opened(folder, name, cases):
    """One table of all cases of a benchmark."""
    columns = dict.fromkeys(column for case in cases for column in case["row"])
    columns |= dict.fromkeys(SPEC_BY_NAME[name].columns) | (dict.fromkeys("ABCD") if name == "MMMU" else {})
    rows = [
        dict.fromkeys(columns, "") | case["row"] | {"image": synthetic.png(number)} for number, case in enumerate(cases)
    ]
    table = synthetic.write(rows, folder / f"{name}.tsv")
    replies = {re.search(r"\(case \d+\)", case["row"]["question"])[0]: case["judge_reply"] or "" for case in cases}
    return Retention(table, folder / "w", SPEC_BY_NAME[name], judge=CaseJudge(replies))


def scored(folder, tables):
    """The tables of some benchmarks, answered and scored together."""
    benchmarks = [opened(folder, name, cases) for name, cases in tables.items()]
    said = [{str(case["row"]["index"]): case["said"] for case in cases} for cases in tables.values()]
    jobs = zip(benchmarks, questions_batch(benchmarks), said, strict=True)
    return score_batch([(one, asked, [Answer(q.id, (texts[q.id],)) for q in asked]) for one, asked, texts in jobs])


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    tables = {name: [case for case in CASES if case["benchmark"] == name] for name in METRIC}
    read = {}
    for score, (name, cases) in zip(scored(tmp_path_factory.mktemp("cases"), tables), tables.items(), strict=True):
        metric = METRIC[name]
        values = {item.question_id: item.values[metric] for item in score.items if metric in item.values}
        read |= {case["id"]: values.get(str(case["row"]["index"])) for case in cases}
    return read


@pytest.mark.parametrize("case", [case for case in CASES if case["benchmark"] in METRIC], ids=lambda case: case["id"])
def test_known_answers_are_read_right(verdicts, case):
    assert verdicts[case["id"]] == case["right"], case["why"]


# The published rule of MathVision, compared with VLMEvalKit's function.

GOLDS = ["42", "7", "0.5", r"\frac{1}{2}", r"4\pi", "c", "1:2", "$\\boxed{\\frac{5}{6}}$", "-4", "1500", r"2\sqrt{3}"]
WRITTEN = [
    "a",
    "b",
    "A",
    "2*a",
    "a/2",
    "-a",
    "a+1",
    "42.0",
    "0x2a",
    "4_2",
    "5^2",
    "2**3-1",
    "8//1",
    "15%8",
    "7 or 8",
    "0 or 7",
]
WRITTEN += [
    "not 0",
    "3 < 5",
    "1 if 0 else 7",
    "1,500",
    "1 500",
    "(7)",
    "[7]",
    "{7}",
    "7 # sure",
    "1e0",
    "7j",
    "~6",
    "1<<2",
]
WRITTEN += [
    "max(7, 3)",
    "abs(-7)",
    "round(6.7)",
    "1:2",
    "2/4",
    r"\frac{5}{10}",
    r"\dfrac12",
    r"50\%",
    "4π",
    r"4\pi",
    "x=7",
]
WRITTEN += [
    "12 cm",
    "012",
    "−4",
    r"\boxed{42}",
    r"\(7\)",
    "$7$",
    "3x4",
    "sqrt(4)",
    r"2\sqrt{3}",
    r"\sqrt{12}",
    "five",
    "",
    "none",
]
WRITTEN += [
    "9**9**9",
    r"9^{9^{9^9}}",
    "10!",
    r"\frac{10}{12}",
    r"1\frac{1}{2}",
    "7, 8",
    r"\left(7\right)",
    "e",
    "i",
    "{a}",
    "a^1",
]


def arithmetic(rng, depth=0):
    if depth > 2 or rng.random() < 0.3:
        return rng.choice(["1", "2", "3", "0.5", "7", "10", "a"])
    one, other = arithmetic(rng, depth + 1), arithmetic(rng, depth + 1)
    return f"({one}{rng.choice(['+', '-', '*', '/', '//', '%', '^', ' or ', ' and ', '<', '==', '**'])}{other})"


@pytest.mark.slow
def test_the_published_rule_is_vlmevalkit_s_function(tmp_path):
    rng = random.Random(5)
    pairs = [[answer, gold] for answer in WRITTEN for gold in GOLDS]
    pairs += [[arithmetic(rng), rng.choice(["1", "2", "7", "0.5", r"\frac{1}{2}"])] for _ in range(300)]
    pairs = [pair for pair in pairs if pair[0] not in ("9**9**9", "9^{9^{9^9}}")]  # minutes in Python's evaluator
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    command = [sys.executable, str(TESTS / "helpers" / "official_is_equal.py"), "pairs.json", "results.json"]
    done = subprocess.run(
        command, env=dict(os.environ, PYTHONPATH=PYTHONPATH), capture_output=True, text=True, cwd=tmp_path, timeout=170
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads((tmp_path / "results.json").read_text())
    ours = [answers_equal_as_published(*pair) for pair in pairs]
    assert [pair for pair, one, other in zip(pairs, ours, theirs, strict=True) if one != other] == []
    assert 50 < sum(theirs) < len(theirs) / 2


@pytest.mark.parametrize(
    "text", ["9**9**9", "9^{9^{9^9}}", "1<<10**9", "'x'*10**9", "[0]*10**9", "a**999999999", "((1/2)**10**9)"]
)
def test_nothing_that_fills_the_memory_is_computed(text):
    began = time.monotonic()
    assert not answers_equal_as_published(text, "42")
    assert time.monotonic() - began < 3


def test_a_parser_that_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setattr(published_rule, "SECONDS_PER_TEXT", 0.2)
    began = time.monotonic()
    assert not answers_equal_as_published("[" * 400, "43")
    assert time.monotonic() - began < 3
    with pytest.raises(TimeoutError), time_limit(0.05):
        time.sleep(2)


@pytest.mark.parametrize(
    "text", ["open('x','w')", "().__class__", "[x for x in (1,)]", "lambda: 1", "(x:=5)", "f'{1}'", "abs.x"]
)
def test_only_arithmetic_is_evaluated(text):
    with pytest.raises((SyntaxError, KeyError)):
        evaluate(text, {})


# Values, in the ways in which they are written.


def with_commas(number):
    return f"{number:,}"


WAYS = {
    "plain": str,
    "commas": with_commas,
    "box": lambda n: rf"\boxed{{{n}}}",
    "box in dollars": lambda n: rf"$\boxed{{{n}}}$",
    "inline": lambda n: rf"\({n}\)",
    "display": lambda n: rf"\[ {n} \]",
    "bold": lambda n: f"**{n}**",
    "real minus": lambda n: str(n).replace("-", "−"),
    "zeros": lambda n: f"{'-' if n < 0 else ''}00{abs(n)}",
    "unit": lambda n: f"{n} cm",
    "square unit": lambda n: f"{n} square units",
    "unit in LaTeX": lambda n: rf"{n}\text{{ cm}}^2",
    "unit in braces": lambda n: f"{n}{{degrees}}",
    "degrees": lambda n: rf"{n}^{{\circ}}",
    "variable": lambda n: f"x = {n}",
    "equation in dollars": lambda n: f"$x={n}$",
    "dollars": lambda n: rf"\${n}",
    "full stop": lambda n: f"{n}.",
    "ratio": lambda n: f"{2 * n}:2",
    "factor": lambda n: f"{n}x1" if n > 0 else str(n),
    "fraction": lambda n: rf"\frac{{{3 * n}}}{{3}}",
    "unbraced": lambda n: rf"\frac{{{3 * n}}}3",
    "per cent": lambda n: rf"{100 * n}\%",
}


@pytest.mark.parametrize("way", WAYS)
@given(st.integers(-(10**7), 10**7))
def test_a_whole_number_is_read_however_it_is_written(way, number):
    written = WAYS[way](number)
    assert answers_equal(written, str(number)), written
    assert answers_equal(str(number), written), written  # as a gold
    assert not answers_equal(written, str(number + 1)), written


@given(st.integers(0, 999), st.integers(1, 99), st.integers(1, 99), st.sampled_from(["", "-"]))
def test_mixed_numbers_are_sums(whole, top, bottom, sign):
    value = (-1 if sign else 1) * (whole + Fraction(top, bottom))
    for text in (
        rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}{whole} \dfrac{{{top}}}{{{bottom}}}",
        f"{sign}{whole} {top}/{bottom}",
    ):
        assert read_value(text).number == pytest.approx(float(value)), text


@given(st.integers(1, 500), st.integers(1, 500))
def test_ratios_and_sides(one, other):
    assert answers_equal(f"{one}:{other}", f"{one}/{other}")
    assert answers_equal(f"{one}x{other}", rf"{one} \times {other}")


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 9))
def test_products_without_a_sign_and_large_powers(one, other, base):
    assert answers_equal(
        rf"$\frac{{1}}{{{base}^{{{one % 30}}} {base + 1}^2}}$",
        rf"\frac{{1}}{{{base}^{{{one % 30}}}\cdot {base + 1}^2}}",
    )
    assert read_value(rf"\frac{{{base}^{{{one + other}}}}}{{{base}^{{{one}}}}}").number == pytest.approx(
        float(base**other), rel=1e-9
    )


@given(st.integers(0, 999), st.integers(0, 999))
def test_two_numbers_are_none(one, other):
    for text in (
        f"{one} or {other}",
        f"{one} and {other}",
        f"{one}, {other}" if other < 100 else "",
        f"{one} {other}",
        f"({one}, {other})",
    ):
        assert read_value(text) is None, text
    assert read_value(hex(one)) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("12 cm", "12 centimetres", True),
        ("12 cm", "12 m", False),
        ("12 cm^2", "12 square cm", True),
        ("12 cm^2", "12 cm^3", False),
        ("3 dozen", "3", False),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50%", "0.5%", False),
        (r"8\sqrt{3}", r"8\sqrt{3}{squareinches}", True),
        (r"\frac{3\pi}{4}", r"\frac{3}{4}\pi{inches}", True),
        (r"\frac{360}{7}", r"\frac{360}7", True),
        (r"\frac{36}{13}", "\x0crac{36}{13}", True),
        ("(3, −4)", "(3,-4)", True),
        ("1 2", "12", False),
        (r"\boxed{C}", "C", True),
        ("(c)", "C", True),
        ("2 pi", r"2\pi", True),
    ],
)
def test_values(one, other, same):
    assert answers_equal(one, other) is same


def test_a_number_beyond_floats_has_a_value():
    """A gold of the published table."""
    assert read_value(r"$\frac{3^{1008}-1}{3^{1009}}$").number == pytest.approx(1 / 3)
    assert math.isclose(read_value(r"\frac{7^3}{2^{12} 13^2}").number, 343 / (4096 * 169))


# Options.


def no_letter(text, options):
    return False


def standing_letter(text, options):
    found = [letter for letter in options if letter in re.findall(r"\w+", text)]
    return found[0] if len(found) == 1 else False


LETTERS = dict(zip("ABCDE", "ABCDE", strict=True))
WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=12)


@given(WORD)
def test_a_word_that_holds_a_letter_names_no_option(word):
    assert not read_option(word.capitalize(), LETTERS, no_letter)


@given(WORD)
def test_options_are_whole_words(word):
    options = {"A": word, "B": "zzzzzz 9"}
    assert read_option(word.upper(), options, no_letter) == "A"
    assert read_option(f"7 {word}.", options, no_letter) == "A"
    for longer in (f"{'x' * 12}{word}", f"{word}{'x' * 12}"):
        assert not read_option(longer, options, no_letter)


def test_part_of_a_word_is_no_option():
    yes_no = {"A": "Yes", "B": "No"}
    for text in ("None", "nothing", "I do not know", "cannot say", "nan", ""):
        assert not read_option(text, yes_no, standing_letter), text
    assert read_option("No.", yes_no, standing_letter) == "B"
    assert not read_option("Left", LETTERS, standing_letter)
    assert read_option("(E)", LETTERS, standing_letter) == "E"
    assert read_option("13", {"A": "3", "B": "13"}, standing_letter) == "B"
    assert not read_option("3.5", {"A": "3", "B": "13"}, standing_letter)
    assert not read_option("-3", {"A": "3", "B": "13"}, standing_letter)


def test_the_letter_in_the_name_of_an_option_is_not_its_letter():
    jars = {"A": "neither; they are equal", "B": "jar A", "C": "jar B"}
    assert read_option("jar A", jars, standing_letter) == "B"
    assert read_option("They react; hotter is jar A", jars, standing_letter) == "B"
    assert read_option("C. jar B", jars, standing_letter) == "C"


def test_a_slip_of_spelling_names_the_nearest_option():
    bars = {"A": "red bar", "B": "blue bar"}
    assert read_option("bleu bar", bars, standing_letter) == "B"
    assert not read_option("150 cm", {"A": "150 mm", "B": "140 cm"}, no_letter)
    assert options_of("['a', 'b']") == {"A": "a", "B": "b"}
    assert options_of("") == options_of("nan") == {}


# MathVista's authors on numbers, and MMMU's open questions.


def vista(reply, gold, answer_type, **columns):
    row = {"question_type": "free_form", "answer_type": answer_type, "answer": gold, "prediction": reply, "res": reply}
    return mathvista_verdict(row | columns, no_letter, False)


@given(st.integers(-1000, 1000))
def test_whole_numbers_may_have_decimals(number):
    assert vista(f"{number}.0", str(number), "integer")
    assert not vista(f"{number + 1}.0", str(number), "integer")


@given(st.integers(-999, 999), st.sampled_from(["", 1.0, "1"]))
def test_decimals_are_rounded_to_what_is_asked_for(tenths, precision):
    gold = f"{tenths / 10:.1f}"
    written = f"{tenths / 10 + 0.04:.2f}"
    assert vista(written, gold, "float", precision=precision)
    assert not vista(f"{tenths / 10 + 0.16:.2f}", gold, "float", precision=precision)


def test_the_replies_of_the_issue():
    assert vista("1.24", "1.2", "float")
    assert vista("1,500", "1500", "integer")
    assert vista("[1, 2]", "[1, 2]", "list")
    assert not vista("many", "3", "integer")


def test_open_questions_are_read_as_text():
    assert states("The answer is C.", "C")
    assert not states("a c", "C")
    assert not states("A", "seventeen")
    assert states("It is Seventeen", "seventeen")
    assert states("3.43", "['24/7', '3.43']")
    assert not states("17.5", "7")


def test_an_open_question_does_not_accept_the_letter_a(tmp_path):
    rows, predictions = synthetic.TABLES["MMMU"]()
    benchmark = Retention(synthetic.write(rows, tmp_path / "MMMU.tsv"), tmp_path / "w", SPEC_BY_NAME["MMMU"])
    questions = benchmark.questions()
    score = benchmark.score(questions, [Answer(q.id, ("A" if q.id == "1" else predictions[q.id],)) for q in questions])
    values = {item.question_id: item.values for item in score.items}["1"]
    assert (values["acc"], values["acc_corrected"]) == (1.0, 0.0)
    assert score.metrics["acc"] == score.headline > score.metrics["acc_corrected"]
    assert any("1 questions have no options" in note and "differs on 1" in note for note in score.notes)


def test_chance_is_the_authors_random_baseline_of_the_published_tables():
    assert (get_benchmark("MathVista").chance, get_benchmark("MathVision").chance) == (17.9, 7.17)
    assert get_benchmark("mini-MathVista").chance == get_benchmark("mini-MathVision").chance == 0.0
