"""Write what a row was trained on as JSONL with messages and images, for any other trainer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.augment.writer import save_picture
from harness.commands.export import check_empty, find_cell
from harness.console import print_lines
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext
from harness.experiment.finished_run import find_trained, open_finished, stored_training
from harness.experiment.resources import make_resources
from harness.experiment.stages import Stage
from harness.storage.files import atomic_folder
from methods.augmentation.datasets import item_of

FILE = "train.jsonl"
MADE_FROM = {"knowledge": "the knowledge", "pools": "a pool of old samples", "code": "the code of its method"}
"""Parts of a training's key that decide its data, and what to call them."""


@dataclass(frozen=True)
class WrittenData:
    """What was written.

    Args:
        file: The conversations; their pictures are in a folder beside it.
        conversations: How many.
    """

    file: Path
    conversations: int


def write_training_data(run: Path, row: str, to: Path, seed: int = 0) -> WrittenData:
    """Write the conversations of a row, in the order of the data; the training shuffles them by its seed.

    Args:
        run: Folder of a finished run.
        row: The row's name in the tables.
        to: Folder to write; it must not exist or be empty.
        seed: Which of the row's trainings: some data are drawn by it.

    Raises:
        UserError: There is no such row, it was not trained on data, its knowledge arrived in stages, or what the data
            are made from has changed since.
    """
    record, context = open_finished(run)
    find_cell(record, row, seed)
    check_empty(to)
    cell = find_trained(context, row, seed)
    method, knowledge = cell.make(), context.inputs.knowledge
    if not method.trains:
        hint = "choose a row of a method that trains"
        raise UserError("this row was not trained here", location=f"--row {row}", hint=hint)
    if context.settings.stage_count > 1:
        hint = "run compare without --stages in another folder, and export from there"
        raise UserError("its knowledge arrived in several stages", location=f"--row {row}", hint=hint)
    _check_unchanged(context, run, cell)
    samples = method.training_data(knowledge, make_resources(context, Stage(cell, knowledge)))
    ids = frozenset(item.id for item in knowledge)
    with atomic_folder(to) as written, (written / FILE).open("w", encoding="utf-8") as file:
        for line in _lines(samples, ids, written):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return WrittenData(to / FILE, len(samples))


def show_training_data(written: WrittenData) -> None:
    """Print where it is."""
    print_lines(f"{written.conversations} conversations are in {written.file}, their pictures beside it")


def _check_unchanged(context: RunContext, run: Path, cell: Cell) -> None:
    """Refuse to make data from other knowledge, pools or code than the row was trained with."""
    _, used = stored_training(context, run, cell)
    today = cell.training_key(context.cache_inputs)
    for part, what in MADE_FROM.items():
        if used.get(part) != today.get(part):
            hint = "give back what the run used, or run compare again"
            raise UserError(f"{what} changed since this row was trained", location=cell.title, hint=hint)


def _lines(samples: list[Conversation], ids: frozenset[str], to: Path) -> Iterator[dict[str, Any]]:
    """Each conversation in the layout of TRL, LLaMA-Factory and ms-swift, which this program reads, too."""
    for sample in samples:
        yield {
            "id": sample.id,
            "item": item_of(sample.id, ids),
            "branch": sample.branch,
            "messages": [{"role": turn.role, "content": turn.text} for turn in sample.turns],
            "images": [save_picture(picture, to) for picture in sample.pictures],
        }
