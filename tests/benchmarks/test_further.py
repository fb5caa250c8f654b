"""Benchmarks beyond the twelve: VLMEvalKit's by name, and tables of one's own."""

import base64
import csv
import json
import os
import subprocess
import sys

import pytest

from benchmarks import further_table
from benchmarks.errors import UserError
from benchmarks.further import HEADLINES, FurtherBenchmark, check_name, published_datasets
from benchmarks.records import Answer
from benchmarks.registry import get_benchmark
from benchmarks.retention import questions_batch, score_batch
from harness.config.further import read_benchmark
from helpers import synthetic
from helpers.paths import PYTHONPATH, TESTS

COLOURS = ("red", "green", "blue", "grey")


def choice_rows(circular=False):
    rows, said = [], {}
    for i in range(6):
        for turn in range(2 if circular else 1):
            options = [*COLOURS[turn:], *COLOURS[:turn]]
            right = "ABCD"[options.index(COLOURS[i % 4])]
            index = i + turn * 1_000_000
            rows.append(
                {"index": index, "image": synthetic.png(i), "question": f"Colour {i}?", "answer": right}
                | dict(zip("ABCD", options, strict=True))
                | {"category": f"kind{i % 2}", "l2-category": "all"}
            )
            said[str(index)] = [right, f"It is {right}.", "no idea", right, f"{right}. " if turn else "D", "B"][i]
    return rows, said


def answer_rows(answers, said):
    rows = [
        {"index": i, "image": synthetic.png(i), "question": f"What is {i}?", "answer": answer}
        for i, answer in enumerate(answers)
    ]
    return rows, {str(i): text for i, text in enumerate(said)}


VOTES = repr(["four"] * 4 + ["4"] * 6)
PUBLISHED = {
    "MMStar": choice_rows(),
    "CCBench": choice_rows(circular=True),
    "VSR-zeroshot": answer_rows(["Yes", "No", "Yes", "No"], ["yes", "Yes, it is", "maybe", "No."]),
    "GQA_TestDev_Balanced": answer_rows(["cat", "dog", "owl"], ["Cat", "a dog", "owl"]),
    "ChartQA_TEST": answer_rows(["100", "12.5", "cat", "7"], ["104", "14", "cat", "7"]),
    "DocVQA_VAL": answer_rows(["seven trees", repr(["ten", "10"]), "owl"], ["seven tree", "10", "zebra"]),
    "TextVQA_VAL": answer_rows([VOTES, VOTES, VOTES], ["four", "4", "none"]),
}


def own(folder, rows, family, name="mine", jsonl=False, **fields):
    """A benchmark of one's own, opened; ``rows`` become its table."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{'jsonl' if jsonl else 'tsv'}"
    if jsonl:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        synthetic.write(rows, path)
    benchmark = FurtherBenchmark(family, path, **fields)
    return get_benchmark(name, {name: benchmark}).open(folder / "workspace", judge=None)


def scored(benchmark, said):
    questions = benchmark.questions()
    return benchmark.score(questions, [Answer(question.id, (said[question.id],)) for question in questions])


@pytest.mark.slow
def test_headlines_of_published_benchmarks_are_vlmevalkits(tmp_path):
    jobs = {}
    for name, (rows, said) in PUBLISHED.items():
        path = synthetic.write(rows, tmp_path / f"{name}.tsv")
        jobs[name] = {"tsv": str(path), "family": published_datasets()[name].family, "predictions": said}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    environment = dict(os.environ, PYTHONPATH=PYTHONPATH, PRED_FORMAT="tsv", TQDM_DISABLE="1", HOME=str(tmp_path))
    command = [sys.executable, str(TESTS / "helpers" / "official_further.py")]
    files = [str(tmp_path / "jobs.json"), str(tmp_path / "golden.json")]
    done = subprocess.run(command + files, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    golden = json.loads((tmp_path / "golden.json").read_text())
    assert len(set(golden.values())) > 3, "control: the answers are not all right or all wrong"
    for name, (_, said) in PUBLISHED.items():
        benchmark = get_benchmark(name, published_datasets()).open(tmp_path / "workspace", tmp_path)
        score = scored(benchmark, said)
        assert score.headline == pytest.approx(golden[name], abs=0.01), name
        assert score.notes == ("not the published table",)


def test_published_benchmarks_have_vlmevalkits_md5(tmp_path):
    star = published_datasets()["MMStar"]
    assert (star.md5, star.url[-11:]) == ("e1ecd2140806c1b1bbf54b43372efb9e", "/MMStar.tsv")
    assert not {"MME", "POPE", "MMBench_DEV_EN"} & published_datasets().keys()
    synthetic.write(PUBLISHED["MMStar"][0], tmp_path / "MMStar.tsv")
    benchmark = get_benchmark("MMStar", published_datasets()).open(tmp_path / "w", tmp_path, published=True)
    with pytest.raises(UserError, match="not the published one"):
        benchmark.questions()


OWN_TABLES = [
    ("yes-no", "", ["yes", "No", "true", "no"], ["Yes", "yes", "no", "nobody knows"], 25.0),
    ("yes-no", "F1", ["yes", "No", "true", "no"], ["Yes", "yes", "no", "nobody knows"], 50.0),
    ("short answer", "", ["owl", ["two", "2"], "fox"], ["OWL", "2", "a fox"], 200 / 3),
    ("short answer", "relaxed accuracy", ["100", "12.5"], ["104", "14"], 50.0),
    ("short answer", "ANLS", ["seven trees", "owl"], ["seven tree", "zebra"], 100 * (1 - 1 / 11) / 2),
]


def test_headlines_of_own_tables(tmp_path):
    tables = [answer_rows(answers, said) for _, _, answers, said, _ in OWN_TABLES]
    benchmarks = [
        own(tmp_path, rows, family, name=f"mine{number}", jsonl=True, headline=headline)
        for number, ((family, headline, *_), (rows, _)) in enumerate(zip(OWN_TABLES, tables, strict=True))
    ]
    jobs = zip(benchmarks, questions_batch(benchmarks), tables, strict=True)
    scores = score_batch([(one, asked, [Answer(q.id, (said[q.id],)) for q in asked]) for one, asked, (_, said) in jobs])
    for score, (family, headline, answers, _, expected) in zip(scores, OWN_TABLES, strict=True):
        assert score.headline == pytest.approx(expected, abs=0.01), (family, headline)
        assert len(score.items) == len(answers)


def test_open_answers_need_a_judge(tmp_path):
    rows, said = answer_rows(["a red owl", ["two", "a pair"]], ["it is a red owl", "zebra"])
    benchmark = own(tmp_path, rows, "open", jsonl=True)
    assert scored(benchmark, said).headline is None
    benchmark = get_benchmark("mine", {"mine": FurtherBenchmark("open", tmp_path / "mine.jsonl")})
    score = scored(benchmark.open(tmp_path / "workspace", judge="rule"), said)
    assert [item.values["grade"] for item in score.items] == [0.8, 0.0], "CEM 1 and F1 2/3"
    assert score.headline == pytest.approx(40.0)
    assert score.judge == "rule"


def test_circular_accuracy_needs_every_rotation(tmp_path):
    rows, said = choice_rows(circular=True)
    for row in rows:
        row["g_index"] = row["index"] % 1_000_000
    score = scored(own(tmp_path, rows, "choice", headline="circular accuracy"), said)
    assert score.headline == pytest.approx(100 * 3 / 6)
    assert score.metrics["acc"] > score.headline


def test_a_jsonl_with_other_columns_is_the_same_as_a_tsv(tmp_path):
    rows, _ = choice_rows()
    (tmp_path / "pictures").mkdir()
    other = []
    for row in rows:
        (tmp_path / "pictures" / f"{row['index']}.png").write_bytes(base64.b64decode(row["image"]))
        options = [row[letter] for letter in "ABCD"]
        text = {"id": row["index"], "text": row["question"], "choices": options, "label": row[row["answer"]]}
        other.append({**text, "file": f"pictures/{row['index']}.png", "scene": f"s{row['index'] // 2}"})
    columns = {"index": "id", "question": "text", "options": "choices", "answer": "label", "image": "file"}
    plain = own(tmp_path, [{k: v for k, v in row.items() if "cat" not in k} for row in rows], "choice")
    mapped = own(tmp_path, other, "choice", jsonl=True, columns=columns)
    parts = [
        [(q.id, q.turns, q.reference, [p.sha256 for p in q.pictures]) for q in one.questions()]
        for one in (plain, mapped)
    ]
    assert parts[0] == parts[1]
    assert plain.fingerprint() == mapped.fingerprint(), "only the content counts"
    clustered = own(tmp_path, other, "choice", jsonl=True, columns=columns, cluster="scene")
    assert [q.cluster for q in clustered.questions()] == ["s0", "s0", "s1", "s1", "s2", "s2"]
    assert clustered.fingerprint() != mapped.fingerprint()


def test_what_defines_a_benchmark_is_part_of_its_fingerprint(tmp_path):
    rows, _ = answer_rows(["yes", "no"], ["", ""])
    prints = {
        own(tmp_path, rows, family, **fields).fingerprint()
        for family, fields in (
            ("yes-no", {}),
            ("yes-no", {"headline": "F1"}),
            ("yes-no", {"max_new_tokens": 4}),
            ("short answer", {}),
        )
    }
    assert len(prints) == 4
    moved = own(tmp_path / "elsewhere", rows, "yes-no")
    assert moved.fingerprint() in prints, "the place of the table does not count"


BAD_ROWS = {
    "it has no answer": {"answer": ""},
    "it has no question": {"question": ""},
    "it has no picture": {"image": ""},
    "neither a file beside the table nor base64": {"image": "nowhere.png"},
    "damaged or not an image": {"image": base64.b64encode(b"no picture" * 10).decode()},
    "neither the letter nor the text": {"answer": "pink"},
    "fewer than two options": {"A": ""},
    "must be a plain number or word": {"index": "../1"},
    "was used in line": {"index": 0},
}


@pytest.mark.parametrize("message", BAD_ROWS)
@pytest.mark.parametrize("jsonl", [False, True])
def test_bad_rows_are_named(tmp_path, message, jsonl):
    rows, _ = choice_rows()
    rows[2] |= BAD_ROWS[message]
    with pytest.raises(UserError, match=message) as error:
        own(tmp_path, rows, "choice", jsonl=jsonl).questions()
    line = 3 if jsonl else 4
    assert f"mine.{'jsonl' if jsonl else 'tsv'}:{line}: " in str(error.value)
    assert "1 bad row" in str(error.value)


def test_bad_answers_of_other_families(tmp_path):
    rows, _ = answer_rows(["yes", "perhaps", ["yes", "no"]], [""] * 3)
    with pytest.raises(UserError, match=r"2 bad rows(.|\n)*must be yes or no(.|\n)*has one answer, not 2"):
        own(tmp_path, rows, "yes-no", jsonl=True).questions()


def test_a_missing_table_and_a_missing_column(tmp_path):
    benchmark = get_benchmark("mine", {"mine": FurtherBenchmark("yes-no", tmp_path / "no.tsv")})
    with pytest.raises(UserError, match="cannot be read"):
        benchmark.open(tmp_path / "w").questions()
    rows, _ = choice_rows()
    with pytest.raises(UserError, match=r"no column 'anser'(.|\n)*did you mean 'answer'"):
        own(tmp_path, rows, "choice", columns={"answer": "anser"}).questions()
    with pytest.raises(UserError, match="no column 'scene'"):
        own(tmp_path, rows, "choice", cluster="scene").questions()
    with pytest.raises(UserError, match="no rows"):
        own(tmp_path, rows[:0], "choice", jsonl=True).questions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family: riddle\ntable: t.tsv", "family: 'riddle' does not fit"),
        ("table: t.tsv", "the family is missing"),
        ("family: choice", "the table is missing"),
        ("family: choice\ntable: t.tsv\nheadline: F1", "headline: the family 'choice' has no headline 'F1'"),
        ("family: choice\ntable: t.tsv\ncolumns: {anwser: label}", "columns: there is no column 'anwser'"),
        ("family: choice\ntable: t.tsv\ncolum: {}", "no field 'colum'"),
        ("family: choice\ntable: t.tsv\nmd5: x", "no field 'md5'"),
        ("family: choice\ntable: t.tsv\nmax_new_tokens: 0", "at least one token"),
        ("family: [", "not valid YAML"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_benchmark(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_benchmark(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["POPE", "pope", "mini-X", "MMStar", "CEM", "COM", "a.b", "../x", ""])
def test_names_that_something_else_has_are_refused(name):
    with pytest.raises(UserError):
        check_name(name, ("POPE", "mini-POPE"))


def test_every_family_has_a_default_headline():
    for family, headlines in HEADLINES.items():
        assert FurtherBenchmark(family, __file__).spec("x").headline == next(iter(headlines))


def test_a_tsv_may_name_the_picture_of_another_row(tmp_path):
    rows, _ = choice_rows()
    rows[1]["image"] = "0"
    questions = own(tmp_path, rows, "choice").questions()
    assert questions[0].pictures[0].sha256 == questions[1].pictures[0].sha256
    assert questions[0].cluster == questions[1].cluster != questions[2].cluster


def test_the_written_table_is_tidy(tmp_path):
    rows, _ = choice_rows()
    benchmark = own(tmp_path, rows, "choice")
    with benchmark.data.open(newline="") as file:
        heads = next(csv.reader(file, delimiter="\t"))
    assert heads == [
        *("index", "question", "A", "B", "C", "D", "answer", "category", "l2-category", "cluster", "image")
    ]
    assert [path.name for path in (tmp_path / "workspace").glob("*.tsv")] == [benchmark.data.name]
    assert further_table.write_table(FurtherBenchmark("choice", tmp_path / "mine.tsv"), tmp_path / "workspace")
