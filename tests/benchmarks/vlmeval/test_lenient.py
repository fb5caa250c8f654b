"""The lenient reading: answers that explain themselves, by hand and made at random, and the number made of them."""

import json
from statistics import fmean

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.records import Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from benchmarks.vlmeval.lenient_reading import read_choice, read_yes_no
from helpers import synthetic
from helpers.paths import TESTS
from reports.statistics.ratios import headline_ratios

OPTIONS = {"A": "red", "B": "green", "C": "seven", "D": "blue"}
CASES = json.loads((TESTS / "benchmarks" / "data" / "answers.json").read_text("utf-8"))
OWN = [case for case in CASES if case["benchmark"] in ("ScienceQA", "OCRVQA") or case["id"] == "mmmu-none"]


def score(folder, tables, protocol="vlmevalkit"):
    """Scores by benchmark of {name: (rows, answers by id)}."""
    opened = [
        Retention(synthetic.write(rows, folder / f"{name}.tsv"), folder / "w", SPEC_BY_NAME[name], protocol=protocol)
        for name, (rows, _) in tables.items()
    ]
    jobs = [
        (benchmark, asked, [Answer(q.id, (tables[benchmark.name][1][q.id],)) for q in asked])
        for benchmark, asked in zip(opened, questions_batch(opened), strict=True)
    ]
    return dict(zip(tables, score_batch(jobs), strict=True))


@pytest.fixture(scope="module", params=["vlmevalkit", "llava"])
def scored(request, tmp_path_factory):
    tables = {}
    for case in OWN:
        rows, answers = tables.setdefault(case["benchmark"], ([], {}))
        rows.append(case["row"] | {"image": synthetic.png(len(rows))})
        answers[str(case["row"]["index"])] = case["said"]
    return score(tmp_path_factory.mktemp("cases"), tables, request.param)


@pytest.mark.parametrize("case", OWN, ids=lambda case: case["id"])
def test_the_project_s_cases_are_read(scored, case):
    items = {item.question_id: item.values for item in scored[case["benchmark"]].items}
    values = items[str(case["row"]["index"])]
    assert values.get("acc_lenient", values["acc"]) == case["right"], case["why"]


def test_the_lenient_number_stands_beside_the_official_one(scored):
    result = scored["ScienceQA"]
    assert result.headline == result.metrics["acc"] < 60
    assert result.metrics["acc_lenient"] == result.metrics["headline_lenient"] == 100
    assert result.metrics["unparsed"] > 40
    assert result.metrics["unparsed_lenient"] == 0


YES_NO = {
    "MME": {"8": "maybe", "9": "**Answer:** No"},
    "POPE": {"4": "Yes. There is no dog, but a cat.", "5": "There is no dog.\n\nAnswer: no"},
    "HallusionBench": {"VD_figure_1_0_0_0": "Yes. No doubt about it."},
}


@pytest.mark.parametrize("protocol", ["vlmevalkit", pytest.param("llava", marks=pytest.mark.slow)])
def test_every_headline_of_choices_and_yes_or_no_has_its_lenient_number(tmp_path, protocol):
    names = ("MMBench", "SEEDBench2_Plus", "ScienceQA", "MMMU", "MME", "POPE", "HallusionBench")
    tables = {}
    for name in names:
        rows, predictions = synthetic.TABLES[name]()
        tables[name] = rows, predictions | YES_NO.get(name, {})
    for name, result in score(tmp_path, tables, protocol).items():
        values = [item.values for item in result.items]
        assert result.metrics["acc_lenient"] == pytest.approx(100 * fmean(one["acc_lenient"] for one in values))
        assert result.metrics["headline_lenient"] >= result.headline, name
        numerators, denominators = headline_ratios(name, values, [""] * len(values), result.headline)
        if name in ("SEEDBench2_Plus", "MMMU", "HallusionBench"):  # the others need types, clusters or circles
            means = numerators.sum(axis=0) / denominators.sum(axis=0)
            assert 100 * means.mean() == pytest.approx(result.headline)


WORDS = (
    "A ball lies here.",
    "I see a dog.",
    "It reflects light, and that is what we see",
    "Vitamin C is in it.",
    "x = 3",
)
BEFORE = st.lists(st.sampled_from(WORDS), max_size=3).map(lambda parts: " ".join([*parts, ""]))
CUES = (
    "The answer is {}", "Answer: {}", "the correct answer is option {}", "So the right choice would be {}",
    "**Answer:** {}", "Therefore, the answer to the question is: {}", "Final answer:\n{}", "\nIt is {}",
    "\\boxed{{{}}}", "<answer>{}</answer>", "<CONCLUSION> {} </CONCLUSION>",
)  # fmt: skip
FORMS = ("{}", "({})", "**{}**", "'{}'")
AFTER = (
    "",
    ".",
    ". BECAUSE the others differ.",
    ".\n\nExplanation: A ball is round and I like C notes.",
    "!\nA red one",
)


@given(BEFORE, st.sampled_from(CUES), st.sampled_from(FORMS), st.sampled_from("ABCD"), st.sampled_from(AFTER))
@example("", "The answer is {}", "{}", "B", ". BECAUSE ...")
def test_an_answer_that_states_its_letter_is_read(before, cue, form, letter, after):
    said = before + cue.format(form.format(letter)) + after
    assert read_choice(said, OPTIONS) == letter, said


@given(st.sampled_from(FORMS), st.sampled_from("ABCD"), st.booleans(), st.sampled_from(["", ".", ")", ":", "\n", " "]))
def test_a_bare_letter_is_read_in_either_case(form, letter, lower, end):
    assert read_choice(form.format(letter.lower() if lower else letter) + end, OPTIONS) == letter


@given(st.sampled_from("ABCD"), st.sampled_from(["{}. {}", "({}) {}", "{}) {}", "{}: {}", "{}"]), BEFORE)
@example("B", "{}", "Explanation ...")
def test_a_letter_that_opens_its_line_is_read(letter, form, explanation):
    assert read_choice(f"{form.format(letter, OPTIONS[letter])}\n\n{explanation}", OPTIONS) == letter


@pytest.mark.parametrize(
    "said",
    [
        *("", "no idea", "A ball lies on the floor.", "A red one", "Answer: A ball", "The answer is A or B.", "E"),
        *("A. red\nB. green\nC. seven\nD. blue", "The answer is not clear.", "The wrong answer is A."),
    ],
)
def test_what_states_no_option_is_not_read(said):
    assert read_choice(said, OPTIONS) == ""


@given(st.text(max_size=200))
@example("[" * 200)
@example("answer " * 2000)
@example("answer" + " " * 20_000 + "x")
def test_any_text_gives_an_option_or_nothing(said):
    assert read_choice(said, OPTIONS) in {"", *OPTIONS}
    assert read_yes_no(said) in ("", "Yes", "No")


def test_the_text_of_an_option_may_be_stated_and_the_last_statement_counts():
    assert read_choice("The answer is green, not red.", OPTIONS) == "B"
    assert read_choice("First I thought that the answer is A. No: the answer is the blue one.", OPTIONS) == "D"


@given(
    st.sampled_from(["", "There is no dog. ", "Yes-men say no and yes, "]),
    st.sampled_from(["the answer is {}", "Answer: {}", "**Answer:** {}", "\n\n{}", "\\boxed{{{}}}"]),
    st.sampled_from(["Yes", "No"]),
    st.booleans(),
    st.sampled_from(["", ".", ". No doubt, yes."]),
)
def test_a_yes_or_no_that_is_stated_is_read(before, cue, word, lower, after):
    after = "" if cue == "\n\n{}" else after
    assert read_yes_no(before + cue.format(word.lower() if lower else word) + after) == word


@pytest.mark.parametrize(
    ("said", "read"),
    [
        *(("No, it is yes-men.", "No"), ("Yes. There is no dog.", "Yes"), ("The answer is yes or no.", "")),
        *(("There is no dog.", ""), ("No people are here, yes", ""), ("perhaps", "")),
    ],
)
def test_yes_or_no_by_hand(said, read):
    assert read_yes_no(said) == read
