"""Questions of several stages as one benchmark."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.records import Answer
from benchmarks.registry import EVOKE_FILE
from benchmarks.sequence import EvokeSequence, deal
from helpers import small_runs, tiny
from helpers.sequences import write_stage

PARTS = {"first": (0, 1, 2, 3, 4), "second": (5, 6, 7)}


@pytest.fixture
def files(tmp_path):
    small_runs.write_evoke(tmp_path / "data", 8)
    return {name: write_stage(tmp_path / "data", tmp_path / name, rows) / EVOKE_FILE for name, rows in PARTS.items()}


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_all_stages_are_the_benchmark_that_one_file_would_be(files, tmp_path):
    whole = Evoke(tmp_path / "data" / EVOKE_FILE, tmp_path, "mini-EVOKE")
    staged = EvokeSequence(files, tmp_path, "mini-EVOKE")
    shown = [
        [
            (question.id, question.turns, question.reference, question.cluster, question.pictures[0].sha256)
            for question in each.questions()
        ]
        for each in (staged, whole)
    ]
    assert shown[0] == shown[1]
    assert staged.fingerprint() == whole.fingerprint()
    answers = [Answer(question.id, (f"{question.id} stripes",)) for question in whole.questions()]
    assert staged.score(staged.questions(), answers) == whole.score(whole.questions(), answers)
    assert staged.score(staged.questions(), answers).headline == 100
    assert [len(questions) for questions in staged.by_stage] == [5, 3]
    assert [question.id for question in staged.questions(4)] == ["0", "1", "5", "6"]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 60))
def test_a_limit_is_dealt_in_turn(sizes, limit):
    left, expected = list(sizes), [0] * len(sizes)
    for turn in range(limit * len(sizes)):
        stage = turn % len(sizes)
        if left[stage] and sum(expected) < limit:
            left[stage] -= 1
            expected[stage] += 1
    assert deal(sizes, limit) == expected


def test_stages_share_a_cluster_only_if_they_show_the_same_picture(files, tmp_path):
    first, second = (rows_of(file) for file in files.values())
    second[0]["image"] = first[0]["image"]  # the same name for another picture
    second[1]["image"] = "renamed.png"  # the same picture by another name
    folder = files["second"].parent
    (folder / first[0]["image"]).write_bytes(tiny.picture(77).encoded)
    (folder / "renamed.png").write_bytes((folder / first[1]["image"]).read_bytes())
    write(files["second"], second)
    staged = EvokeSequence(files, tmp_path)
    clusters = {question.id: question.cluster for question in staged.questions()}
    assert clusters["0"] == "0-other.png"
    assert clusters["5"] == "second: 0-other.png"
    assert clusters["6"] == clusters["1"] == "1-other.png"
    assert len(set(clusters.values())) == 7


def test_an_id_in_two_stages_is_refused_with_both_places(files, tmp_path):
    second = rows_of(files["second"])
    second[2]["question_id"] = 3
    write(files["second"], second)
    with pytest.raises(UserError) as caught:
        EvokeSequence(files, tmp_path).questions()
    assert f"{files['second']}:3: the id '3' was used in {files['first']}:4 already" in str(caught.value)


def test_a_stage_without_questions_and_published_sizes_are_refused(files, tmp_path):
    with pytest.raises(UserError, match="8 questions with unique ids; EVOKE has 9,422"):
        EvokeSequence(files, tmp_path, published=True).questions()
    files["second"].write_text("")
    with pytest.raises(UserError, match=r"second.*the file is empty"):
        EvokeSequence(files, tmp_path).questions()
