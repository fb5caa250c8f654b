"""Conversations as TRL, LLaMA-Factory, ms-swift and LLaVA publish them give the same turns; bad rows are named."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Turn, content_digest
from helpers import formats, tiny
from methods.augmentation.datasets import identity

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=30).map(str.strip)
WORDS = TEXT.filter(lambda text: bool(text) and IMAGE not in text)


@st.composite
def samples(draw) -> list[Conversation]:
    """Two to four conversations of one to three rounds, with up to three pictures in any user turn."""
    made = []
    for number in range(draw(st.integers(2, 4))):
        counts = draw(st.sampled_from([[0], [1], [2], [0, 0], [0, 1], [1, 0], [1, 2], [0, 0, 1], [2, 0, 1]]))
        turns = []
        for pictures in counts:
            turns += [Turn("user", f"{IMAGE}\n" * pictures + draw(WORDS)), Turn("assistant", draw(WORDS))]
        pictures = tuple(tiny.picture(draw(st.integers(0, 9))) for _ in range(sum(counts)))
        made.append(Conversation(f"{formats.ITEM}/{number}", tuple(turns), pictures, draw(st.sampled_from("ab"))))
    return made


@settings(max_examples=6)
@given(samples())
def test_every_format_gives_the_same_conversations_and_one_name(made):
    with tempfile.TemporaryDirectory() as folder:
        files = {writer.__name__: writer(made, Path(folder) / writer.__name__) for writer in formats.WRITERS}
        published = formats.llava(made, Path(folder) / "llava")
        for name, file in {**files, "llava": published}.items():
            loaded = [sample for sample, _ in load_conversations(file)]
            assert [sample.turns for sample in loaded] == [sample.turns for sample in made], name
            assert [(sample.id, sample.branch) for sample in loaded] == [(one.id, one.branch) for one in made], name
            assert content_digest(loaded) == content_digest(made), name
        names = {identity(str(file)) for file in files.values()}
        assert len(names) == 1
        assert identity(str(published)) not in names  # it keeps the name that earlier versions gave it


def test_another_text_picture_item_or_branch_has_another_name(tmp_path):
    made = [tiny.conversation(number, pictures=1) for number in range(2)]
    first = identity(str(formats.swift(made, tmp_path / "a")))
    changed = [made[0], Conversation(made[1].id, made[1].turns, made[1].pictures, "other")]
    repainted = [made[0], Conversation(made[1].id, made[1].turns, (tiny.picture(77),), made[1].branch)]
    others = [identity(str(formats.swift(one, tmp_path / str(i)))) for i, one in enumerate((changed, repainted))]
    assert len({first, *others}) == 3


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        (tmp_path / "imgs").mkdir(exist_ok=True)
        (tmp_path / "imgs" / f"{number}.png").write_bytes(tiny.picture(number).encoded)
    return tmp_path


def turns(path):
    return [(sample.turns[0].text, len(sample.pictures)) for sample, _ in load_conversations(path)]


def test_trl_s_layouts(folder):
    """The data sets llava-instruct-mix-vsft, with a picture after the text, and llava-instruct-mix, without markers."""
    asked = [{"index": None, "text": "Who wrote this book?\n", "type": "text"}]
    picture = {"index": 0, "text": None, "type": "image"}
    said = {"role": "assistant", "content": [{"index": None, "text": "Ray Jones.", "type": "text"}]}
    vsft = {"messages": [{"role": "user", "content": [*asked, picture]}, said], "images": ["imgs/0.png"]}
    flat = {
        "prompt": [{"role": "user", "content": "Compare them."}],
        "completion": [{"role": "assistant", "content": "Both are blue."}],
        "images": ["imgs/0.png", "imgs/1.png"],
    }
    assert turns(formats.lines(folder / "a.jsonl", [vsft, flat])) == [
        (f"{IMAGE}\nWho wrote this book?", 1),
        (f"{IMAGE}\n{IMAGE}\nCompare them.", 2),
    ]


def test_llama_factory_s_layouts(folder):
    """``mllm_demo.json``, ShareGPT with an empty system text, and Alpaca."""
    demo = {
        "messages": [
            {"content": f"{IMAGE}Who are they?", "role": "user"},
            {"content": "They're Kane and Gretzka.", "role": "assistant"},
            {"content": "What are they doing?", "role": "user"},
            {"content": "They are celebrating.", "role": "assistant"},
        ],
        "images": ["imgs/0.png"],
    }
    said = [{"from": "human", "value": f"{IMAGE}{IMAGE}Which is red?"}, {"from": "gpt", "value": "The first."}]
    sharegpt = {"conversations": said, "system": "", "tools": "", "images": ["imgs/1.png", "imgs/2.png"]}
    alpaca = {"instruction": "Describe", "input": f"{IMAGE} the bird", "output": "A robin.", "images": ["imgs/0.png"]}
    history = {**alpaca, "instruction": "And?", "input": "", "history": [[f"{IMAGE}What?", "A bird."]]}
    (folder / "demo.json").write_text(json.dumps([demo, sharegpt, alpaca, history]))
    assert turns(folder / "demo.json") == [
        (f"{IMAGE}\nWho are they?", 1),
        (f"{IMAGE}{IMAGE}Which is red?", 2),
        (f"{IMAGE}\nDescribe\n the bird", 1),
        (f"{IMAGE}\nWhat?", 1),
    ]
    assert len(next(iter(load_conversations(folder / "demo.json")))[0].turns) == 4


def test_ms_swift_s_layouts(folder):
    """Messages with absolute paths, pictures in the parts, and query and response."""
    answer = {"role": "assistant", "content": "A cat and a dog."}
    several = {
        "messages": [{"role": "user", "content": f"{IMAGE}{IMAGE}What differs?"}, answer],
        "images": [str(folder / "imgs" / "0.png"), {"bytes": None, "path": "imgs/1.png"}],
        "objects": None,
    }
    own = [{"type": "image", "image": f"file://{folder}/imgs/2.png"}, {"type": "text", "text": "What is it?"}]
    query = {"query": "What is it?", "response": "A cat.", "images": "imgs/0.png"}
    rows = [several, {"messages": [{"role": "user", "content": own}, answer]}, query]
    assert turns(formats.lines(folder / "swift.jsonl", rows)) == [
        (f"{IMAGE}{IMAGE}What differs?", 2),
        (f"{IMAGE}\nWhat is it?", 1),
        (f"{IMAGE}\nWhat is it?", 1),
    ]


def said(user=f"{IMAGE}What?", answer="A cat.", **columns):
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "images": ["imgs/0.png"], **columns}


SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = said()["messages"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (said(images=[]), "1 <image> markers but 0 pictures"),
        (said(f"{IMAGE}{IMAGE}What?"), "2 <image> markers but 1 pictures"),
        (said(images=["imgs/0.png", "imgs/1.png"]), "1 <image> markers but 2 pictures"),
        (said(messages=[{"role": "critic", "content": "x"}]), "each turn must be from one of .* not 'critic'"),
        (said(messages=[SYSTEM, *TURNS]), "a system turn: .* delete it, or put it at the start"),
        (said(messages=[SYSTEM, SYSTEM, *TURNS]), "2 system turns: "),
        (said(system="Be brief."), "a system turn: "),
        (said(answer=None), "content must be text or a list of parts, not None"),
        (said([{"type": "image"}, {"type": "text", "text": None}]), "text must be text"),
        (said([{"type": "video"}]), "a part must be of type text or image, not 'video'"),
        (said(answer=" "), "content is empty"),
        (said(answer=f"{IMAGE} a cat"), "an assistant turn contains a picture or the marker"),
        (said(images=["imgs/9.png"]), "'imgs/9.png' is missing"),
        (said(images=["../0.png"]), "points outside"),
        (said(images=["/etc/hostname"]), "points outside"),
        (said(images=["https://example.org/0.png"]), "no picture is downloaded"),
        (said(images=["data:image/png;base64,%%"]), "not base64"),
        (said(images=["data:image/png;base64,YWJj"]), "damaged or not an image"),
        (said(images=[3]), "images must be a file's name"),
        (said(images=[{"bytes": None, "path": None}]), "neither bytes nor a path"),
        (said(videos=["a.mp4"]), "videos are not supported"),
        (said(messages=[]), "messages must be a list of turns"),
        (said(messages=TURNS[::-1]), "turns must alternate"),
        ({"messages": [*TURNS, {**TURNS[0], "content": "And?"}, {**TURNS[1], "loss": False}]}, "loss false"),
        ({"conversations": [{"from": "system", "value": "x"}], "image": "imgs/0.png"}, "a system turn"),
        ({"prompt": "What?", "images": ["imgs/0.png"]}, "neither messages nor conversations"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(folder, bad, words):
    file = formats.lines(folder / "bad.jsonl", [said(), bad, said()])
    read = []
    with pytest.raises(UserError, match=f"1 bad row(?s:.)*bad.jsonl:2: .*{words}"):
        read.extend(load_conversations(file))
    assert len(read) == 2
