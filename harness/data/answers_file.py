"""The questions of a run as lines of JSON, and the answers that another program gave to them.

A line with answers is the line with the question and one field more, ``answers``. Of the other fields it must keep
``benchmark``, ``id`` and ``digest``; the lines keep their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError, first_line
from benchmarks.records import Answer, Question
from harness.data.inputs import BenchmarkTask
from harness.storage.digests import digest, questions_digest

LINE_LIMIT = 2**20
"""Bytes of one line. A file has at most one line for each question, so that this bounds what is read of it."""
ONE_TURN = "one turn"
SEVERAL_TURNS = "turn by turn: each turn is asked after the model's own answers to the turns before it"
CHECKED = ("turns", "max_new_tokens", "decoding", "digest", "set")
"""Fields that must be as exported where they are given: how the question was asked, and among which."""
SHOWN = 5
"""Missing questions that an error names."""
SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""Endings of picture files by how their bytes begin."""
Row = dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """A question with its place among all questions of the run, and its exported fields."""

    place: int
    question: Question
    fields: Row


def question_rows(tasks: Sequence[BenchmarkTask], pictures: str, dtype: str) -> Iterator[tuple[Question, Row]]:
    """Each question of a run with its line.

    Args:
        tasks: The benchmarks of the run.
        pictures: Folder of the pictures, relative to the file.
        dtype: The type of the weights that the run's own models answer with.
    """
    whole = digest([[task.name, questions_digest(task.questions)] for task in tasks])
    for task in tasks:
        for question in task.questions:
            images = [
                {"sha256": picture.sha256, "file": f"{pictures}/{picture_name(picture.sha256, picture.encoded)}"}
                for picture in question.pictures
            ]
            yield question, {**_fields(task.name, question, whole), "dtype": dtype, "images": images}


def picture_name(sha256: str, encoded: bytes) -> str:
    """A picture's file name, by its content alone."""
    return sha256 + next((suffix for start, suffix in SUFFIXES.items() if encoded.startswith(start)), ".picture")


def answer_lines(tasks: Sequence[BenchmarkTask], answers: dict[str, list[Answer]]) -> str:
    """The lines of answers, in the order of the questions, with nothing but what ``read_answers`` needs."""
    lines = []
    for task in tasks:
        for question, answer in zip(task.questions, answers[task.name], strict=True):
            row = {
                "benchmark": task.name,
                "id": question.id,
                "digest": _question_digest(task.name, question),
                "answers": list(answer.texts),
                "new_tokens": answer.new_tokens,
                "truncated": answer.truncated,
                "error": answer.error,
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def read_answers(file: Path, tasks: Sequence[BenchmarkTask]) -> dict[str, list[Answer]]:
    """Read the answers to all questions of a run, by benchmark, line by line.

    Args:
        file: With one line for each question, in the order of the questions.
        tasks: The benchmarks of the run.

    Raises:
        UserError: The file cannot be read, a line is longer than ``LINE_LIMIT`` or no JSON, or its answers are not
            exactly one to each question, in order, asked as the run asks. The location has the line.
    """
    whole = digest([[task.name, questions_digest(task.questions)] for task in tasks])
    questions = [(task.name, question) for task in tasks for question in task.questions]
    asked = {
        (name, question.id): _Asked(place, question, _fields(name, question, whole))
        for place, (name, question) in enumerate(questions)
    }
    found: dict[int, Answer] = {}
    lines: list[int] = []
    for number, row in _rows(file):
        where = f"{file}, line {number}"
        key = (row.get("benchmark"), row.get("id"))
        one = asked.get(key) if all(isinstance(part, str) for part in key) else None  # type: ignore[arg-type]
        if one is None:
            hint = "export the questions of this run, and answer each of them once"
            raise UserError(f"the run has no question {key[1]!r} of {key[0]!r}", location=where, hint=hint)
        if one.place in found:
            line = lines.index(one.place) + 1
            hint = "keep one of the two lines"
            raise UserError(
                f"question {key[1]!r} of {key[0]} is answered in line {line}, too", location=where, hint=hint
            )
        found[one.place] = _answer(row, one, where)
        lines.append(one.place)
    _check_complete(file, questions, lines)
    ordered = iter(found[place] for place in range(len(questions)))
    return {task.name: [next(ordered) for _ in task.questions] for task in tasks}


def _question_digest(benchmark: str, question: Question) -> str:
    """Digest of what is shown and how it is asked."""
    return digest([benchmark, questions_digest([question])])


def _fields(benchmark: str, question: Question, whole: str) -> Row:
    """The exported fields of a question but for its pictures, which its digest covers."""
    return {
        "benchmark": benchmark,
        "id": question.id,
        "turns": list(question.turns),
        "asked": ONE_TURN if len(question.turns) == 1 else SEVERAL_TURNS,
        "max_new_tokens": question.max_new_tokens,
        "decoding": {
            "strategy": "greedy",
            "repetition_penalty": question.repetition_penalty,
            "template": question.template or None,
        },
        "digest": _question_digest(benchmark, question),
        "set": whole,
    }


def _rows(file: Path) -> Iterator[tuple[int, Row]]:
    """The number and the content of each line; only one line is in memory."""
    number = 0
    try:
        with file.open("rb") as stream:
            while line := stream.readline(LINE_LIMIT + 1):
                number += 1
                yield number, _parse(line, f"{file}, line {number}")
    except OSError as error:
        raise UserError(
            f"it cannot be read ({error.strerror})", location=str(file), hint="give another file"
        ) from error


def _parse(line: bytes, where: str) -> Row:
    if len(line) > LINE_LIMIT:
        hint = "write one line of JSON for each question"
        raise UserError(f"the line is longer than {LINE_LIMIT:,} bytes", location=where, hint=hint)
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        hint = "write one JSON object on each line, in UTF-8"
        raise UserError(f"this is no JSON ({first_line(error)})", location=where, hint=hint) from error
    if not isinstance(row, dict):
        raise UserError("this is no JSON object", location=where, hint="write one JSON object on each line")
    return row


def _answer(row: Row, asked: _Asked, where: str) -> Answer:
    """The answer of a line.

    Raises:
        UserError: The question was another, or the answer is not of the form.
    """
    hint = "export the questions of this run again, and answer those"
    if "digest" not in row:
        raise UserError("the digest of the question is missing", location=where, hint="keep it from the export")
    for name in CHECKED:
        if name in row and row[name] != asked.fields[name]:
            problem = f"it was asked otherwise: its {name!r} is not that of the same question in this run"
            raise UserError(problem, location=where, hint=hint)
    turns, texts = len(asked.question.turns), row.get("answers")
    if not isinstance(texts, list) or len(texts) != turns or not all(isinstance(text, str) for text in texts):
        hint = 'write them as "answers": ["..."]'
        raise UserError(f"it needs a list of {turns} texts, one for each turn", location=where, hint=hint)
    tokens, cut, error = row.get("new_tokens", 0), row.get("truncated", False), row.get("error", "")
    if type(tokens) is not int or tokens < 0 or not isinstance(cut, bool) or not isinstance(error, str):
        hint = "leave them out, or write a number, true or false, and a text"
        raise UserError("new_tokens, truncated or error is of another kind", location=where, hint=hint)
    try:
        "".join([*texts, error]).encode()
    except UnicodeEncodeError as problem:
        hint = "write the text in UTF-8"
        raise UserError("a text has half a surrogate pair", location=where, hint=hint) from problem
    return Answer(asked.question.id, tuple(texts), tokens, cut, error)


def _check_complete(file: Path, questions: Sequence[tuple[str, Question]], lines: Sequence[int]) -> None:
    """Check that each question is answered, and that the lines have the order of the questions."""
    missing = sorted(set(range(len(questions))) - set(lines))
    if missing:
        named = ", ".join(f"{questions[place][1].id!r} of {questions[place][0]}" for place in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        problem = f"{len(missing)} of {len(questions)} questions have no answer: {named}{more}"
        raise UserError(problem, location=str(file), hint="answer every question of the export")
    for number, place in enumerate(lines):
        if place != number:
            problem = f"the lines are in another order: question {questions[number][1].id!r} was expected here"
            hint = "write the answers in the order of the export"
            raise UserError(problem, location=f"{file}, line {number + 1}", hint=hint)
