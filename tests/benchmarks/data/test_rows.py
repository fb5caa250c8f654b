"""Files and folders of rows: CSV, Parquet, Arrow and `datasets` folders, of knowledge, questions and conversations."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest

from benchmarks.data import tables
from benchmarks.data.conversations import load_conversations
from benchmarks.data.json_rows import RowErrors
from benchmarks.data.knowledge import load_knowledge
from benchmarks.data.rows import find_rows, is_data_path, read_rows
from benchmarks.data.tables import TablePicture, table_files
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.records import Conversation, Turn
from helpers import formats, tiny

HEAD = "picture,name,type,text,facts\n"
FACTS = '"[[""harbour"", ""Port Venn""]]"'


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(tiny.picture(number).encoded)
    return tmp_path


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def plain(items):
    return [(item.id, item.name, item.type, item.text, item.prompt, item.facts, item.picture.sha256) for item in items]


def test_knowledge_is_the_same_in_every_format(folder):
    flat = {"image": "0.png", "name": "Aldra", "type": "island", "text": 'An "island",\nfar out.'}
    flat["facts"] = [["harbour", "Port Venn"]]
    cell = '"An ""island"",\nfar out."'
    line = f"0.png,Aldra,island,{cell},{FACTS}\n"
    files = {
        "jsonl": formats.lines(folder / "items.jsonl", [{"id": 2, **flat}]),
        "json": write(folder / "items.json", json.dumps([{"id": 2, **flat}])),
        "csv": write(folder / "items.csv", f"\ufeff{HEAD}{line}"),
        "tsv": write(folder / "items.tsv", "\t".join(HEAD.split(",")) + "\t".join([*line.split(",")[:3], cell, FACTS])),
        "image folder": write(folder / "metadata.csv", HEAD.replace("picture", "file_name") + line),
    }  # fmt: skip
    asked = [{"role": "user", "content": "<image>Can you describe the island in the image?"}]
    rows = [{"id": 2, "name": "Aldra", "messages": [*asked, {"role": "assistant", "content": flat["text"]}]}]
    rows[0] |= {"images": ["0.png"], "facts": flat["facts"]}
    files["messages"] = formats.lines(folder / "messages.jsonl", rows)
    from datasets import Dataset

    table = {"id": "2", "image": {"bytes": tiny.picture(0).encoded, "path": "0.png"}}
    Dataset.from_list([{**flat, **table}]).to_parquet(folder / "items.parquet")
    files["parquet"] = folder / "items.parquet"
    loaded = {name: plain(load_knowledge(file)) for name, file in files.items()}
    assert all(items == loaded["jsonl"] for items in loaded.values()), loaded
    assert loaded["csv"][0][1:6] == (
        "Aldra", "island", flat["text"], "Can you describe the island in the image?", (("harbour", "Port Venn"),)
    )  # fmt: skip


def test_questions_are_the_same_in_every_format(folder):
    evoke = {"question_id": 2, "image": "1.png", "text": "Where?", "answer": "Port Venn"}
    evoke |= {"type": "unknown", "cnn_wiki_type": "entity"}
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Where?"}]}]
    said.append({"role": "assistant", "content": "Port Venn"})
    files = [
        formats.lines(folder / "evoke_evaluation_data.jsonl", [evoke]),
        write(folder / "questions.csv", "picture,question,answer\n1.png,Where?,Port Venn\n"),
        formats.write_csv(folder / "same.csv", [evoke]),
        formats.lines(folder / "messages.jsonl", [{"id": 2, "messages": said, "images": ["1.png"]}]),
        write(folder / "list.json", json.dumps([evoke])),
        write(folder / "lines.json", f"{json.dumps(evoke)}\n{json.dumps(evoke | {'question_id': 3})}\n"),
    ]
    prints = [Evoke(file, folder).fingerprint() for file in files[:-1]]
    assert len(set(prints)) == 1
    assert len(Evoke(files[-1], folder).questions()) == 2  # as earlier versions read it


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{HEAD}0.png,Aldra,island,Far out.,\n1.png,Boro,island\n", r":3: 3 cells, but the first line names 5"),
        (f"{HEAD}0.png,Aldra,island,Far out.,\n9.png,Boro,island,Far out.,\n", r":3: the image '9.png' is missing"),
        (f"{HEAD}0.png,Aldra,island,\"Far\nout.\",\n0.png,,island,Far out.,\n", ":4: name is empty"),
        (f'{HEAD}0.png,Aldra,island,"Far out.,\n', r":2: broken CSV"),
        (f"{HEAD}0.png,Aldra,island,Far out.,red\n", r":2: facts must be a list"),
        ("name,name\na,b\n", r":1: two columns have the same name"),
        ("", "the file is empty"),
        (HEAD, "the file is empty"),
    ],
)  # fmt: skip
def test_a_bad_line_of_a_csv_file_is_named(folder, text, words):
    with pytest.raises(UserError, match=rf"items.csv{words}|{words}"):
        load_knowledge(write(folder / "items.csv", text))


def test_other_encodings_are_refused(folder):
    (folder / "items.csv").write_bytes(f"{HEAD}0.png,Malm\xf6,town,x,\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_knowledge(folder / "items.csv")


def samples(count=3):
    return [tiny.conversation(number, pictures=1) for number in range(count)]


def test_pictures_of_a_table_stay_on_the_disk(tmp_path):
    for writer in (formats.parquet, formats.arrow):
        folder = writer(samples(), tmp_path / writer.__name__)
        loaded = [sample for sample, _ in load_conversations(folder)]
        sources = [picture.source for sample in loaded for picture in sample.pictures]
        assert all(isinstance(source, TablePicture) for source in sources)
        assert pickle.loads(pickle.dumps(sources[2])).read_bytes() == samples()[2].pictures[0].encoded  # noqa: S301
        assert loaded[1].pictures[0].pixels().size == samples()[1].pictures[0].pixels().size


def test_a_table_that_changed_is_not_read(tmp_path):
    folder = formats.parquet(samples(), tmp_path / "data set")
    loaded = [sample for sample, _ in load_conversations(folder)]
    tables._column.cache_clear()  # what was decoded already is served as it was
    for file in sorted((folder / "data").glob("train-*")):
        shutil.copy(folder / "data" / "test-00000-of-00001.parquet", file)
    with pytest.raises(UserError, match="cannot be read"):
        _ = loaded[2].pictures[0].sha256


def test_a_bad_row_of_a_shard_is_named(tmp_path):
    good = samples()
    bad = Conversation("bad", (Turn("user", "What?"), Turn("assistant", " ")), ())
    folder = formats.parquet([*good, bad], tmp_path / "set")
    with pytest.raises(UserError, match=r"1 bad row(?s:.)*train-00001-of-00002.parquet:2: .*is empty"):
        list(load_conversations(folder))


def test_splits(tmp_path):
    folder = formats.parquet(samples(), tmp_path / "set")
    assert {split: len(files) for split, files in table_files(folder).items()} == {"train": 2, "test": 1}
    counts = {split: len(list(read_rows(folder, RowErrors(folder, ""), split))) for split in ("train", "test")}
    assert counts == {"train": 3, "test": 1}
    with pytest.raises(UserError, match="the splits test, train, and 'validation' is read"):
        list(read_rows(folder, RowErrors(folder, ""), "validation"))
    saved = formats.arrow(samples(), tmp_path / "saved")
    assert sorted(table_files(saved)) == ["train", "validation"]
    assert find_rows(saved, ["a.json"]) == saved
    assert find_rows(tmp_path / "saved" / "train", ["a.json"]) == saved / "train"  # one split alone
    assert len(list(load_conversations(saved / "train"))) == 3


def test_several_data_sets_in_one_folder_are_not_mixed(tmp_path):
    for name in ("chart", "table"):
        formats.parquet(samples(), tmp_path / "set" / name)
    with pytest.raises(UserError, match="several data sets: chart/data, table/data"):
        list(load_conversations(tmp_path / "set"))
    assert len(list(load_conversations(tmp_path / "set" / "chart"))) == 3


def test_damaged_tables_are_named(tmp_path):
    for name in ("train.parquet", "train.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 no table")
        with pytest.raises(UserError, match=rf"{name}:1: the table cannot be read"):
            list(load_conversations(tmp_path / name))
    with pytest.raises(UserError, match=r"gone.parquet:1: the table cannot be read"):
        list(load_conversations(tmp_path / "gone.parquet"))


def test_what_counts_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(map(is_data_path, ("a.json", "a.CSV", "./a", "a/b", "x.parquet")))
    assert not any(map(is_data_path, ("mini", "none", "kore", "a.txt", "set")))
    (tmp_path / "set").mkdir()
    assert is_data_path("set")
