"""Faults of VLMEvalKit's rules that a table can have: corrected, or stated beside the number."""

from __future__ import annotations

import pytest

from benchmarks.records import Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from helpers import synthetic

pytestmark = pytest.mark.slow  # each starts VLMEvalKit's process


def opened(folder, name, rows):
    return Retention(synthetic.write(rows, folder / f"{name}.tsv"), folder / "work", SPEC_BY_NAME[name], judge="rule")


def scored(folder, rows):
    benchmark = opened(folder, "MMBench", rows)
    (questions,) = questions_batch([benchmark])
    (score,) = score_batch([(benchmark, questions, [Answer(each.id, (each.reference,)) for each in questions])])
    return score


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
