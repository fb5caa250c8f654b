"""Whatever stands in a field, a reader gives a good row or an error that names file and row; nothing else."""

from __future__ import annotations

import base64
import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.data.conversations import load_conversations
from benchmarks.data.csv_rows import csv_rows
from benchmarks.data.json_rows import MAX_LENGTH, RowErrors
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.further import FurtherBenchmark
from benchmarks.further_table import write_table
from benchmarks.records import IMAGE, Picture
from harness.augment.reader import ItemIssue, read_items
from helpers import tiny

PNG = tiny.picture(0).encoded
URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
SAID = [{"from": "human", "value": f"{IMAGE}What?"}, {"from": "gpt", "value": "A cat."}]
MESSAGES = [{"role": "user", "content": f"{IMAGE}What?"}, {"role": "assistant", "content": "A cat."}]
ODD = (
    "", " ", "\0", "\x1b[31m", "\u2028", "a\nb", "\t", "x" * 10_000, "../" * 4_000, "\ud83d", "\udc00\ud83d",
    "[", "[1]", "{}", '{"a": 1, "a": 2}', '["\\ud83d"]', "null", "0.png", ".", "..", "/", "~", "a/b", "C:\\x", "file://",
    "https://x/y.png", URI, URI[:60], "data:,", "data:image/png;base64,", IMAGE, IMAGE * 3, "Zoe\u0308.png", "Zoë.png",
    '"', '""', "'", '"a', "NaN", "1e999", "\ufeff",
)  # fmt: skip
TEXT = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=()), max_size=12))
KEYS = st.one_of(TEXT, st.sampled_from(["from", "value", "role", "content", "type", "text", "bytes", "path", "url"]))
NUMBERS = st.sampled_from([0, -1, 7, True, False, None, 1.5, float("nan"), float("inf"), 10**30])
VALUE = st.recursive(
    st.one_of(NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)
KNOWLEDGE = {
    "flat": {"id": 1, "image": "0.png", "name": "Aldra", "type": "island", "text": "An island.", "group": "wiki"}
    | {"facts": [["harbour", "Port Venn"]], "prompt": "What is it?"},
    "evoke": {"id": 1, "image": "0.png", "conversations": SAID, "name": "A", "type": "t", "cnn_wiki_type": "wiki"},
    "messages": {"id": 1, "images": ["0.png"], "messages": MESSAGES, "name": "A"},
}
SAMPLES = {
    "llava": {"id": 1, "item": "i", "branch": "b", "image": "0.png", "conversations": SAID, "video": None},
    "messages": {"id": 1, "item": "i", "branch": "b", "images": ["0.png"], "messages": MESSAGES, "system": ""},
    "alpaca": {"instruction": "What?", "input": "this", "output": "A cat.", "history": [], "images": ["0.png"]},
}
QUESTIONS = {
    "evoke": {"question_id": 1, "image": "0.png", "text": "Which?", "answer": "A", "type": "t"}
    | {"cnn_wiki_type": "wiki"},
    "own": {"id": 1, "image": "0.png", "question": "Which?", "answer": "A", "type": "t", "group": "wiki"},
    "messages": {"id": 1, "images": ["0.png"], "messages": MESSAGES},
}
OWN = {"index": 1, "image": "0.png", "question": "Which?", "A": "x", "B": "y", "answer": "A", "category": "c"}
MODEST = settings(max_examples=12, suppress_health_check=list(HealthCheck))


@st.composite
def changed(draw, layouts):
    """A good row in which one or two columns hold anything."""
    row = dict(draw(st.sampled_from(list(layouts.values()))))
    for name in draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=2, unique=True)):
        row[name] = draw(VALUE)
    return row


def write(folder: Path, *rows) -> Path:
    (folder / "0.png").write_bytes(PNG)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder / "rows.jsonl"


def check(read, file: Path) -> int:
    """Read a file: what is read can be written again and is nobody's ``None``; an error is short and names the row."""
    found: list[object] = []
    message = ""
    try:
        found.extend(read(file))
    except UserError as error:
        message = str(error)
    assert found or f"{file.name}:1: " in message
    assert len(message) < 2 * MAX_LENGTH
    message.encode()
    for text in texts(found):
        text.encode()
        assert text != "None"
    return len(found)


def texts(value):
    """All texts of a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, Picture):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))


def items(file: Path):
    """The items that ``augment`` reads, and its problems with others as texts, which are short and can be printed."""
    for found in read_items(file):
        if isinstance(found, ItemIssue):
            assert len(found.item) + len(found.reason) < 2 * MAX_LENGTH
            yield f"{found.item}: {found.reason}"
        else:
            yield found


@pytest.mark.parametrize(
    ("layouts", "read"),
    [
        (KNOWLEDGE, load_knowledge),
        (KNOWLEDGE, items),
        (SAMPLES, load_conversations),
        (QUESTIONS, lambda file: Evoke(file, file.parent).questions()),
    ],
    ids=["knowledge", "augment", "training data", "questions"],
)
def test_any_value_in_any_field_gives_a_good_row_or_an_error_that_names_it(layouts, read):
    for row in layouts.values():  # control: the rows are good until they are changed
        with tempfile.TemporaryDirectory() as folder:
            assert check(read, write(Path(folder), row)) == 1

    @MODEST
    @given(changed(layouts))
    def test(row):
        with tempfile.TemporaryDirectory() as folder:
            check(read, write(Path(folder), row))

    test()


@MODEST
@given(changed({"own": OWN}))
def test_any_value_in_a_table_of_one_s_own(row):
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), row)
        benchmark = FurtherBenchmark(family="choice", table=file, cluster="image")
        check(lambda file: [write_table(benchmark, file.parent).name], file)


@MODEST
@given(st.lists(st.lists(st.sampled_from(["a", '"', '"b', 'c"', "d\te", "", "é", "x\ny"]), min_size=3, max_size=3)))
def test_every_line_of_a_tsv_is_read_or_named(cells):
    """Cells that are not quoted as they should be: no line is lost without a word."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.tsv"
        lines = ["\t".join(row) for row in [["one", "two", "three"], *cells]]
        file.write_text("\n".join(lines), "utf-8")
        errors = RowErrors(file, "")
        read = list(csv_rows(file, errors, "\t"))
        whole = [row for row in cells if not set('\t\n"') & set("".join(row)) and any(row)]
        if not errors.problems:
            shown = [list(row.values()) for _, row in read]
            assert all(row in shown for row in whole)
            assert len(read) <= len(cells)
        for line, _ in read:
            assert line <= sum(map(len, map(str.splitlines, lines)))


@pytest.mark.parametrize("value", ["[1", '{"a": NaN}', "9" * 5_000, "[" * 100_000, '"' * 3, "1e999", "{}", "7"])
def test_any_json(tmp_path, value):
    write(tmp_path, KNOWLEDGE["flat"])
    for text, file in ((f'{{"id": {value}, "text": "x"}}', tmp_path / "a.jsonl"), (f"[{value}]", tmp_path / "a.json")):
        file.write_text(text)
        for read in (load_knowledge, load_conversations):
            with pytest.raises(UserError, match=rf"{file.name}:1: ") as caught:
                list(read(file))
            assert len(str(caught.value)) < 2 * MAX_LENGTH
