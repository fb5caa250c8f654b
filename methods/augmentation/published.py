"""Training data whose rows say neither their branch nor their item, such as KORE-74K as its authors published it.

Both follow from what a row does have: its branch from the form of its question, its item from the row's id, the names
of its pictures and its answers. Nothing is guessed: a row that fits no item, or several, is left without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from benchmarks.data.conversations import NUMBERED, UNKNOWN_BRANCH
from benchmarks.data.knowledge import name_of
from benchmarks.data.pictures import ZipMember
from benchmarks.data.tables import TablePicture
from benchmarks.records import Conversation, KnowledgeItem, Picture
from methods.augmentation.templates import ONE_PARAGRAPH, SHORT, YES_NO

ENDINGS = {"recognition": YES_NO, "caption": ONE_PARAGRAPH, "vqa": SHORT}
"""The end of a branch's question, in KORE's appendix I as in the tree made by rule."""
_ID = re.compile(r"[^\W\d_]+[_/:-](.+?)(?:[_/:-]\d+)?")
"""``KIND_ITEM`` and ``KIND_ITEM_NUMBER``."""
Key = tuple[str, str]
"""What it is (id, picture, answer), and its value."""


def branch_of(conversation: Conversation) -> str:
    """The branch that a conversation says, or else the one of the knowledge tree that it has the form of.

    Several rounds are a dialogue; one round belongs to the branch whose question ends like it.
    """
    if conversation.branch != UNKNOWN_BRANCH:
        return conversation.branch
    if len(conversation.turns) > 2:
        return "dialogue"
    question = _folded(conversation.turns[0].text)
    fitting = (branch for branch, ending in ENDINGS.items() if question.endswith(_folded(ending)))
    return next(fitting, UNKNOWN_BRANCH)


def match_items(conversations: Sequence[Conversation], knowledge: Sequence[KnowledgeItem]) -> list[str]:
    """The id of the item that each conversation is about; empty if nothing names one, or if two are named.

    A key that two items share names none of them.

    Args:
        conversations: Rows of one file.
        knowledge: All items that the file can be about, whatever the limit and the stage.
    """
    owners: dict[Key, set[str]] = {}
    for item in knowledge:
        for key in _keys_of_item(item):
            owners.setdefault(key, set()).add(item.id)
    unique = {key: next(iter(ids)) for key, ids in owners.items() if len(ids) == 1}
    return [_owner(conversation, unique) for conversation in conversations]


def _owner(conversation: Conversation, unique: Mapping[Key, str]) -> str:
    found = {unique[key] for key in _keys_of_row(conversation) if key in unique}
    return found.pop() if len(found) == 1 else ""


def _keys_of_item(item: KnowledgeItem) -> Iterator[Key]:
    yield "id", item.id
    yield "answer", _folded(item.text)
    yield from _picture_keys(item.picture)


def _keys_of_row(conversation: Conversation) -> Iterator[Key]:
    if not conversation.id.startswith(NUMBERED):
        parts = conversation.id.split("/")
        yield from (("id", "/".join(parts[:cut])) for cut in range(1, len(parts) + 1))
        if match := _ID.fullmatch(conversation.id):
            yield "id", match[1]
    yield from (("answer", _folded(turn.text)) for turn in conversation.turns if turn.role == "assistant")
    for picture in conversation.pictures:
        yield from _picture_keys(picture)


def _picture_keys(picture: Picture) -> Iterator[Key]:
    """The name without its endings, and with its folder; a bare number names no item."""
    if not isinstance(picture.source, Path | ZipMember | TablePicture):
        return
    path = PurePosixPath(picture.source if isinstance(picture.source, Path) else picture.source.name)
    name = name_of(path.name)
    if name and not name.isdigit():
        yield "picture", name.casefold()
        yield "picture in its folder", f"{path.parent.name}/{path.stem}".casefold()


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
