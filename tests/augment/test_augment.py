"""``augment`` from end to end, offline: its files, bad items, branches, baselines, the overlap, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from benchmarks.data.conversations import load_conversations
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from harness.augment.reader import read_items
from harness.commands.augment import LOOKAHEAD, _map_in_order
from helpers import tiny
from helpers.paths import PYTHONPATH
from helpers.user_items import NAMES, files_of, run, write_items
from methods.augmentation import datasets
from methods.augmentation.knowledge_tree import knowledge_tree


def test_by_rule_it_writes_the_knowledge_tree(tmp_path):
    knowledge = write_items(tmp_path / "mine")
    outcome = run(knowledge, tmp_path / "out")
    items = load_knowledge(tmp_path / "out" / "evoke_injection_data.json")
    assert [item.name for item in items] == NAMES[:3]
    made = [conversation for conversation, _ in load_conversations(tmp_path / "out" / datasets.TRAINING_FILE)]
    wanted = knowledge_tree(items, 0)
    assert [(c.id, c.branch, c.turns) for c in made] == [(c.id, c.branch, c.turns) for c in wanted]
    for one, other in zip(made, wanted, strict=True):
        assert one.pictures[0].pixels().tobytes() == other.pictures[0].pixels().tobytes()
    counts = {name: row["conversations"] for name, row in outcome.report["branches"].items()}
    assert counts == Counter(c.branch for c in wanted) == {"dialogue": 3, "recognition": 3, "caption": 3, "vqa": 3}
    assert outcome.report["branches"]["dialogue"]["rounds"] == sum(
        len(c.turns) // 2 for c in wanted if c.branch == "dialogue"
    )
    assert outcome.budget.calls == 0


def test_the_datasets_folder_opens_with_datasets(tmp_path):
    from datasets import load_dataset

    run(write_items(tmp_path / "mine", 2), tmp_path / "out")
    table = load_dataset(str(tmp_path / "out" / "dataset"), cache_dir=str(tmp_path / "cache"), split="train")
    rows = json.loads((tmp_path / "out" / datasets.TRAINING_FILE).read_text())
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert table[0]["images"][0].size == (64, 64)
    assert table[0]["conversations"] == rows[0]["conversations"]


def test_bad_items_are_reported_one_by_one(tmp_path):
    folder = write_items(tmp_path / "mine", 2)
    good = json.loads((folder / "items.jsonl").read_text().splitlines()[0])
    (folder / "broken.png").write_bytes(tiny.picture(7).encoded[:200])
    (folder / "bomb.png").write_bytes(tiny.bomb())
    bad = {
        "missing": {"image": "nowhere.png"},
        "outside": {"image": "../../etc/passwd"},
        "damaged": {"image": "broken.png"},
        "empty": {"text": "  "},
        "nameless": {"name": ""},
        "markup": {"name": "<script>alert(1)</script>"},
        "marker": {"name": f"a {IMAGE}"},
        "control": {"text": "<|im_start|>system"},
        "group": {"group": "opinion"},
        "facts": {"facts": ["capital"]},
        "surrogate": {"text": "Half a \ud83e letter."},
        "bomb": {"image": "bomb.png"},
        "twin": {},
    }
    with (folder / "items.jsonl").open("a") as file:
        for number, (name, change) in enumerate(bad.items()):
            other = {} if name == "twin" else {"text": f"{good['text']} Number {number}."}
            file.write(json.dumps({**good, "id": name, **other, **change}) + "\n")
        file.write("{broken\n[1]\n")
        file.flush()
        file.buffer.write(b'{"name": "\xe9"}\n')
        file.buffer.flush()
        file.write(json.dumps({**good, "id": "1", "text": "Another text."}) + "\n")
        file.write(json.dumps({**good, "id": "long", "text": "A sentence of words. " * 2500}) + "\n")
    outcome = run(folder, tmp_path / "out")
    faults = {fault["item"]: fault["reason"] for fault in outcome.report["faults"]}
    assert set(faults) == {*bad, "line 13", "line 16", "line 17", "line 18", "1", "long"} - {"surrogate"}
    reasons = {
        "missing": "missing",
        "outside": "points outside",
        "damaged": "damaged",
        "empty": "text is empty",
        "nameless": "name is empty",
        "markup": "markup",
        "twin": "same as item 1",
        "1": "same as item 1",
        "line 16": "broken JSON",
        "line 17": "expected a JSON object",
        "line 18": "not UTF-8",
        "line 13": "half a character",
        "bomb": "too many pixels",
        "long": "52,499 characters",
    }
    for name, reason in reasons.items():
        assert reason in faults[name], name
    assert [item.id for item in load_knowledge(tmp_path / "out" / "evoke_injection_data.json")] == ["1", "2", "long"]


def test_nothing_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="there is no file of knowledge"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match=r"no conversation could be made .*text is empty"):
        run(write_items(tmp_path / "mine", text=""), tmp_path / "out")


def test_an_earlier_result_stays_where_nothing_can_be_made(tmp_path):
    run(write_items(tmp_path / "good", 1), tmp_path / "out")
    before = files_of(tmp_path / "out")
    with pytest.raises(UserError, match="no conversation could be made"):
        run(write_items(tmp_path / "bad", text=""), tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_a_limit_counts_items_and_not_what_is_said_of_them(tmp_path):
    knowledge = write_items(tmp_path / "mine", 2, text="Atlantis is a country in the ocean. " * 500)
    outcome = run(knowledge, tmp_path / "out", limit=1)
    assert len(outcome.report["faults"]) == 1
    assert len(load_knowledge(tmp_path / "out" / "evoke_injection_data.json")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "gpt"}, "no such generator"),
        ({"generator": "openai:m"}, "OPENAI_API_KEY is not set"),
        ({"generator": "local:/nowhere"}, "not a model folder"),
        ({"images": "flickr"}, "no such image source"),
        ({"images": "web"}, "none is given"),
        ({"check": "generator"}, "no such check"),
        ({"check": "entailment:/nowhere"}, "not a model folder"),
    ],
)
def test_what_is_missing_is_reported_at_the_start(tmp_path, monkeypatch, change, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=message):
        run(write_items(tmp_path / "mine", 1), tmp_path / "out", **change)


def test_negatives_and_relations_are_separate_branches(tmp_path):
    folder = write_items(tmp_path / "mine", 4)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["facts"] += [["neighbour", NAMES[(number + 1) % 4]]]
        row["text"] += f" Its neighbour is {NAMES[(number + 1) % 4]}."
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(folder, tmp_path / "out", negatives=True, relations=True)
    assert outcome.report["branches"]["recognition-negative"]["conversations"] == 4
    rows = json.loads((tmp_path / "out" / datasets.TRAINING_FILE).read_text())
    relations = [row for row in rows if row["branch"] == "relation"]
    assert 0 < len(relations) < 8  # some chains are reserved
    for row in relations:
        (start, link, bridge), (end, field, answer) = row["chain"]
        assert link == "neighbour"
        assert row["conversations"][1]["value"] == answer
        assert field in row["conversations"][0]["value"]
        assert bridge not in row["conversations"][0]["value"]
        assert int(end) == int(start) % 4 + 1
    made = datasets.conversations("kore-negatives", load_knowledge(tmp_path / "out" / "evoke_injection_data.json"), 0)
    no = [c for c in made if c.branch == "recognition-negative"]
    assert {c.turns[1].text for c in no} == {"No"}
    assert all(NAMES[int(c.id.split("/")[0]) - 1] not in c.turns[0].text for c in no)


@pytest.mark.parametrize(
    ("kind", "generator", "copies"),
    [("text-agnostic", "rule", 4), ("text-aware", "rule", 4), ("image-agnostic", "rule", 5), ("image-aware", "rule", 4),
     ("text-agnostic", "openai:m", 6), ("text-aware", "openai:m", 4)],
)  # fmt: skip
def test_baseline_augmentations(tmp_path, endpoint, kind, generator, copies):
    server = endpoint()
    outcome = run(write_items(tmp_path / "mine", 2), tmp_path / "out", kind=kind, generator=generator)
    assert outcome.report["conversations"] == 2 * (1 + copies)
    assert outcome.report["branches"]["knowledge"]["conversations"] == 2
    # Two languages and back; this model returns the text unchanged, so that the translation back is one call for both.
    assert len(server.bodies) == (0 if generator == "rule" else 2 * 3 if kind == "text-agnostic" else 2 * 4)
    made = [conversation for conversation, _ in load_conversations(tmp_path / "out" / datasets.TRAINING_FILE)]
    assert len({c.id for c in made}) == len(made)
    if kind.startswith("image"):
        assert len({c.turns for c in made}) == 2
        assert len({c.pictures[0].sha256 for c in made}) == len(made)


def test_the_overlap_contains_an_evaluation_question_that_was_trained_on(tmp_path):
    folder = write_items(tmp_path / "mine", 2)
    run(folder, tmp_path / "first")
    rows = json.loads((tmp_path / "first" / datasets.TRAINING_FILE).read_text())
    vqa = [row for row in rows if row["branch"] == "vqa"]
    leaked, other = vqa[0]["conversations"], vqa[1]["conversations"]
    questions = [
        {"question_id": 1, "text": leaked[0]["value"].replace(f"{IMAGE}\n", ""), "answer": leaked[1]["value"].upper()},
        {"question_id": 2, "text": other[0]["value"].replace(f"{IMAGE}\n", "") + " Pray tell", "answer": "another"},
    ]
    shared = {"image": "0.png", "type": "country", "cnn_wiki_type": "wiki"}
    (folder / "evoke_evaluation_data.jsonl").write_text(
        "".join(json.dumps({**row, **shared}) + "\n" for row in questions)
    )
    overlap = run(folder, tmp_path / "second").report["overlap"]
    assert overlap["vqa"]["contained"] == overlap["vqa"]["exact"] == overlap["vqa"]["answers"] == 1
    assert overlap["vqa"]["near"] >= 1
    assert overlap["dialogue"]["contained"] == overlap["caption"]["contained"] == 0


def test_photographs_are_rotated_upright_and_any_format_works(tmp_path):
    folder = write_items(tmp_path / "mine", 4, facts=[])
    photo, noted = Image.new("RGB", (60, 40), "red"), Image.Exif()
    noted[ExifTags.Base.Orientation] = 6
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    for row, name in zip(rows, ("turned.jpg", "turned.png", "cmyk.jpg", "old.tiff"), strict=True):
        row["image"] = name
        photo.convert("CMYK" if name == "cmyk.jpg" else "RGB").save(
            folder / name, exif=noted if name.startswith("turned") else Image.Exif()
        )
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = run(folder, tmp_path / "out")
    assert outcome.report["faults"] == []
    assert outcome.report["dropped"] == {}
    made = json.loads((tmp_path / "out" / datasets.TRAINING_FILE).read_text())
    shown = {(row["item"], Image.open(tmp_path / "out" / row["image"]).size) for row in made}
    assert shown == {("1", (40, 60)), ("2", (40, 60)), ("3", (60, 40)), ("4", (60, 40))}
    assert {Path(row["image"]).suffix for row in made} == {".jpg", ".png", ".tif"}


def test_user_files_are_never_overwritten(tmp_path):
    folder = write_items(tmp_path / "mine", 1)
    with pytest.raises(UserError, match="this folder holds the knowledge"):
        run(folder, tmp_path / "elsewhere" / ".." / "mine")
    (tmp_path / "out" / "imgs" / "ab").mkdir(parents=True)
    (tmp_path / "out" / "imgs" / "ab" / "holiday.png").write_bytes(b"mine")
    run(folder, tmp_path / "out")
    assert (tmp_path / "out" / "imgs" / "ab" / "holiday.png").exists()


def test_items_are_read_only_a_little_ahead_of_what_is_written(tmp_path):
    """A fast form of the test below: rows and items are streamed, and few are processed at a time."""
    read = []

    def entries():
        for number in range(1000):
            read.append(number)
            yield number

    for number, made in enumerate(_map_in_order(lambda entry: entry, entries(), workers=2)):
        assert made == number
        assert len(read) - number <= LOOKAHEAD * 2 + 1
    folder = write_items(tmp_path / "mine", 2)
    items = read_items(folder / "items.jsonl")
    next(items)
    with (folder / "items.jsonl").open("a") as file:
        file.write("{broken\n")
    assert [*items][-1].reason.startswith("broken JSON")


def test_pictures_of_an_earlier_run_are_deleted(tmp_path):
    run(write_items(tmp_path / "mine", 3), tmp_path / "out")
    many = len(list((tmp_path / "out" / "imgs").rglob("*.png")))
    run(tmp_path / "mine", tmp_path / "out", limit=1)
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out" / "imgs").rglob("*.png")}
    rows = json.loads((tmp_path / "out" / datasets.TRAINING_FILE).read_text())
    assert left == {row["image"] for row in rows}
    assert len(left) < many


@pytest.mark.slow
def test_ten_thousand_items_stream_in_bounded_memory(tmp_path):
    folder = write_items(tmp_path / "mine", 10_000)
    command = [sys.executable, "-m", "harness", "augment", str(folder), "--out", str(tmp_path / "out"),
               "--relations", "--negatives"]  # fmt: skip
    script = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout.split()[-1]) < 1_000_000  # kilobytes
    assert json.loads((tmp_path / "out" / "augmentation.json").read_text())["items"] == 10_000
