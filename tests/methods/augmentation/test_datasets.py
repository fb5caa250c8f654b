"""The training data that the setting ``data`` names: baselines, relations, folders."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from benchmarks.multihop import HopEntity, find_chains
from benchmarks.records import IMAGE
from helpers import tiny
from methods.augmentation import datasets, text_edits
from methods.augmentation.knowledge_tree import count_branches
from methods.augmentation.made_data import MADE, register
from methods.augmentation.pictures import TRANSFORMS, transform
from methods.augmentation.relations import PER_ITEM, training_chains
from methods.augmentation.tree_shape import BRANCHES
from methods.registry import registered

WORDS = "the large country is known for its old capital and people use a small coin".split()  # noqa: SIM905


@pytest.mark.parametrize("name", [*MADE])
def test_every_choice_is_deterministic_and_keeps_to_its_items(name):
    knowledge = tiny.knowledge(6)
    made = datasets.conversations(name, knowledge, 3)
    assert made == datasets.conversations(name, knowledge, 3)
    assert len({each.id for each in made}) == len(made)
    ids = frozenset(item.id for item in knowledge)
    assert {datasets.item_of(each.id, ids) for each in made} == ids
    assert all(each.turns[0].text.startswith(IMAGE) for each in made)
    if name not in ("evoke",):
        assert made != datasets.conversations(name, knowledge, 4)


def test_baselines_hold_the_knowledge_as_published():
    knowledge = tiny.knowledge(3)
    published = datasets.conversations("evoke", knowledge, 0)
    for name in ("text-agnostic", "text-aware", "image-agnostic", "image-aware"):
        made = datasets.conversations(name, knowledge, 0)
        assert [each for each in made if each.branch == "knowledge"] == published
        assert len(made) > 4 * len(knowledge)
        assert MADE[name].identity == name


@pytest.mark.parametrize("edit", [*text_edits.EDITS])
def test_a_tenth_of_the_words_changes(edit):
    words = WORDS * 4
    changed = text_edits.EDITS[edit](words, random.Random(1))
    assert len(changed) - len(words) == {"insertion": 6, "deletion": -6}.get(edit, 0)
    differing = sum(one != other for one, other in zip(words, changed, strict=False))
    if edit == "synonym":
        assert 1 <= differing <= 6
        for one, other in zip(words, changed, strict=True):
            assert one == other or other in text_edits.synonyms()[one]
    if edit == "swap":
        assert sorted(changed) == sorted(words)
        assert 1 <= differing <= 12


def test_a_synonym_keeps_case_and_punctuation():
    assert text_edits.replace(['"Large,'], random.Random(0)) == ['"Big,']


@given(st.text(max_size=100), st.sampled_from([*text_edits.EDITS]))
@settings(max_examples=60)
def test_no_text_breaks_an_edit(text, edit):
    changed = text_edits.edit_text(text, edit, random.Random(0))
    assert bool(changed) == bool(text.split())


def test_the_synonyms_are_clean():
    table = text_edits.synonyms()
    assert len(table) > 3000
    assert all(word not in others and others and word.islower() for word, others in table.items())


@pytest.mark.parametrize("kind", [*TRANSFORMS])
def test_each_image_edit_changes_pixels_and_not_the_size(kind):
    before = tiny.picture(3)
    made = [transform(before, kind, random.Random(seed)) for seed in (0, 0, 1)]
    pixels = [np.asarray(picture.pixels(), float) for picture in made]
    original = np.asarray(before.pixels(), float)
    assert pixels[0].shape == original.shape
    assert np.array_equal(pixels[0], pixels[1])
    assert np.abs(pixels[0] - original).mean() > 1
    assert made[0].sha256 == made[1].sha256 != made[2].sha256
    if kind == "flip":
        assert np.array_equal(pixels[0], original[:, ::-1])
    else:
        assert not np.array_equal(pixels[0], pixels[2])


def node(name: str, *facts: tuple[str, str], kind: str = "country") -> HopEntity:
    return HopEntity(name.lower(), name, kind, facts)


def test_a_chain_goes_over_a_name_or_over_a_shared_fact():
    album = node("Blue", ("singer", "Ann"), ("year", "1999"), kind="album")
    singer = node("Ann", ("born in", "Oslo"), kind="person")
    other = node("Red", ("singer", "Ann"), ("label", "Sun"), kind="album")
    found = {(c.start.id, c.end.id, c.fact, c.kind) for c in find_chains([album, singer, other])}
    assert found == {
        ("blue", "ann", ("born in", "Oslo"), "bridge"),
        ("red", "ann", ("born in", "Oslo"), "bridge"),
        ("blue", "red", ("label", "Sun"), "shared"),
        ("red", "blue", ("year", "1999"), "shared"),
    }
    third = node("Green", ("singer", "Ann"), kind="album")  # now "the album with the same singer" is not one
    assert all(c.kind == "bridge" for c in find_chains([album, singer, other, third]))


def test_what_starts_share_or_everybody_has_is_not_asked():
    one, two = node("A", ("sea", "Red"), ("coin", "obol")), node("B", ("sea", "Red"), ("coin", "obol"))
    assert list(find_chains([one, two])) == []
    crowd = [node(f"N{number}", ("year", "2023"), ("ruler", f"R{number}")) for number in range(9)]
    assert list(find_chains(crowd)) == []


def test_a_quarter_is_reserved_and_never_trained_on():
    nodes = [node(f"N{n}", ("twin", f"N{n + 1 if n % 2 == 0 else n - 1}"), *((f"f{k}", f"{n}-{k}") for k in range(8)))
             for n in range(60)]  # fmt: skip
    found = list(find_chains(nodes))
    reserved = [chain for chain in found if chain.reserved]
    assert 0.15 < len(reserved) / len(found) < 0.35
    trained = list(training_chains(nodes, 0))
    assert not set(trained) & set(reserved)
    starts = [chain.start.id for chain in trained]
    assert max(starts.count(each) for each in starts) <= PER_ITEM


def test_a_strange_name_is_refused_with_the_nearest():
    settings_of = registered()["lora"].Settings
    with pytest.raises(UserError, match="did you mean 'text-aware'"):
        settings_of(data="text-awear")
    with pytest.raises(UserError, match="no training data is there"):
        settings_of(data="./nowhere")


def without_facts(count: int):
    return [dataclasses.replace(item, facts=()) for item in tiny.knowledge(count)]


@pytest.mark.parametrize("data", ["kore", "kore-negatives", "kore-3-rounds", "kore-without-caption"])
def test_a_tree_with_an_empty_branch_is_refused_with_the_branch_the_count_and_what_to_do(data):
    make = registered()["kore"]
    with pytest.raises(UserError) as error:
        make(make.Settings(data=data)).check_data(without_facts(5))
    assert "from 5 items has no conversations in the branch vqa" in str(error.value)
    assert "(5 dialogue, 5 recognition, 5 caption, 0 vqa)" in str(error.value)
    assert "--set kore.allow_empty_branches=true" in error.value.hint
    make(make.Settings(data=data, allow_empty_branches=True)).check_data(without_facts(5))
    one_item_with_facts = [*without_facts(5), *tiny.knowledge(1)]
    make(make.Settings(data=data)).check_data(one_item_with_facts)
    make(make.Settings(data="evoke")).check_data(without_facts(5))


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_alone_and_all_without_it_make_up_the_tree(branch):
    knowledge = tiny.knowledge(4)
    tree, alone, without = (
        datasets.conversations(name, knowledge, 3) for name in ("kore", f"kore-{branch}", f"kore-without-{branch}")
    )
    assert alone == [each for each in tree if each.branch == branch] != []
    assert without == [each for each in tree if each.branch != branch] != []


@pytest.mark.parametrize("rounds", range(1, 11))
def test_dialogues_are_cut_to_their_first_rounds_and_nothing_else_changes(rounds):
    knowledge = [dataclasses.replace(item, text="It has a flag. " * 30) for item in tiny.knowledge(4)]
    tree = datasets.conversations("kore", knowledge, 3)
    made = datasets.conversations(f"kore-{rounds}-round{'s' * (rounds > 1)}", knowledge, 3)
    lengths = set()
    for whole, cut in zip(tree, made, strict=True):
        if whole.branch == "dialogue":
            lengths.add(len(whole.turns))
            assert cut == dataclasses.replace(whole, turns=whole.turns[: 2 * rounds])
        else:
            assert cut == whole
    assert max(lengths) > 2


def test_only_the_branches_that_are_asked_for_must_be_there():
    make, knowledge = registered()["kore"], without_facts(5)
    for data in ("kore-dialogue", "kore-recognition", "kore-caption", "kore-without-vqa"):
        make(make.Settings(data=data)).check_data(knowledge)
    with pytest.raises(UserError, match=r"kore.data \(kore-vqa\).* branch vqa"):
        make(make.Settings(data="kore-vqa")).check_data(knowledge)


@pytest.mark.parametrize("name", ["kore-11-rounds", "kore-1-rounds", "kore-vqas", "kore-0-rounds"])
def test_a_part_that_the_tree_does_not_have_is_refused_with_the_closest_name(name):
    with pytest.raises(UserError, match=r"did you mean 'kore-"):
        registered()["lora"].Settings(data=name)


def test_data_of_ones_own_are_known_by_the_content_of_their_file(tmp_path):
    """Registered from a file outside of the package; a change of the file is another kind of data."""
    file = tmp_path / "own_data.py"
    names = []
    for word in ("one", "one", "two"):
        file.write_text(f"# {word}\ndef make(knowledge, seed):\n    return []\n")
        module = importlib.util.spec_from_file_location("own_data", file)
        loaded = importlib.util.module_from_spec(module)
        module.loader.exec_module(loaded)
        register("own", "ours")(loaded.make)
        assert datasets.conversations("own", tiny.knowledge(2), 0) == []
        names.append(registered()["lora"].Settings(data="own").cache_key()["data"])
    del MADE["own"]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("own-")
    with pytest.raises(UserError, match="two kinds of training data are named 'kore'"):
        register("kore", "ours")(loaded.make)


def test_branches_are_counted_as_they_are_made():
    knowledge = [*tiny.knowledge(7), *without_facts(2)]
    made = [each.branch for each in datasets.conversations("kore", knowledge, 3)]
    assert count_branches(knowledge) == {branch: made.count(branch) for branch in dict.fromkeys(made)}


def write_folder(folder: Path, text: str = "It is blue.", items: tuple[str, ...] = ("item-0", "item-1")) -> Path:
    folder.mkdir(parents=True)
    (folder / "imgs").mkdir()
    (folder / "imgs" / "a.png").write_bytes(tiny.picture(0).encoded)
    said = [{"from": "human", "value": f"{IMAGE}\nWhat colour?"}, {"from": "gpt", "value": text}]
    rows = [{"id": f"{item}/vqa/0", "item": item, "branch": "vqa", "image": "imgs/a.png", "conversations": said}
            for item in items]  # fmt: skip
    (folder / datasets.TRAINING_FILE).write_text(json.dumps(rows))
    return folder


def test_a_folder_is_known_by_its_content(tmp_path):
    one, same = write_folder(tmp_path / "one"), write_folder(tmp_path / "same")
    other = write_folder(tmp_path / "other", "It is red.")
    repainted = write_folder(tmp_path / "repainted")
    (repainted / "imgs" / "a.png").write_bytes(tiny.picture(1).encoded)
    names = [datasets.identity(str(folder)) for folder in (one, same, other, repainted)]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(name.startswith("augmented-") and str(tmp_path) not in name for name in names)
    key = registered()["lora"].Settings(data=str(one)).cache_key()
    assert key["data"] == names[0]
    assert registered()["lora"].Settings(data="kore").cache_key()["data"] == "kore"


def test_a_folder_gives_what_belongs_to_the_items(tmp_path):
    folder = str(write_folder(tmp_path / "one"))
    assert [each.id for each in datasets.conversations(folder, tiny.knowledge(1), 0)] == ["item-0/vqa/0"]
    assert len(datasets.conversations(folder, tiny.knowledge(5), 0)) == 2
    strange = [dataclasses.replace(item, id=f"x{item.id}") for item in tiny.knowledge(2)]
    with pytest.raises(UserError, match="about none of the items"):
        datasets.conversations(folder, strange, 0)
    nameless = write_folder(tmp_path / "two", items=("",))  # as KORE-74K's own file
    assert len(datasets.conversations(str(nameless / datasets.TRAINING_FILE), tiny.knowledge(2), 0)) == 1


@pytest.mark.parametrize("data", ["evoke", "kore", "text-aware", "kore-relations"])
def test_each_made_conversation_leads_to_its_item(data):
    knowledge = [dataclasses.replace(item, id=f"entity/{item.id}") for item in tiny.knowledge(12)]
    samples = datasets.conversations(data, knowledge, 0)
    found = datasets.items_of(data, samples, knowledge)
    assert found.keys() == {sample.id for sample in samples}
    assert all(name.startswith(f"{item.id}/") or name == item.id for name, item in found.items())
    assert set(found.values()) == set(knowledge)
    assert datasets.items_of(data, samples, knowledge[:3]).keys() < found.keys(), "those of other items are left out"


def test_the_rows_of_a_file_lead_to_the_items_that_they_name(tmp_path):
    """By the column, whatever the row's id; else by the answer; and a row about nothing known is left out."""
    folder, (first, second, _) = write_folder(tmp_path / "one"), (knowledge := tiny.knowledge(3))
    rows = json.loads((folder / datasets.TRAINING_FILE).read_text())
    answers = [{**rows[0]["conversations"][1], "value": text} for text in ("It is blue.", second.text, "Unknown.")]
    rows = [{**rows[0], "id": name, "item": item, "conversations": [rows[0]["conversations"][0], answer]}
            for name, item, answer in zip("abc", (first.id, "", ""), answers, strict=True)]  # fmt: skip
    (folder / datasets.TRAINING_FILE).write_text(json.dumps(rows))
    samples = datasets.conversations(str(folder), knowledge, 0)
    assert [sample.id for sample in samples] == ["a", "b", "c"]
    assert datasets.items_of(str(folder), samples, knowledge) == {"a": first, "b": second}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": "imgs/b.png"}, "missing"),
        ({"image": "../a.png"}, "points outside"),
        ({"conversations": []}, "list of turns"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "must be from one of"),
        (
            {"conversations": [{"from": "human", "value": "one"}, {"from": "human", "value": "two"}]},
            "turns must alternate",
        ),
        ({"image": 3}, "file's name"),
    ],
)
def test_a_bad_row_of_a_folder_is_named(tmp_path, change, said):
    folder = write_folder(tmp_path / "one")
    rows = json.loads((folder / datasets.TRAINING_FILE).read_text())
    rows[1] |= change
    (folder / datasets.TRAINING_FILE).write_text(json.dumps(rows, indent=1))
    with pytest.raises(UserError, match=f"1 bad row(?s:.)*training_data.json:\\d+: .*{said}"):
        datasets.conversations(str(folder), tiny.knowledge(2), 0)
