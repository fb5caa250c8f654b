"""SHA-256 digests of what cells are made of: plain values, files, model folders, knowledge, questions, answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.model_folder import check_model_folder, file_digests
from benchmarks.records import Answer, KnowledgeItem, Question

Json = Any
NOT_THE_MODEL = frozenset({"README.md", "SHA256SUMS", "training_log.json", "LICENSE", "NOTICE.md"})
"""Files in a model's folder that do not affect its answers."""


def canonical(value: Json) -> bytes:
    """The canonical JSON text of a value: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: The value contains NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest(value: Json) -> str:
    """Hex SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(folder: Path, pictures: Mapping[str, Any] | None = None) -> str:
    """Digest of the files in a model's folder that affect its answers.

    Args:
        folder: In Hugging Face layout.
        pictures: Settings of picture processing that differ from the folder's.

    Raises:
        UserError: It is not a model folder.
    """
    check_model_folder(folder)
    content: list[list[Any]] = [*file_digests(folder, NOT_THE_MODEL)]
    return digest([*content, ["pictures", dict(pictures)]] if pictures else content)


def knowledge_digest(items: Sequence[KnowledgeItem]) -> str:
    """Digest of everything in the items, pictures by their content."""
    return digest(
        [
            [item.id, item.name, item.group, item.type, item.text, item.picture.sha256, item.prompt, list(item.facts)]
            + ([] if item.named else ["named after its picture"])
            for item in items
        ]
    )


def questions_digest(questions: Sequence[Question]) -> str:
    """Digest of what the model is shown and how long it may answer, without references and types."""
    return digest(
        [
            [
                question.id,
                list(question.turns),
                [picture.sha256 for picture in question.pictures],
                question.max_new_tokens,
                *([] if question.repetition_penalty is None else [question.repetition_penalty]),
                *([question.template] if question.template else []),
            ]
            for question in questions
        ]
    )


def answers_digest(answers: Sequence[Answer]) -> str:
    """Digest of the answers' texts, regardless of the model that gave them."""
    return digest([[answer.question_id, list(answer.texts), answer.error] for answer in answers])
