"""The training data that a method's setting ``data`` may name: made by rule, or a folder that was made before."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, Source

TRAINING_FILE = "training_data.json"
"""In the folders that ``python -m harness augment`` writes."""
PUBLISHED_FILE = "json/jsonl/KORE-74K-training_data.json"
"""In KORE-74K's folder."""
Make = Callable[[Sequence[KnowledgeItem], int], list[Conversation]]


def _published(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.branches import published

    return [published(item) for item in knowledge]


def _tree(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.knowledge_tree import knowledge_tree

    return knowledge_tree(knowledge, seed)


def _negatives(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.knowledge_tree import with_negatives

    return with_negatives(knowledge, seed)


def _relations(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.relations import with_relations

    return with_relations(knowledge, seed)


def _text_agnostic(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import text_agnostic

    return [each for item in knowledge for each in text_agnostic(item, seed)]


def _text_aware(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import text_aware
    from methods.augmentation.generators.rule_based import RuleGenerator

    return [each for item in knowledge for each in text_aware(item, RuleGenerator(seed))]


def _image_agnostic(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import image_agnostic

    return [each for item in knowledge for each in image_agnostic(item, seed)]


MADE: Mapping[str, tuple[str, Make]] = {
    "evoke": ("the knowledge as published in EVOKE", _published),
    "kore": ("KORE's knowledge tree", _tree),
    "kore-negatives": ("the knowledge tree, with recognition questions whose answer is No", _negatives),
    "kore-relations": ("the knowledge tree, with questions over two items", _relations),
    "text-agnostic": ("as published, and with words replaced, inserted, swapped, deleted", _text_agnostic),
    "text-aware": ("as published, and in other words", _text_aware),
    "image-agnostic": ("as published, and over flipped, cropped, rotated, recoloured, noisy pictures", _image_agnostic),
}
"""What is made by rule, by the name that the setting gives."""


def check(data: str) -> None:
    """Refuse what is neither a name nor a place of training data.

    Raises:
        UserError: It offers the nearest name.
    """
    if data in MADE:
        return
    if is_place(data):
        _file(data)
        return
    near = difflib.get_close_matches(data, MADE, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"no training data is called {data!r}",
        location="setting data",
        hint=f"{hint}choose from {', '.join(MADE)}, or give a folder that `harness augment` wrote (./NAME)",
    )


def identity(data: str) -> str:
    """What tells this training data from every other: its name, or the digest of the file and of all its pictures.

    Tables and records call it by this, for they hold no path.
    """
    return data if data in MADE else f"augmented-{_content(*_version(data))[0][:16]}"


def conversations(data: str, knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """The training data for these items.

    Of a folder, the conversations that belong to one of the items; all, where none tells which item it belongs to.

    Raises:
        UserError: The file is missing or bad, or belongs to other knowledge.
    """
    if data in MADE:
        return MADE[data][1](knowledge, seed)
    ids = {item.id for item in knowledge}
    samples = _content(*_version(data))[1]
    kept = [each for each, item in samples if not item or item in ids]
    if not kept:
        raise UserError("it is about none of the items", location=data, hint="augment the knowledge that is injected")
    return kept


def is_place(data: str, base: Path = Path()) -> bool:
    """Whether this is a folder or file, relative to ``base``, and no name of what is made by rule."""
    return data not in MADE and ("/" in data or data.endswith(".json") or (base / data).is_dir())


def item_of(conversation: str, ids: Set[str]) -> str:
    """The item that a conversation's id, ``ITEM/SLOT``, belongs to; empty where it is none of these."""
    parts = conversation.split("/")
    return next((head for cut in range(len(parts), 0, -1) if (head := "/".join(parts[:cut])) in ids), "")


def _file(data: str) -> Path:
    path = Path(data)
    file = path
    if path.is_dir():
        file = path / PUBLISHED_FILE if (path / PUBLISHED_FILE).is_file() else path / TRAINING_FILE
    if not file.is_file():
        raise UserError(
            "no training data is there",
            location=str(file),
            hint="make it: python -m harness augment, or get it: python -m harness fetch --dataset OWNER/NAME",
        )
    return file


def _version(data: str) -> tuple[Path, int, int]:
    """The file, its time and its size: when one of them changes it is read anew."""
    file = _file(data).absolute()
    return file, file.stat().st_mtime_ns, file.stat().st_size


@lru_cache(maxsize=4)
def _content(file: Path, time: int, size: int) -> tuple[str, tuple[tuple[Conversation, str], ...]]:
    """A file's digest, and its conversations with the items that they belong to. Read once in a process."""
    from benchmarks.data.conversations import load_conversations

    samples = tuple(load_conversations(file))
    digest = hashlib.sha256(file.read_bytes())
    for picture in {id(each): each for sample, _ in samples for each in sample.pictures}.values():
        digest.update(bytes.fromhex(hashlib.sha256(_bytes(picture.source)).hexdigest()))
    return digest.hexdigest(), samples


def _bytes(source: Source) -> bytes:
    """Read anew: a picture keeps what it has read, and a hundred thousand of them would fill the memory."""
    return source if isinstance(source, bytes) else source.read_bytes()
