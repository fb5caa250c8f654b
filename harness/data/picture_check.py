"""Decode every picture of a run once, before anything is computed, and report all bad ones together."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import pixels
from benchmarks.data.json_rows import MAX_LISTED
from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.data.inputs import RunInputs
from harness.storage.digests import digest
from harness.storage.source_code import code_digest
from harness.storage.store import Store

KIND = "decoded_pictures"
THREADS = 8
"""Pillow decodes outside Python's global lock."""


def check_pictures(inputs: RunInputs, store: Store) -> None:
    """Decode each picture of the knowledge and the questions, unless the store says that all of them were decoded.

    Raises:
        UserError: Some cannot be decoded; names the row and the file of each (the first 20).
    """
    entries = {picture.sha256: (picture, place) for picture, place in _entries(inputs)}  # equal pictures once
    key = {"pictures": digest(sorted(entries)), "code": code_digest(Path(pixels.__file__))}
    if store.has(KIND, key):
        return
    with ThreadPoolExecutor(THREADS) as pool:
        problems = [problem for problem in pool.map(_problem, *zip(*entries.values(), strict=True)) if problem]
    if problems:
        listed = "\n  ".join(problems[:MAX_LISTED])
        more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        raise UserError(
            f"{len(problems)} of {len(entries)} pictures cannot be used:\n  {listed}{more}",
            location="pictures of this run",
            hint="repair these files, or delete their rows; nothing was computed",
        )
    store.write_json(KIND, key, len(entries))


def _entries(inputs: RunInputs) -> Iterator[tuple[Picture, str]]:
    yield from ((item.picture, f"knowledge item {item.id}") for item in inputs.knowledge)
    for task in inputs.tasks:
        for question in task.questions:
            yield from ((picture, f"{task.name}, question {question.id}") for picture in question.pictures)


def _problem(picture: Picture, place: str) -> str:
    """Why a picture cannot be decoded; empty if it can."""
    try:
        picture.pixels()
    except UserError as error:
        return f"{place}: {error.location}: {error.message}"
    return ""
