"""Errors of a known rate: what is wrong differs from the right tree, and the measure of a filter counts it."""

from __future__ import annotations

import re

import pytest

from benchmarks.data.knowledge import load_knowledge
from benchmarks.mini.world import DATA
from benchmarks.registry import INJECTION_FILE
from harness.commands.filters import ALL, measure_filter
from helpers import tiny
from methods.augmentation.datasets import conversations
from methods.augmentation.grounding import SourceText
from methods.augmentation.invented_errors import InventingGenerator
from methods.augmentation.knowledge_tree import knowledge_tree


@pytest.fixture(scope="module")
def knowledge():
    """Every third item: countries, things, elements and news."""
    return load_knowledge(DATA / "evoke" / INJECTION_FILE)[::3]


def text_of(statement) -> str:
    texts = statement.texts
    if texts.summary is not None:
        return texts.summary
    return texts.dialogue[0][1] if texts.dialogue else texts.shorts[0].answer


def test_an_error_changes_the_statement_as_its_kind_says(knowledge):
    sound, wrong = (InventingGenerator(knowledge, 0, rate) for rate in (0.0, 1.0))
    values = {value for item in knowledge for _, value in item.facts}
    kinds = set()
    for item in knowledge[::3]:
        own = {value for _, value in item.facts}
        for right, other in zip(sound.statements(item), wrong.statements(item), strict=True):
            assert right.error is None
            assert (text_of(other) != text_of(right)) == (other.error is not None)
            kinds.add(other.error)
            if other.branch == "vqa" and other.error:
                foreign = text_of(other) not in own
                assert foreign == (other.error == "foreign")
                assert text_of(other) in values
    assert kinds == {None, "foreign", "mixed"}


def test_without_errors_the_data_are_the_tree(knowledge):
    assert conversations("kore-wrong-40", knowledge[:20], 0) != knowledge_tree(knowledge[:20], 0), "control"
    assert InventingGenerator(knowledge, 0, 0.0).write(knowledge[0], checked=True) == InventingGenerator(
        knowledge, 0, 0.0
    ).write(knowledge[0], checked=False)
    short = [each for each in conversations("kore-wrong-40", knowledge, 0) if each.branch == "vqa"]
    true = {each.id: each.turns[1].text for each in knowledge_tree(knowledge, 0) if each.branch == "vqa"}
    share = sum(true[each.id] != each.turns[1].text for each in short) / len(short)
    assert share == pytest.approx(0.4, abs=0.05)


def test_the_check_removes_what_the_text_does_not_say(knowledge):
    items = knowledge[:30]
    generator = InventingGenerator(knowledge, 0, 0.4)
    for item in items:
        source = SourceText(item)
        for short in generator.write(item, checked=True).shorts or ():
            assert all(map(source.contains, re.findall(r"\w+", short.answer)))
    assert len(conversations("kore-wrong-40-checked", items, 0)) < len(conversations("kore-wrong-40", items, 0))


class Oracle:
    """A judge that knows the right statements: those that it is shown while it learns."""

    def __init__(self):
        self.right, self.learns = set(), True

    def supported(self, item, statements):
        if self.learns:
            self.right.update((item.id, statement) for statement in statements)
        return [(item.id, statement) in self.right for statement in statements]


def test_precision_and_recall_are_those_of_the_counts(knowledge):
    counts = measure_filter(knowledge, 0.2, 0, None)
    total = counts[ALL]
    assert sum(total.written.values()) == sum(
        sum(counts[name].written.values()) for name in ("dialogue", "caption", "vqa")
    )
    wrong = sum(
        each.error is not None for item in knowledge for each in InventingGenerator(knowledge, 0, 0.2).statements(item)
    )
    assert total.wrong == wrong
    assert total.precision == 1  # nothing right is dropped
    assert total.recall(["mixed"]) == 0  # strings alone cannot tell
    assert total.recall(["foreign"]) > 0.7
    assert total.recall() == pytest.approx(sum(total.dropped.values()) / wrong)
    judge = Oracle()
    measure_filter(knowledge, 0.0, 0, judge)
    judge.learns = False
    found = measure_filter(knowledge, 0.2, 0, judge)[ALL]
    assert (found.precision, found.recall()) == (1, 1)  # control: a judge that knows finds the mixed ones too
    nothing = measure_filter(tiny.knowledge(3), 0.0, 0, None)[ALL]
    assert (nothing.wrong, nothing.precision, nothing.recall()) == (0, None, None)
