"""The training data that a method's setting ``data`` may name: made by rule, or a folder of data made earlier."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from benchmarks.data.rows import find_rows, is_data_path
from benchmarks.data.tables import table_files
from benchmarks.errors import UserError, suggest
from benchmarks.records import Conversation, KnowledgeItem, Source
from methods.augmentation.made_data import MADE
from methods.augmentation.tree_shape import RELATION

logger = logging.getLogger(__name__)

TRAINING_FILE = "training_data.json"
"""In the folders that ``python -m harness augment`` writes."""
TRAINING_FILES = (TRAINING_FILE, "train.json", "train.jsonl", "train.csv")
"""Names of files of training data in a folder."""
PUBLISHED_FILE = "json/jsonl/KORE-74K-training_data.json"
"""In KORE-74K's folder."""


def check(data: str) -> None:
    """Refuse a value that is neither one of ``MADE`` nor a path of training data.

    Raises:
        UserError: The hint suggests the closest name.
    """
    if data in MADE:
        return
    if is_path(data):
        _training_file(data)
        return
    raise UserError(
        f"no training data is called {data!r}",
        location="setting data",
        hint=f"{suggest(data, MADE)}choose from {', '.join(MADE)}, "
        "or give a folder that `harness augment` wrote (./NAME), or a file of conversations",
    )


def identity(data: str) -> str:
    """A name that no other training data has and that holds no path, for tables and records.

    For a path it is derived from the content of the file and of all its pictures.
    """
    return MADE[data].identity if data in MADE else f"augmented-{_load(*_file_version(data))[0][:16]}"


def conversations(
    data: str, knowledge: Sequence[KnowledgeItem], seed: int, all_items: Sequence[KnowledgeItem] = ()
) -> list[Conversation]:
    """Make or read the training data for these items.

    From a folder, these are the conversations that belong to one of the items. Those that name no item are all used if
    these are all items; otherwise they are matched with items first.

    Args:
        data: A value of the setting.
        knowledge: The items to train on.
        seed: For what is made by rule.
        all_items: The items of the knowledge file; more than ``knowledge`` with a limit or in a stage.

    Raises:
        UserError: The file is missing or bad, belongs to other knowledge, or has rows that cannot be matched.
    """
    if data in MADE:
        return MADE[data].make(knowledge, seed)
    ids = {item.id for item in knowledge}
    divided, version = len(all_items) > len(knowledge), _file_version(data)
    samples = _matched(*version, tuple(all_items)) if divided else _load(*version)[1]
    matching = [conversation for conversation, item in samples if item in ids or not (item or divided)]
    if not matching:
        raise UserError("it is about none of the items", location=data, hint="augment the knowledge that is injected")
    return matching


def check_branches(data: str, knowledge: Sequence[KnowledgeItem], method: str) -> None:
    """Refuse a knowledge tree in which a branch is empty, as the short questions are if no item has facts.

    Args:
        data: A value of the setting; only the trees made by rule are checked.
        knowledge: The items to inject.
        method: Whose setting accepts such a tree, for the hint.

    Raises:
        UserError: It names the branches and the number of conversations in all of them.
    """
    if data not in MADE or not MADE[data].branches:
        return
    from methods.augmentation.knowledge_tree import count_branches
    from methods.augmentation.relations import count_relations

    counts, nameless = count_branches(knowledge), sum(not item.named for item in knowledge)
    if RELATION in MADE[data].branches:
        counts[RELATION] = count_relations(knowledge)
    empty = [branch for branch in MADE[data].branches if not counts[branch]]
    if empty:
        listed = ", ".join(f"{count:,} {branch}" for branch, count in counts.items())
        raise UserError(
            f"the knowledge tree made by rule from {len(knowledge):,} items has no conversations in the branch "
            f"{', '.join(empty)} ({listed}); short questions are made from facts, those over two items from facts that "
            f"both have, and a name that was made from the file name of a picture, as for {nameless:,} items, is not "
            "trained on",
            location=f"{method}.data ({data})",
            hint="give the items names and facts, or take training data that a language model wrote "
            "(data=hub:OWNER/NAME, or a folder of `harness augment`), or accept the tree: "
            f"--set {method}.allow_empty_branches=true",
        )


def check_items(data: str, all_items: Sequence[KnowledgeItem]) -> None:
    """Refuse training data with rows that belong to no item, where only the rows of some items are trained on.

    Args:
        data: A value of the setting; only files are checked.
        all_items: The items of the knowledge file.

    Raises:
        UserError: It says how many rows cannot be matched, and which is the first.
    """
    if data not in MADE:
        _matched(*_file_version(data), tuple(all_items))


def is_path(data: str, base: Path = Path()) -> bool:
    """Whether ``data`` is the path of a folder or file, relative to ``base``, rather than one of ``MADE``."""
    return data not in MADE and is_data_path(data, base)


def item_of(conversation: str, ids: Set[str]) -> str:
    """The item among ``ids`` that a conversation's id, ``ITEM/SLOT``, belongs to; "" if there is none."""
    parts = conversation.split("/")
    return next((head for cut in range(len(parts), 0, -1) if (head := "/".join(parts[:cut])) in ids), "")


def items_of(
    data: str, conversations: Iterable[Conversation], knowledge: Sequence[KnowledgeItem]
) -> dict[str, KnowledgeItem]:
    """The item that each conversation is about, by the conversation's id; those about none of the items are left out.

    It is the item that the file names, or else the one that the conversation's id begins with, or else the one that
    its answer or its picture's name belongs to.

    Args:
        data: The value of the setting that the conversations come from.
        conversations: As ``conversations`` returned them.
        knowledge: The items that they can be about.
    """
    from methods.augmentation.published import match_items

    by_id, samples = {item.id: item for item in knowledge}, list(conversations)
    said = {} if data in MADE else {sample.id: item for sample, item in _load(*_file_version(data))[1]}
    found = {sample.id: said.get(sample.id) or item_of(sample.id, by_id.keys()) for sample in samples}
    unnamed = [sample for sample in samples if not found[sample.id]]
    found |= {sample.id: item for sample, item in zip(unnamed, match_items(unnamed, knowledge), strict=True)}
    return {name: by_id[item] for name, item in found.items() if item in by_id}


def _training_file(data: str) -> Path:
    file = path = Path(data)
    if path.is_dir():
        file = path / PUBLISHED_FILE if (path / PUBLISHED_FILE).is_file() else find_rows(path, TRAINING_FILES)
    if not file.exists():
        raise UserError(
            "no training data is there",
            location=str(file),
            hint="make it: python -m harness augment, or get it: python -m harness fetch --dataset OWNER/NAME",
        )
    return file


def _file_version(data: str) -> tuple[Path, int, int]:
    """The file or the folder of tables, its time and its size; when one of them changes, it is read again."""
    file = _training_file(data).absolute()
    parts = [one.stat() for files in table_files(file).values() for one in files] if file.is_dir() else [file.stat()]
    return file, max(part.st_mtime_ns for part in parts), sum(part.st_size for part in parts)


@lru_cache(maxsize=4)
def _load(file: Path, time: int, size: int) -> tuple[str, tuple[tuple[Conversation, str], ...]]:
    """A file's digest, and its conversations with the items that they belong to.

    The digest of LLaVA's JSON is that of the file and the pictures, as ever, so that earlier runs are found again. For
    all other formats it is that of the conversations, so that the same conversations have one name in all of them.
    """
    from benchmarks.data.conversations import is_llava, load_conversations
    from methods.augmentation.published import branch_of

    samples = tuple((replace(sample, branch=branch_of(sample)), item) for sample, item in load_conversations(file))
    if not is_llava(file):
        return _content_digest(samples), samples
    digest = hashlib.sha256(file.read_bytes())
    pictures = {id(picture): picture for conversation, _ in samples for picture in conversation.pictures}
    for picture in pictures.values():
        digest.update(hashlib.sha256(_read(picture.source)).digest())
    return digest.hexdigest(), samples


@lru_cache(maxsize=4)
def _matched(
    file: Path, time: int, size: int, all_items: tuple[KnowledgeItem, ...]
) -> tuple[tuple[Conversation, str], ...]:
    """A file's conversations with their items, also where the file does not say them."""
    from methods.augmentation.published import match_items

    samples = _load(file, time, size)[1]
    nameless = [conversation for conversation, item in samples if not item]
    if not nameless:
        return samples
    found = match_items(nameless, all_items)
    missing = [conversation for conversation, item in zip(nameless, found, strict=True) if not item]
    counts = f"{len(nameless) - len(missing):,} of {len(nameless):,} rows that name no item"
    if missing:
        raise UserError(
            f"only {counts} could be matched with one; the first that could not has the id {missing[0].id!r}",
            location=str(file),
            hint="with --limit or --stages each row must belong to one item, by a column item with the item's id, or "
            "by its own id, its answer or its picture's name; without these options all rows are used",
        )
    logger.info("%s: %s were matched with %d items", file.name, counts, len(set(found)))
    matches = iter(found)
    return tuple((conversation, item or next(matches)) for conversation, item in samples)


def _content_digest(samples: Iterable[tuple[Conversation, str]]) -> str:
    digest = hashlib.sha256()
    for sample, item in samples:
        turns = [[turn.role, turn.text] for turn in sample.turns]
        pictures = [hashlib.sha256(_read(picture.source)).hexdigest() for picture in sample.pictures]
        digest.update(json.dumps([sample.id, item, sample.branch, turns, pictures]).encode() + b"\n")
    return digest.hexdigest()


def _read(source: Source) -> bytes:
    """Bypass ``Picture``, which keeps what it has read: a hundred thousand pictures would fill the memory."""
    return source if isinstance(source, bytes) else source.read_bytes()
