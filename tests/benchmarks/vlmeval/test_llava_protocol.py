"""LLaVA's protocol: its prompts, and its rules compared with a second implementation of the scripts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import IMAGE, Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME, SPECS
from benchmarks.vlmeval.prompts_llava import LETTER, SHORT, build_prompt
from benchmarks.vlmeval.rules_llava import mme_answer, pope_says_yes, science_answer
from helpers import synthetic
from reports.statistics.ratios import headline_ratios

FOUR = [spec.name for spec in SPECS if spec.llava]


def test_it_exists_for_the_four_that_kore_ran_with_llava_s_scripts():
    assert sorted(FOUR) == ["MMBench", "MME", "POPE", "ScienceQA"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Questions and scores of both protocols on the same tables and the same answers."""
    folder = tmp_path_factory.mktemp("protocols")
    opened, predictions = [], []
    for protocol in ("vlmevalkit", "llava"):
        for name in FOUR:
            rows, answers = synthetic.TABLES[name]()
            table = synthetic.write(rows, folder / f"{name}.tsv")
            opened.append(Retention(table, folder / "w", SPEC_BY_NAME[name], protocol=protocol))
            predictions.append(answers)
    questions = questions_batch(opened)
    jobs = [
        (benchmark, asked, [Answer(q.id, (answers[q.id],)) for q in asked])
        for benchmark, asked, answers in zip(opened, questions, predictions, strict=True)
    ]
    scores = score_batch(jobs)
    return {
        (benchmark.protocol, benchmark.spec.name): (benchmark, asked, score)
        for benchmark, asked, score in zip(opened, questions, scores, strict=True)
    }


def test_prompts(scored):
    _, asked, _ = scored["llava", "MME"]
    assert asked[0].turns == (f"{IMAGE}\nIs thing 0 red?\n{SHORT}",)
    assert asked[0].max_new_tokens == 128
    _, asked, _ = scored["llava", "ScienceQA"]
    assert asked[0].turns == (f"{IMAGE}\nWhich colour has 0?\nA. red\nB. green\nC. 7\nD. blue\n{LETTER}",)
    assert asked[0].max_new_tokens == 1024
    _, asked, _ = scored["llava", "MMBench"]
    # Options end before the first called "None", as in LLaVA's script.
    assert asked[0].turns == (f"{IMAGE}\nWhat is it?\nA. cat\nB. dog\n{LETTER}",)
    assert all(len(question.pictures) == 1 for question in asked)


@pytest.mark.parametrize("name", FOUR)
def test_decoding_belongs_to_the_protocol(scored, name):
    benchmark, asked, _ = scored["vlmevalkit", name]
    assert {(question.max_new_tokens, question.repetition_penalty) for question in asked} == {(2048, 1.0)}
    assert "|max_new_tokens 2048|repetition_penalty 1.0" in benchmark.signature()
    benchmark, asked, _ = scored["llava", name]
    assert {question.repetition_penalty for question in asked} == {None}
    assert "repetition_penalty" not in benchmark.signature()


def test_hints_come_first():
    row = {"question": "Which?", "hint": "Look.", "A": "x", "B": "y"}
    assert build_prompt(SPEC_BY_NAME["ScienceQA"], row) == f"Context: Look.\nWhich?\nA. x\nB. y\n{LETTER}"
    assert build_prompt(SPEC_BY_NAME["MMBench"], row) == f"Look.\nWhich?\nA. x\nB. y\n{LETTER}"
    assert build_prompt(SPEC_BY_NAME["MMBench"], row | {"hint": float("nan")}) == f"Which?\nA. x\nB. y\n{LETTER}"


@pytest.mark.parametrize("name", FOUR)
def test_protocols_are_never_mixed(scored, name):
    """What identifies questions, scores and numbers differs, so neither store nor merge takes one for another."""
    (one, asked, score), (other, others, another) = scored["vlmevalkit", name], scored["llava", name]
    assert one.fingerprint() != other.fingerprint()
    assert "|protocol vlmeval|" in one.signature()
    assert "|protocol llava|" in other.signature()
    assert [q.turns for q in asked] != [q.turns for q in others]
    assert [q.pictures[0].sha256 for q in asked] == [q.pictures[0].sha256 for q in others]
    assert not any("LLaVA's protocol" in note for note in score.notes)
    assert any("LLaVA's protocol" in note for note in another.notes)


@pytest.mark.parametrize("name", [spec.name for spec in SPECS if not spec.llava])
def test_a_benchmark_without_scripts_of_llava_s_is_asked_as_vlmevalkit_asks_llava(tmp_path, name):
    opened = [
        Retention(tmp_path / "x.tsv", tmp_path, SPEC_BY_NAME[name], protocol=protocol)
        for protocol in ("llava", "vlmevalkit-llava", "vlmevalkit")
    ]
    assert [benchmark.protocol for benchmark in opened] == ["vlmevalkit-llava", "vlmevalkit-llava", "vlmevalkit"]
    signatures = [benchmark.signature() for benchmark in opened]
    assert signatures[0] == signatures[1] != signatures[2]
    assert "|protocol vlmevalkit-llava|" in signatures[0]
    assert signatures[0].endswith("|max_new_tokens 2048")


# The original scripts, statement by statement.


def script_pope(answers, labels):
    pred = []
    for text in answers:
        if text.find(".") != -1:
            text = text.split(".")[0]
        words = text.replace(",", "").split(" ")
        pred.append(0 if "No" in words or "not" in words or "no" in words else 1)
    tp = sum(p == 1 and t == 1 for p, t in zip(pred, labels, strict=True))
    tn = sum(p == 0 and t == 0 for p, t in zip(pred, labels, strict=True))
    fp = sum(p == 1 and t == 0 for p, t in zip(pred, labels, strict=True))
    fn = sum(p == 0 and t == 1 for p, t in zip(pred, labels, strict=True))
    # The script divides by precision + recall; this is the same, and 0 where it would stop with an error.
    return (tp + tn) / len(pred), 2 * tp / (2 * tp + fp + fn)


def script_science(text, choices):
    letters = ["A", "B", "C", "D", "E"]
    if text in letters:
        answer = text
    elif len(text) >= 3 and text[0] in letters and text[1:3] == ". ":
        answer = text[0]
    else:
        found = re.compile(r"The answer is ([A-Z]).").findall(text)
        answer = found[0] if len(found) == 1 else "FAILED"
    return letters.index(answer) if answer in letters[:choices] else -1


def test_pope(scored):
    rows, predictions = synthetic.TABLES["POPE"]()
    _, asked, score = scored["llava", "POPE"]
    accuracies = []
    for split in ("random", "popular"):
        part = [row for row in rows if split in row["category"].split(",")]
        answers, labels = (
            [predictions[str(row["index"])] for row in part],
            [int(row["answer"] == "Yes") for row in part],
        )
        accuracy, f1 = script_pope(answers, labels)
        accuracies.append(accuracy)
        assert score.metrics[f"acc/{split}"] == pytest.approx(100 * accuracy)
        assert score.metrics[f"F1/{split}"] == pytest.approx(100 * f1)
    part = [row for row in rows if row["category"] == "adversarial"]
    accuracies.append(
        sum(pope_says_yes(predictions[str(row["index"])]) == (row["answer"] == "Yes") for row in part) / len(part)
    )
    assert score.headline == pytest.approx(100 * sum(accuracies) / 3)
    values = [item.values for item in score.items]
    over, under = headline_ratios("POPE", values, [question.type for question in asked], score.headline)
    assert 100 * over.sum() / under.sum() == pytest.approx(score.headline)  # what reports resample
    assert all(0 <= value <= 1 for each in values for value in each.values())


def test_mme(scored):
    rows, predictions = synthetic.TABLES["MME"]()
    _, asked, score = scored["llava", "MME"]
    points = {}
    for category in {row["category"] for row in rows}:
        part = [row for row in rows if row["category"] == category]
        right = [mme_answer(predictions[str(row["index"])]) == row["answer"].lower() for row in part]
        both = [a and b for a, b in zip(right[::2], right[1::2], strict=True)]
        points[category] = 100 * (sum(right) / len(right) + sum(both) / len(both))
    assert score.headline == pytest.approx(sum(points.values()) / (2 * len(points)))
    assert score.metrics["points/perception"] == pytest.approx(sum(points.values()) - points["code_reasoning"])
    over, under = headline_ratios("MME", [item.values for item in score.items], [q.type for q in asked], score.headline)
    assert (100 * over.sum(0) / under.sum(0)).mean() == pytest.approx(score.headline)
    assert {item.question_id: item.status for item in score.items}["8"] == "unparsed"


def test_science(scored):
    rows, predictions = synthetic.TABLES["ScienceQA"]()
    right = [script_science(predictions[str(row["index"])], 4) == "ABCD".index(row["answer"]) for row in rows]
    assert scored["llava", "ScienceQA"][2].headline == pytest.approx(100 * sum(right) / len(right))
    assert scored["llava", "ScienceQA"][2].headline != scored["vlmevalkit", "ScienceQA"][2].headline


def test_mmbench_is_graded_by_the_circular_rule(scored):
    assert scored["llava", "MMBench"][2].headline == pytest.approx(scored["vlmevalkit", "MMBench"][2].headline)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Yes", "yes"),
        ("NO.", "no"),
        ("I know", "other"),
        ("Nothing", "no"),
        ("", "other"),
        (" yes", "yes"),
        ("ok, yes", "other"),
    ],
)
def test_mme_reads_four_letters(answer, label):
    assert mme_answer(answer) == label


WORDS = st.lists(
    st.sampled_from(["A", "F", ". ", "The answer is ", "B", ".", "no", "No", " ", "not", ",", "yes", "\n"]), max_size=7
)


@given(WORDS.map("".join), st.sampled_from([2, 5]))
def test_readers_agree_with_the_scripts(answer, choices):
    letter = science_answer(answer)
    ours = "ABCDE".index(letter) if letter and letter in "ABCDE"[:choices] else -1
    assert ours == script_science(answer, choices)
    first = answer.split(".")[0] if "." in answer else answer
    assert pope_says_yes(answer) == (not {"No", "not", "no"} & set(first.replace(",", "").split(" ")))
