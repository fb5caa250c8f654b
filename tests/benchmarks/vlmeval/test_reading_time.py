"""Whatever a degenerate answer repeats, every rule reads it in well under a second."""

from __future__ import annotations

import pytest

from benchmarks.vlmeval.lenient_reading import read_choice, read_yes_no
from benchmarks.vlmeval.options import read_option
from benchmarks.vlmeval.published_rule import answers_equal_as_published, time_limit
from benchmarks.vlmeval.rules_llava import mme_answer, pope_says_yes, science_answer
from benchmarks.vlmeval.rules_maths import states
from benchmarks.vlmeval.safe_literal import MAX_LENGTH
from benchmarks.vlmeval.values import answers_equal, read_value

LENGTH = 30_000
"""A reader that takes time as the square of the length needs many seconds for it."""
SECONDS = 1.0
OPTIONS = {"A": "a cat", "B": "yes dog", "C": "12 cm"}
READERS = {
    "answers_equal": lambda text: answers_equal(text, "7"),
    "as published": lambda text: answers_equal_as_published(text, "7"),
    "read_value": read_value,
    "states": lambda text: states(text, "['7', 'a b']"),
    "read_option": lambda text: read_option(text, OPTIONS, lambda answer, options: False),
    "read_choice": lambda text: read_choice(text, OPTIONS),
    "read_yes_no": read_yes_no,
    "LLaVA's": lambda text: (mme_answer(text), pope_says_yes(text), science_answer(text)),
}
REPEATED = (
    " ", "\n", "\t", ".", "(", "{", "[", "$", "\\", "^", "-", "*", "0", "a", "π", "°", "{}", "^ ", "^{", "{ ", "1,",
    "1 /", "x=", "1 x ", "\\frac", "\\frac{1}", "\\sqrt", "\\boxed{", "\\text{", "\\circ ", "cm ", "1 %", "<a", "</",
    "**a", "yes ", "answer ", "answer to a ", "the answer is the ", "A or ", "A is the ", "(A", "it is A ",
)  # fmt: skip
AROUND = (("7", " x!"), ("\\text{", "!"))


@pytest.mark.parametrize(
    "reader", [pytest.param(name, marks=[pytest.mark.slow] * (name == "as published")) for name in READERS]
)
def test_a_long_answer_that_repeats_itself(reader):
    READERS[reader]("8")  # a parser is imported by the first text
    for unit in REPEATED:
        for length in (LENGTH, 2 * MAX_LENGTH - 20, MAX_LENGTH - 20):
            for start, end in AROUND:
                text = start + (unit * length)[:length] + end
                try:
                    with time_limit(SECONDS):
                        READERS[reader](text)
                except TimeoutError:
                    pytest.fail(f"{reader} takes more than {SECONDS} s for {length} characters of {unit!r}")


def test_spaces_on_both_sides_of_a_unit():
    """Both runs are within the length of an expression, so that the length guard does not help."""
    with time_limit(SECONDS):
        assert read_value("7" + 80 * " " + "cm" + 80 * " " + "!") is None
    assert read_value("7" + 80 * " " + "cm" + 80 * " " + "^2") == read_value("7 cm^2") == (7, "cm2")
    assert answers_equal("7" + LENGTH * " " + "°", "7 degrees")
