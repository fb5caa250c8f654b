"""Faults of VLMEvalKit's rules that a table can have: corrected, or stated beside the number."""

from __future__ import annotations

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from benchmarks.vlmeval.prompts import _name_files_by_content
from benchmarks.vlmeval.rules_vlmeval import _rotation_notes, _without_rotations
from helpers import synthetic


def opened(folder, name, rows):
    return Retention(synthetic.write(rows, folder / f"{name}.tsv"), folder / "work", SPEC_BY_NAME[name], judge="rule")


def scored(folder, rows):
    benchmark = opened(folder, "MMBench", rows)
    (questions,) = questions_batch([benchmark])
    (score,) = score_batch([(benchmark, questions, [Answer(each.id, (each.reference,)) for each in questions])])
    return score


@pytest.mark.slow
def test_rows_that_share_a_file_name_are_asked_about_their_own_pictures(tmp_path):
    rows = [{**row, "image_path": "color/same.png"} for row in synthetic.TABLES["MME"]()[0][:8]]
    (questions,) = questions_batch([opened(tmp_path, "MME", rows)])
    asked = [question.pictures[0].sha256 for question in questions]
    assert len(set(asked)) == len({row["image"] for row in rows}) == 4
    assert asked[0] == asked[1] != asked[2]
    lists = [
        {**row, "image": repr([row["image"], synthetic.png(60 + number)]), "image_path": repr(["a.png", "b.png"])}
        for number, row in enumerate(synthetic.TABLES["SEEDBench2_Plus"]()[0][:3])
    ]
    (several,) = questions_batch([opened(tmp_path, "SEEDBench2_Plus", lists)])
    assert len({picture.sha256 for question in several for picture in question.pictures}) == 6


@pytest.mark.slow
def test_a_table_without_rotations_is_not_called_circular(tmp_path):
    rows, _ = synthetic.TABLES["MMBench"]()
    (tmp_path / "single").mkdir()
    single = scored(tmp_path / "single", [row for row in rows if row["index"] < 1_000_000])
    assert "circular" not in single.metrics
    assert single.headline == single.metrics["acc"] == 100.0
    assert any("no question of the table has rotations" in note for note in single.notes)
    (tmp_path / "some").mkdir()
    some = scored(tmp_path / "some", [row for row in rows if row["index"] < 1_000_000 or row["index"] % 1_000_000])
    assert "circular" in some.metrics
    assert any(note.startswith("1 of 3 questions have no rotations") for note in some.notes)
    (tmp_path / "all").mkdir()
    control = scored(tmp_path / "all", rows)
    assert "circular" in control.metrics
    assert not any("rotations" in note for note in control.notes)


@st.composite
def rotated(draw):
    """Questions with the number of their rows, and the rows of the table in any order."""
    counts = draw(st.dictionaries(st.integers(0, 999_999), st.integers(1, 4), min_size=1, max_size=5))
    indices = [number + turn * 1_000_000 for number, count in counts.items() for turn in range(count)]
    return counts, draw(st.permutations(indices))


@given(rotated(), st.booleans())
def test_questions_without_rotations_are_counted_and_told(made, has_groups):
    """A question is an index below a million; its rotations are the same index and some millions, or share a group."""
    counts, indices = made
    columns = {"index": indices}
    if has_groups:  # any index of a rotation
        columns = {"index": [i if i < 1_000_000 else 10**9 - i for i in indices]}
        columns["g_index"] = [i % 1_000_000 for i in indices]
    single, asked = _without_rotations(pd.DataFrame(columns))
    assert (single, asked) == (sum(count == 1 for count in counts.values()), len(counts))
    told = " ".join(_rotation_notes(single, asked))
    assert ("plain accuracy" in told) == (max(counts.values()) == 1)
    assert (f"{single} of {asked} questions" in told) == (0 < single < asked)
    assert bool(told) == (min(counts.values()) == 1)


PICTURES = st.sampled_from(["one", "two", "three"])
FILES = st.sampled_from(["same.png", "same.jpg", "folder/same.png", "other.png"])


@given(st.lists(st.tuples(st.lists(PICTURES, min_size=1, max_size=3), FILES, st.booleans()), min_size=1, max_size=8))
def test_each_picture_has_a_file_of_its_own_whatever_name_its_row_gives(rows):
    data = pd.DataFrame(
        {
            "image": [pictures if is_list else pictures[0] for pictures, _, is_list in rows],
            "image_path": [[name] * len(pictures) if is_list else name for pictures, name, is_list in rows],
        }
    )
    _name_files_by_content(data)
    content = {}
    for pictures, names in zip(data["image"], data["image_path"], strict=True):
        pairs = zip(pictures, names, strict=True) if isinstance(pictures, list) else [(pictures, names)]
        for picture, name in pairs:
            assert content.setdefault(name, picture) == picture
    endings = {name.rpartition(".")[2] for _, name, _ in rows}
    assert {name.rpartition(".")[2] for name in content} == endings


@pytest.mark.slow
def test_generated_tables_are_called_circular_exactly_if_they_have_rotations(tmp_path):
    """A table is made of the first rows of some questions, and of others' rotations."""
    rows, _ = synthetic.TABLES["MMBench"]()
    draw, seen = random.Random(0), set()
    for number in range(4):
        turns = [draw.randint(1, 4) if number else 1 for _ in range(3)]
        kept = [row for row in rows if row["index"] // 1_000_000 < turns[row["index"] % 1_000_000]]
        (tmp_path / str(number)).mkdir()
        benchmark = opened(tmp_path / str(number), "MMBench", kept)
        asked = benchmark.questions()
        (score,) = score_batch([(benchmark, asked, [Answer(each.id, (each.reference,)) for each in asked])])
        assert ("circular" in score.metrics) == (max(turns) > 1)
        seen.add(max(turns) > 1)
    assert seen == {True, False}
