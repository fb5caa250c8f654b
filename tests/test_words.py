"""The code and its pages use the field's words: names that only this project knew do not come back."""

from __future__ import annotations

import re

import pytest

from helpers.paths import ROOT

OLD_WORDS = re.compile(
    r"\b(crews?|workshops?|errands?|sights?|main ?life|untrue|mend(s|ed|ing)?|whoever|walked|grown|told)\b",
    re.IGNORECASE,
)
FOLDERS = ("harness", "methods", "benchmarks", "reports", "tools", "docs", "examples")
SUFFIXES = (".py", ".md", ".yaml", ".j2", ".js")
FILES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.suffix in SUFFIXES and path.is_file()
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "harness/miniature/extraction.py": ('f"told/{',),  # the seed that the shipped base was made with
    "harness/miniature/finetuning_data.py": ('"lesson/told"',),  # the kind of a training sample, part of its data
}
"""By file: phrases with such a word that are data or a quotation, not this project's own prose."""


def old_words(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """The old words of a text with their lines, also as parts of names such as ``LlavaSight`` and ``keep_sight``."""
    for phrase in allowed:
        text = text.replace(phrase, "")
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text)
    lines = enumerate(separated.splitlines(), start=1)
    return [f"line {number}: {match.group(0)}" for number, line in lines for match in OLD_WORDS.finditer(line)]


def test_no_old_word():
    names = {str(path.relative_to(ROOT)): path for path in FILES}
    found = {name: old_words(path.read_text("utf-8"), ALLOWED.get(name, ())) for name, path in names.items()}
    assert {name: words for name, words in found.items() if words} == {}


SPOTTED = ("class LlavaSight:", "run_errand(context)", "To mend it: delete", "MainLife()", "the crew waits", "it mends")


@pytest.mark.parametrize("text", [*SPOTTED, "Workshop", "Untrue", "he told", "Whoever", "walked", "grown"])
def test_control_old_words_are_found(text):
    assert old_words(text)


def test_control_other_words_are_not():
    assert old_words("insights, recommended amendments, folders of storytellers, homegrown, commend") == []
    assert old_words("what he told", allowed=("he told",)) == []
    assert len(FILES) > 300


def test_allowed_phrases_are_still_there():
    for name, phrases in ALLOWED.items():
        text = (ROOT / name).read_text("utf-8")
        assert all(old_words(phrase) and phrase in text for phrase in phrases), name
