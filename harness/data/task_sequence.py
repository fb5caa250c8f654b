"""The knowledge of a task sequence: each stage is a data set of its own, and no item is in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data.json_rows import bad_rows_error
from benchmarks.data.knowledge import knowledge_rows, load_knowledge
from benchmarks.data.rows import row_place
from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from benchmarks.sequence import EvokeSequence, deal
from harness.storage.digests import knowledge_digest


@dataclass(frozen=True)
class SequenceStage:
    """One stage of a task sequence.

    Args:
        name: Heads its columns.
        items: All of its items.
        knowledge: Those that are injected, within the limit.
        questions: Ids of the questions about it.
    """

    name: str
    items: tuple[KnowledgeItem, ...]
    knowledge: tuple[KnowledgeItem, ...]
    questions: frozenset[str] = frozenset()


def load_sequence(files: Mapping[str, Path], limit: int | None) -> tuple[SequenceStage, ...]:
    """Read the knowledge of all stages.

    Args:
        files: The file of each stage, or the folder of its tables, by the stage's name.
        limit: Largest number of items to inject, over all stages; they are dealt to the stages in turn.

    Raises:
        UserError: A file is missing or bad, two stages share an item, or the limit leaves a stage without one.
    """
    for number, (name, file) in enumerate(files.items(), 1):
        if not file.exists():
            where = f"stages, number {number} ({name}): {file}"
            raise UserError("there is no such file of knowledge", location=where, hint="correct the path")
    if limit is not None and limit < len(files):
        raise UserError(
            f"{limit} items cannot be shared among {len(files)} stages", location="--limit", hint="raise the limit"
        )
    loaded = {name: load_knowledge(file) for name, file in files.items()}
    _check_disjoint(files, loaded)
    sizes = [len(items) for items in loaded.values()]
    shares = sizes if limit is None else deal(sizes, limit)
    return tuple(
        SequenceStage(name, tuple(items), tuple(items[:share]))
        for (name, items), share in zip(loaded.items(), shares, strict=True)
    )


def check_questions(stages: Sequence[SequenceStage], benchmark: EvokeSequence, files: Mapping[str, Path]) -> None:
    """Refuse questions that ask about the items of another stage, as if two files were exchanged.

    Args:
        stages: With their items.
        benchmark: The questions of all of them.
        files: The file of each stage's questions, by the stage's name.

    Raises:
        UserError: All questions of a stage have ids of items of one other stage, and none of its own.
    """
    ids = {stage.name: {item.id for item in stage.items} for stage in stages}
    for stage, questions in zip(stages, benchmark.by_stage, strict=True):
        asked = {question.id for question in questions}
        for name, items in ids.items():
            if name != stage.name and asked <= items and not asked & ids[stage.name]:
                raise UserError(
                    f"these questions of the stage {stage.name!r} have the ids of items of the stage {name!r}",
                    location=str(files[stage.name]),
                    hint="give each stage the questions about its own items",
                )


def _check_disjoint(files: Mapping[str, Path], loaded: Mapping[str, Sequence[KnowledgeItem]]) -> None:
    """Refuse items of two stages with the same id, or with the same picture and text under different ids."""
    by_id: dict[str, tuple[str, int]] = {}
    by_content: dict[tuple[str, str], tuple[str, int]] = {}
    problems, where = [], Path()

    def place(found: tuple[str, int]) -> str:
        return row_place(files[found[0]], found[1], knowledge_rows)

    for name, items in loaded.items():
        for index, item in enumerate(items):
            content = (item.picture.sha256, item.text.strip())
            same_id, same_content = by_id.get(item.id), by_content.get(content)
            if same_id and same_id[0] != name:
                first = loaded[same_id[0]][same_id[1]]
                equal = knowledge_digest([first]) == knowledge_digest([item])
                what = "is also" if equal else "has the id of another item,"
                problems.append(f"{place((name, index))}: item {item.id!r} {what} in {place(same_id)}")
                where = files[name]
            elif same_content and same_content[0] != name:
                problems.append(
                    f"{place((name, index))}: item {item.id!r} has the picture and the text of {place(same_content)}"
                )
                where = files[name]
            by_id.setdefault(item.id, (name, index))
            by_content.setdefault(content, (name, index))
    if problems:
        hint = "an item belongs to one stage; give different items different ids, in a column id; nothing was trained"
        raise bad_rows_error(problems, where, hint)
