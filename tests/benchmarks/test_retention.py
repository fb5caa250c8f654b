"""The twelve: what is declared, which tables are refused, and what is stored between runs."""

import dataclasses
import hashlib
import types

import pandas as pd
import pytest
from PIL import Image

from benchmarks.aggregate import DIMENSIONS
from benchmarks.aggregate import TWELVE as NAMES
from benchmarks.errors import UserError
from benchmarks.mini.prompts import user_turns
from benchmarks.records import IMAGE, Answer
from benchmarks.registry import EMBEDDED
from benchmarks.retention import Retention
from benchmarks.retention_specs import SPEC_BY_NAME, SPECS
from benchmarks.vlmeval import client
from benchmarks.vlmeval.adapter import pandas_with_text_columns
from benchmarks.vlmeval.prompts import checked_table, turn_text
from helpers import synthetic


def test_the_twelve_fill_the_seven_dimensions():
    assert tuple(spec.name for spec in SPECS) == NAMES
    for spec in SPECS:
        assert spec.name in DIMENSIONS[spec.dimension]
        assert len(spec.md5) == 32
        assert spec.url.endswith(".tsv")
        assert 0 <= spec.chance < 100
    assert {spec.name for spec in SPECS if spec.judge} == {"MIA-Bench", "MMDU", "MathVista", "MathVision"}


# Tables are checked without VLMEvalKit: only its way of loading them is used.

READING = pandas_with_text_columns(pd)
KIT = types.SimpleNamespace(files=types.SimpleNamespace(load=lambda path: READING.read_csv(path, sep="\t")))


def checked(tmp_path, name, rows):
    return checked_table(KIT, SPEC_BY_NAME[name], synthetic.write(rows, tmp_path / f"{name}.tsv"))


@pytest.mark.parametrize("name", NAMES)
def test_good_tables_pass(tmp_path, name):
    rows, _ = synthetic.TABLES[name]()
    assert len(checked(tmp_path, name, rows)) == len(rows)


def test_every_embedded_table_passes():
    for spec in SPECS:
        assert len(checked_table(KIT, spec, EMBEDDED / "retention" / f"mini-{spec.name}.tsv")) >= 60


@pytest.mark.parametrize(
    ("name", "row", "change", "words"),
    [
        ("POPE", 1, {"answer": "maybe"}, "row 3 (index 1): the answer must be 'Yes' or 'No'"),
        ("POPE", 1, {"question": ""}, "question is empty"),
        ("POPE", 1, {"index": 0}, "the index was used in row 2 already"),
        ("POPE", 1, {"index": "../x"}, "the index must be a plain number or word"),
        ("POPE", 1, {"image": "99"}, "refers to a row without an image"),
        ("POPE", 1, {"image": "x" * 100}, "not a picture in base64"),
        ("OCRVQA", 0, {"answer": ""}, "answer is empty"),
        ("MME", 0, {"category": "taste"}, "not one of MME's fourteen"),
        ("MME", 0, {"image_path": "../../x.png"}, "points outside the folder"),
        ("MME", 0, {"image_path": "color/other.png"}, "exactly two questions"),
        ("SEEDBench2_Plus", 0, {"answer": "E"}, "not an option of this row"),
        ("MMBench", 0, {"index": "one"}, "whole number"),
        ("MMMU", 0, {"question": "See <image 11>."}, "row 2 (index 0): VLMEvalKit cannot read '<image 11>'"),
        ("MMMU", 0, {"question": "See <image of it>."}, "cannot read '<image of it>'"),
        ("MMMU", 0, {"B": "as in <image 3>"}, "row 2 (index 0): '<image 3>' names picture 3, but there are 2"),
        ("MME", 0, {"image_path": "color/0.txt"}, "row 2 (index 0): the image_path 'color/0.txt' does not end like"),
        ("MME", 0, {"image_path": "['color/0.png', 'color/1.png']"}, "there are 1 pictures but 2 names in image_path"),
        ("HallusionBench", 0, {"index": "VD_figure_0"}, "set, figure and question"),
    ],
)
def test_bad_rows_are_reported(tmp_path, name, row, change, words):
    rows, _ = synthetic.TABLES[name]()
    rows[row] |= change
    with pytest.raises(UserError) as caught:
        checked(tmp_path, name, rows)
    assert words in str(caught.value)
    assert f"{name}.tsv" in str(caught.value)


def test_all_bad_rows_are_reported_together(tmp_path):
    rows, _ = synthetic.TABLES["POPE"]()
    for row in rows:
        row["answer"] = "perhaps"
    with pytest.raises(UserError, match="8 bad rows") as caught:
        checked(tmp_path, "POPE", rows)
    assert str(caught.value).count("row ") >= 8


def test_missing_columns_splits_and_files_are_reported(tmp_path):
    rows, _ = synthetic.TABLES["POPE"]()
    renamed = [{("picture" if name == "image" else name): value for name, value in row.items()} for row in rows]
    with pytest.raises(UserError, match="column 'image' is missing; the table has 'index', 'picture'"):
        checked(tmp_path, "POPE", renamed)
    rows, _ = synthetic.TABLES["MMBench"]()
    with pytest.raises(UserError, match="no row of split 'dev'; there is test"):
        checked(tmp_path, "MMBench", [row | {"split": "test"} for row in rows])
    broken = tmp_path / "broken.tsv"
    broken.write_bytes(synthetic.write(rows, tmp_path / "x.tsv").read_bytes()[:-40] + b'"\tx\ty\tz\t"\t\t\t\t\t\t\n')
    with pytest.raises(UserError):
        checked_table(KIT, SPEC_BY_NAME["MMBench"], broken)
    with pytest.raises(UserError, match="cannot be read"):
        Retention(tmp_path / "nothing.tsv", tmp_path, SPEC_BY_NAME["POPE"]).questions()


def test_text_stays_text(tmp_path):
    rows, _ = synthetic.TABLES["OCRVQA"]()
    table = checked(tmp_path, "OCRVQA", rows)
    assert list(table["answer"])[1:] == ["1984", "007", "['None']", "NA", "1.50"]
    rows, _ = synthetic.TABLES["MMBench"]()
    assert checked(tmp_path, "MMBench", rows)["C"][0] == "None"


def test_a_marker_in_the_table_s_text_is_not_a_picture():
    parts = [{"type": "image", "value": "x.png"}, {"type": "text", "value": f"What does {IMAGE} mean? \n"}]
    assert turn_text(parts) == f"{IMAGE}\nWhat does image mean?"


@pytest.mark.parametrize("name", NAMES)
def test_embedded_questions(embedded, name):
    _, questions = embedded[name]
    assert 60 <= len(questions) <= 200
    assert len({question.id for question in questions}) == len(questions)
    for question in questions:
        assert sum(turn.count(IMAGE) for turn in question.turns) == len(question.pictures) >= 1
        assert question.reference
        assert question.cluster
    assert questions[0].pictures[0].pixels().mode == "RGB"


@pytest.mark.parametrize("name", NAMES)
def test_lessons_use_the_prompts_that_vlmevalkit_builds(embedded, name):
    benchmark, questions = embedded[name]
    table = READING.read_csv(str(benchmark.data), sep="\t").astype(object).fillna("").astype(str)
    rows = {row["index"]: row for row in table.to_dict("records")}
    for question in questions:
        pictures = len(question.pictures)
        assert question.turns == user_turns(name.lower(), rows[question.id], pictures)


def test_clusters_keep_together_what_is_scored_together(embedded):
    for name, size in (("MMBench", 4), ("MME", 2)):
        benchmark, questions = embedded[name]
        limited = benchmark.questions(limit=1)
        assert len(limited) == size
        assert len({question.cluster for question in limited}) == 1
        assert len(benchmark.questions(limit=10**6)) == len(questions)
    sets = {question.id.split("_")[3] for question in embedded["HallusionBench"][0].questions(limit=5)}
    assert len(sets) <= 2


def test_chances(embedded):
    assert set(embedded["POPE"][0].chance_levels().values()) == {0.5}
    assert set(embedded["MMBench"][0].chance_levels().values()) <= {1 / 2, 1 / 3, 1 / 4}
    assert set(embedded["MIA-Bench"][0].chance_levels().values()) == {0.0}
    assert 0 < max(embedded["OCRVQA"][0].chance_levels().values()) < 0.5


def test_versions_are_looked_up_for_a_table_and_not_for_each_row(embedded, monkeypatch):
    """A lookup reads a package's metadata, and published tables have thousands of rows."""
    benchmark, questions = embedded["MMBench"]
    found, lookups = client.versions(), []
    monkeypatch.setattr(client, "versions", lambda: lookups.append(found) or found)
    assert benchmark.questions() == questions
    assert 1 <= len(lookups) <= 4


def test_damage_in_what_was_unpacked_is_repaired(tmp_path):
    rows, _ = synthetic.TABLES["OCRVQA"]()
    table = synthetic.write(rows, tmp_path / "OCRVQA.tsv")
    first = Retention(table, tmp_path / "w", SPEC_BY_NAME["OCRVQA"]).questions()
    path = first[0].pictures[0].source
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    again = Retention(table, tmp_path / "w", SPEC_BY_NAME["OCRVQA"]).questions()
    assert again[0].pictures[0].encoded == whole
    assert [question.turns for question in again] == [question.turns for question in first]


def test_a_changed_table_shows_its_new_picture(tmp_path):
    """I2: VLMEvalKit itself keeps showing the first picture that it saw under an index."""
    rows, _ = synthetic.TABLES["OCRVQA"]()
    table = synthetic.write(rows, tmp_path / "OCRVQA.tsv")
    before = Retention(table, tmp_path / "w", SPEC_BY_NAME["OCRVQA"])
    old, fingerprint = before.questions()[0].pictures[0].pixels().tobytes(), before.fingerprint()
    rows[0]["image"] = synthetic.png(200)
    after = Retention(synthetic.write(rows, table), tmp_path / "w", SPEC_BY_NAME["OCRVQA"])
    assert after.questions()[0].pictures[0].pixels().tobytes() != old
    assert after.fingerprint() != fingerprint
    assert Image.open(after.questions()[0].pictures[0].source).size == (24, 24)


def test_without_a_judge_there_is_no_number(tmp_path):
    rows, _ = synthetic.TABLES["MIA-Bench"]()
    benchmark = Retention(synthetic.write(rows, tmp_path / "MIA.tsv"), tmp_path / "w", SPEC_BY_NAME["MIA-Bench"])
    questions = benchmark.questions()
    score = benchmark.score(questions, [Answer(question.id, ("THE DOG.",)) for question in questions])
    assert score.headline is None
    assert score.judge == ""
    assert score.notes == ("not the published table", "not scored: needs a judge to grade the answers")
    assert len(score.items) == len(questions)
    assert "judge missing" in benchmark.signature().split("|")


def test_the_published_tables_are_known_by_md5(tmp_path, monkeypatch):
    rows, predictions = synthetic.TABLES["POPE"]()
    table = synthetic.write(rows, tmp_path / "POPE.tsv")
    real = hashlib.md5(table.read_bytes(), usedforsecurity=False).hexdigest()
    with pytest.raises(UserError, match=f"its md5 is {real}, not {SPEC_BY_NAME['POPE'].md5}") as caught:
        Retention(table, tmp_path / "w", SPEC_BY_NAME["POPE"], published=True).questions()
    assert "opencompass" in str(caught.value)
    whole = dataclasses.replace(SPEC_BY_NAME["POPE"], md5=real)
    benchmark = Retention(table, tmp_path / "w", whole, published=True)
    assert len(benchmark.questions()) == len(predictions)
    assert benchmark.notes() == (whole.set_note,)
    table.write_bytes(table.read_bytes() + b"\n")
    with pytest.raises(UserError, match="not the published one"):
        benchmark.questions()


def test_numbers_of_the_published_tables_say_which_set_they_are_over():
    assert "9,000" in SPEC_BY_NAME["POPE"].set_note
    assert "8,910" in SPEC_BY_NAME["POPE"].set_note
    assert "2,017" in SPEC_BY_NAME["ScienceQA"].set_note
    assert "all 4,241" in SPEC_BY_NAME["ScienceQA"].set_note


def test_a_row_on_which_vlmevalkit_fails_is_named(tmp_path):
    """A failure of its prompt building that the check of the rows does not foresee."""
    rows, _ = synthetic.TABLES["OCRVQA"]()
    rows[2]["image"] = rows[2]["image"][:80]  # begins like a picture
    with pytest.raises(UserError, match=r"row 4 \(index 2\): its prompt cannot be built"):
        Retention(synthetic.write(rows, tmp_path / "OCRVQA.tsv"), tmp_path / "w", SPEC_BY_NAME["OCRVQA"]).questions()


def test_the_rule_judge_on_apple_s_mia_bench_names_the_cause(tmp_path):
    rows, _ = synthetic.TABLES["MIA-Bench"]()
    rows[0] |= {"components": "['describe the animal in a haiku', 'end with a full stop']"}
    table = synthetic.write(rows, tmp_path / "MIA.tsv")
    benchmark = Retention(table, tmp_path / "w", SPEC_BY_NAME["MIA-Bench"], judge="rule")
    questions = benchmark.questions()
    with pytest.raises(UserError, match="only grades the miniature's instructions") as caught:
        benchmark.score(questions, [Answer(question.id, ("THE DOG.",)) for question in questions])
    assert "haiku" in str(caught.value)
    assert "language model" in str(caught.value)


def test_i3_no_score_without_exactly_one_answer_each(tmp_path):
    rows, _ = synthetic.TABLES["POPE"]()
    benchmark = Retention(synthetic.write(rows, tmp_path / "POPE.tsv"), tmp_path / "w", SPEC_BY_NAME["POPE"])
    questions = benchmark.questions()
    with pytest.raises(UserError, match="1 questions have no answer"):
        benchmark.score(questions, [Answer(question.id, ("Yes",)) for question in questions[1:]])
