"""Digests of what a cell is made of: model folders, knowledge, questions, conversations, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import Answer, Conversation, KnowledgeItem, Question
from harness.storage.store import digest, file_digest

NOT_THE_MODEL = frozenset({"README.md", "SHA256SUMS", "training_log.json", "LICENSE", "NOTICE.md"})
"""Files in a model's folder that change nothing in what it says."""


def model_digest(folder: Path, pictures: Mapping[str, Any] | None = None) -> str:
    """Sha256 over the files of a model's folder that decide what it says.

    Args:
        folder: In Hugging Face layout.
        pictures: How they are prepared where it is not as the folder says.

    Raises:
        UserError: There is no such folder.
    """
    if not (folder / "config.json").is_file():
        raise UserError(
            "this is no model folder: it has no config.json",
            location=str(folder),
            hint="give the model's folder in Hugging Face layout with --set model=FOLDER",
        )
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in NOT_THE_MODEL]
    content: list[list[Any]] = [[path.name, file_digest(path)] for path in files if not path.name.startswith(".")]
    return digest([*content, ["pictures", dict(pictures)]] if pictures else content)


def knowledge_digest(items: Sequence[KnowledgeItem]) -> str:
    """Sha256 over everything in the items, pictures by their content."""
    return digest(
        [
            [item.id, item.name, item.group, item.type, item.text, item.picture.sha256, item.prompt, list(item.facts)]
            for item in items
        ]
    )


def questions_digest(questions: Sequence[Question]) -> str:
    """Sha256 over what the model is shown and how long it may answer; references and types do not count."""
    return digest(
        [
            [
                question.id,
                list(question.turns),
                [picture.sha256 for picture in question.pictures],
                question.max_new_tokens,
            ]
            for question in questions
        ]
    )


def sample_digest(sample: Conversation) -> str:
    """Sha256 over what a sample says and shows, its id left out."""
    turns = [[turn.role, turn.text] for turn in sample.turns]
    return digest({"turns": turns, "pictures": [picture.sha256 for picture in sample.pictures]})


def answers_digest(answers: Sequence[Answer]) -> str:
    """Sha256 over what was said, whoever said it."""
    return digest([[answer.question_id, list(answer.texts), answer.error] for answer in answers])
