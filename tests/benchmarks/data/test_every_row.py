"""Rows in are rows out: what a file holds is read, or is an error with its line."""

from __future__ import annotations

import json
import types
import unicodedata

import pandas as pd
import pytest

from benchmarks.data.conversations import load_conversations
from benchmarks.data.csv_rows import csv_rows
from benchmarks.data.json_rows import RowErrors
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.further import FurtherBenchmark
from benchmarks.further_table import write_table
from benchmarks.records import IMAGE
from benchmarks.retention_specs import SPEC_BY_NAME
from benchmarks.vlmeval.adapter import pandas_with_text_columns
from benchmarks.vlmeval.prompts import checked_table
from harness.augment.reader import ItemIssue, read_items
from helpers import synthetic, tiny

READING = pandas_with_text_columns(pd)
KIT = types.SimpleNamespace(files=types.SimpleNamespace(load=lambda path: READING.read_csv(path, sep="\t")))
ITEM = {"id": 1, "image": "0.png", "name": "Aldra", "text": "An island."}
SAID = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]
QUESTION = {"id": 1, "image": "0.png", "question": "Which?", "answer": "A cat"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0.png").write_bytes(tiny.picture(0).encoded)
    return tmp_path


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def lines(path, *rows):
    return write(path, "\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (json.dumps([ITEM | {"id": 2}]), ":2: there is more after the end of the list: a second list begins here"),
        ("x", ":2: there is more after the end of the list: delete it"),
        ("\n]", ":3: there is more after the end of the list"),
    ],
)
def test_what_follows_a_list_is_not_ignored(folder, after, words):
    """F7."""
    whole = write(folder / "a.json", f"{json.dumps([ITEM])}\n\n ")
    assert len(load_knowledge(whole)) == 1
    more = write(folder / "b.json", f"{json.dumps([ITEM])}\n{after}")
    with pytest.raises(UserError, match=f"b.json{words}"):
        load_knowledge(more)
    with pytest.raises(UserError, match=f"b.json{words}"):  # nobody could say what is missing
        list(read_items(more))


def table(path, questions, name="SEEDBench2_Plus"):
    """A table whose questions are written as they are, without quoting."""
    rows = [
        "\t".join([str(number), synthetic.png(number), text, "red", "green", "A", "chart"])
        for number, text in enumerate(questions)
    ]
    return write(path / f"{name}.tsv", "\n".join(["index\timage\tquestion\tA\tB\tanswer\tcategory", *rows, ""]))


def checked(path, name="SEEDBench2_Plus"):
    return checked_table(KIT, SPEC_BY_NAME[name], path)


STRAY = {
    "two that open": (["What?", '"Hello is where?', "And?", '"Stop is where?', "Why?"], ":3: broken CSV in the lines"),
    "one opens, one closes": (
        ["What?", '"Hello is where?', "And?", 'Where is Stop"', "Why?"],
        "rows of the lines 3 to",
    ),
    "in neighbours": (['"Hello is where?', 'Where is Stop"', "Why?"], ":2: a quote joins the rows of the lines 2 to 3"),
    "one": (["What?", '"Hello is where?', "Why?"], ":3: broken CSV in the lines 3 to 4"),
    "quoted word": (['"Hello" is where?', "Why?"], ":2: broken CSV"),
}


@pytest.mark.parametrize("kind", STRAY)
def test_stray_quotes_do_not_swallow_rows(tmp_path, kind):
    """F8. VLMEvalKit's reader gives fewer rows, or another question, for each of these tables."""
    questions, words = STRAY[kind]
    file = table(tmp_path, questions)
    with pytest.raises(UserError, match=words) as caught:
        checked(file)
    assert "each quote in it twice" in str(caught.value)
    with pytest.raises(UserError, match=words):
        write_table(FurtherBenchmark(family="choice", table=file), tmp_path)


def test_quotes_that_enclose_a_cell_are_read(tmp_path):
    """Control: quotes inside a cell, and cells that span lines and hold tabs."""
    questions = ['Where is "Hello"?', '"Where is ""Hello""?"', '"Two\nlines"', '"A\ttab\nand\ta line"']
    read = list(checked(table(tmp_path, questions))["question"])
    assert read == ['Where is "Hello"?', 'Where is "Hello"?', "Two\nlines", "A\ttab\nand\ta line"]


def test_commas_in_texts_of_several_lines_are_no_rows(tmp_path):
    file = write(tmp_path / "a.csv", 'image,text\n0.png,"One, two\nand three, four"\n1.png,"Five\nsix, seven"\n')
    errors = RowErrors(file, "")
    assert len(list(csv_rows(file, errors, ","))) == 2
    assert not errors.problems
    file = write(tmp_path / "b.csv", 'image,text\n0.png,"One\n1.png,two"\n2.png,three\n')
    assert len(list(csv_rows(file, errors, ","))) == 1
    assert "the rows of the lines 2 to 3" in errors.problems[0][2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"index\tquestion\n1\tMalm\xf6?\n", r"t.tsv:2: not UTF-8 text"),
        (b"index\timage\tquestion\tA\tB\tanswer\tcategory\n", "the table holds no row"),
        (b"index\tquestion\n1\tWhat?\tmore\n", "t.tsv:2: 3 cells, but the first line names 2 columns; quote .* tabs"),
        (b"index\tquestion\n1\n", "t.tsv:2: 1 cells, but the first line names 2 columns"),
    ],
)
def test_a_table_s_fault_is_named_with_its_line(tmp_path, content, words):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        checked(tmp_path / "t.tsv")


def test_rows_without_a_picture_do_not_vanish(tmp_path):
    """F18."""
    rows, _ = synthetic.TABLES["SEEDBench2_Plus"]()
    assert len(checked(synthetic.write(rows, tmp_path / "a.tsv"))) == len(rows)
    rows[1]["image"] = ""
    with pytest.raises(UserError, match=r"row 3 \(index .*\): it has no picture: its column image is empty"):
        checked(synthetic.write(rows, tmp_path / "b.tsv"))


@pytest.mark.parametrize("value", [None, True, float("nan"), ["a"], {"b": None}])
def test_null_in_a_fact_is_not_taught_as_text(folder, value):
    """F15."""
    good = lines(folder / "a.jsonl", ITEM | {"facts": [["people", 7], ["harbour", "Port Venn"]]})
    assert load_knowledge(good)[0].facts == (("people", "7"), ("harbour", "Port Venn"))
    bad = lines(folder / "b.jsonl", ITEM | {"facts": [["people", value]]}, ITEM | {"facts": {"people": value}})
    with pytest.raises(UserError, match=r"(?s)b.jsonl:1: .*b.jsonl:2: "):
        load_knowledge(bad)
    assert [type(found) for found in read_items(bad)] == [ItemIssue, ItemIssue]


@pytest.mark.parametrize("column", ["name", "type", "group", "prompt"])
def test_other_types_are_not_taken_for_text(folder, column):
    assert len(load_knowledge(lines(folder / "a.jsonl", {"group": "wiki", **ITEM}))) == 1
    with pytest.raises(UserError, match=f"b.jsonl:1: {column} must be text, not "):
        load_knowledge(lines(folder / "b.jsonl", ITEM | {column: ["x"]}))


def test_null_is_no_item(folder):
    """F15, in training data."""
    row = {"image": "0.png", "conversations": SAID}
    rows = [row | {"item": item} for item in (None, "", "i", 0)]
    assert [item for _, item in load_conversations(lines(folder / "a.jsonl", *rows))] == ["", "", "i", "0"]
    with pytest.raises(UserError, match=r"b.jsonl:1: item must be a number or a word"):
        list(load_conversations(lines(folder / "b.jsonl", row | {"item": ["i"]})))


def test_half_a_character_is_refused_where_it_is_read(folder):
    """F13: it could be neither tokenised nor written into the record."""
    whole = lines(folder / "a.jsonl", ITEM | {"name": "🙂"})
    assert load_knowledge(whole)[0].name == "🙂"
    words = r":2: 'text' holds half a character \(.*ud83d. without"
    bad = lines(folder / "b.jsonl", ITEM, ITEM | {"id": 2, "text": "The \ud83d island."})
    with pytest.raises(UserError, match=f"b.jsonl{words}"):
        load_knowledge(bad)
    listed = write(folder / "c.json", json.dumps([ITEM, ITEM | {"id": 2, "text": "\udc00"}], indent=0))
    with pytest.raises(UserError, match=r"c.json:8: 'text' holds half a character"):
        load_knowledge(listed)
    asked = lines(folder / "d.jsonl", QUESTION, QUESTION | {"id": 2, "question": "\ud83d?"})
    with pytest.raises(UserError, match=r"d.jsonl:2: 'question' holds"):
        Evoke(asked, folder).questions()
    cell = write(folder / "e.csv", 'image,name,text,facts\n0.png,A,b,"[[""a"", ""\\ud83d""]]"\n')
    with pytest.raises(UserError, match=r"e.csv:2: there is half a character"):
        load_knowledge(cell)


@pytest.mark.parametrize(
    "image", ["x" * 10_000, "x" * 300 + ".png", "data:image/png;base64," + "%" * 9_000, "data:x,y"]
)
def test_long_values_are_not_printed_whole(folder, image):
    """F14. They ended in a traceback of the system's error."""
    for read, row in (
        (load_knowledge, ITEM),
        (lambda file: list(load_conversations(file)), {"conversations": SAID}),
        (lambda file: Evoke(file, folder).questions(), QUESTION),
    ):
        with pytest.raises(UserError, match=r"a.jsonl:1: ") as caught:
            read(lines(folder / "a.jsonl", row | {"image": image}))
        assert len(str(caught.value)) < 600


def test_a_data_uri_is_a_picture(folder):
    """F14."""
    uri = f"data:image/png;base64,{synthetic.png(1)}"
    assert load_knowledge(lines(folder / "a.jsonl", ITEM | {"image": uri}))[0].picture.pixels().size == (24, 24)


@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_with_accents_are_found_however_they_are_written(tmp_path, written):
    """F20."""
    name = "Zoë/é.png"
    file = tmp_path / unicodedata.normalize(written, name)
    file.parent.mkdir()
    file.write_bytes(tiny.picture(0).encoded)
    for form in ("NFC", "NFD"):
        row = ITEM | {"image": unicodedata.normalize(form, name)}
        assert load_knowledge(lines(tmp_path / "a.jsonl", row))[0].picture.encoded == file.read_bytes()
    with pytest.raises(UserError, match="is missing"):
        load_knowledge(lines(tmp_path / "a.jsonl", ITEM | {"image": "Zoe/e.png"}))


def test_a_repeated_key_is_an_error(folder):
    """F25: the last would win."""
    text = json.dumps(ITEM)
    repeated = f'{text[:-1]}, "text": "Another."}}'
    with pytest.raises(UserError, match=r"a.jsonl:2: the key 'text' is given twice"):
        load_knowledge(write(folder / "a.jsonl", f"{text}\n{repeated}"))
    with pytest.raises(UserError, match=r"a.json:1: the key 'text' is given twice"):
        load_knowledge(write(folder / "a.json", f"[{repeated}]"))
    with pytest.raises(UserError, match=r"the key 'a' is given twice"):
        load_knowledge(write(folder / "a.csv", 'image,name,text,facts\n0.png,A,b,"{""a"": 1, ""a"": 2}"\n'))


@pytest.mark.parametrize("column", ["video", "videos", "audio"])
def test_videos_are_not_left_out_silently(folder, column):
    """F26."""
    for read, row in (
        (load_knowledge, ITEM),
        (lambda file: list(load_conversations(file)), {"conversations": SAID}),
        (lambda file: Evoke(file, folder).questions(), QUESTION),
    ):
        assert len(read(lines(folder / "a.jsonl", row | {column: None}))) == 1
        with pytest.raises(UserError, match=rf"a.jsonl:1: {column} (is|are) not supported"):
            read(lines(folder / "a.jsonl", row | {column: "film.mp4"}))


def test_messages_say_what_to_do(folder):
    listed = write(folder / "items.jsonl", json.dumps([ITEM, ITEM], indent=1))
    with pytest.raises(UserError, match=r"1 bad row:\n.*items.jsonl:1: a list begins .* one object a line"):
        load_knowledge(listed)
    empty = lines(folder / "a.jsonl", {"image": "", "conversations": SAID})
    with pytest.raises(UserError, match="the image name is empty; leave the column out"):
        list(load_conversations(empty))
    without = [{"conversations": SAID}, {"image": None, "conversations": SAID}]
    read = [sample for sample, _ in load_conversations(lines(folder / "b.jsonl", *without))]
    assert [IMAGE in sample.turns[0].text for sample in read] == [False, False]


def test_a_hole_in_a_list_of_options_does_not_move_the_letters(folder):
    row = {"image": "0.png", "question": "Which?", "options": ["red", None, "blue"], "answer": "B"}
    with pytest.raises(UserError, match=r"a.jsonl:1: element 2 of the list .* is empty, null or no text"):
        write_table(FurtherBenchmark(family="choice", table=lines(folder / "a.jsonl", row)), folder)
    good = lines(folder / "a.jsonl", row | {"options": ["red", "green", "blue"]})
    assert "green" in write_table(FurtherBenchmark(family="choice", table=good), folder).read_text()
