"""The measures of model editing beside adaptation: generality, portability and locality, one question set each.

Whose definitions: the measures, and the columns of the data, are those of MMEdit (Cheng et al. 2023, arXiv 2310.08475)
and VLKEB (Huang et al. 2024, arXiv 2403.07350), both in the code of EasyEdit (Wang et al. 2023, arXiv 2308.07269):

- generality: after the edit the reference is also given to the question in other words on the same picture
  (``rephrase``) and to the same question on another picture (``image_rephrase``);
- portability (VLKEB; the term is Yao et al.'s, arXiv 2305.13172): questions whose answer follows from the edit over
  one or more hops (``port_new``), on the same picture;
- locality: questions that the edit is not about, text-only (``loc``) and on a picture (``m_loc``), are answered as
  before.

What differs here. EasyEdit and VLKEB give the model the reference and count the positions whose most probable token is
right (generality, portability), or is what it was before (locality; in EasyEdit's ``MultimodalTrainer`` the most
probable token for ``loc``, the ten most probable in their order for ``m_loc``). Here the model writes its own answer:
generality and portability are CEM, as in EVOKE, and an answer is kept if it equals the untouched base's own after
CEM's normalisation. All edits are made at once, not one at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.base import Benchmark, first_clusters, pair_answers
from benchmarks.data.columns import optional_text, require_id, require_text
from benchmarks.data.json_rows import parse_rows
from benchmarks.data.picture_values import from_json, open_picture
from benchmarks.data.questions import question_row, question_rows, require_picture
from benchmarks.data.rows import folder_of
from benchmarks.metrics import cem, normalize
from benchmarks.records import IMAGE, Answer, ItemScore, Picture, Question, Score, Status

EDITING = "Editing"
"""The name of the benchmark, and its dimension."""
GENERALITY_TEXT, GENERALITY_IMAGE = "generality/text", "generality/image"
PORTABILITY = "portability"
"""Followed by the kind of hop, as in ``portability/2-hop``."""
LOCALITY_TEXT, LOCALITY_IMAGE = "locality/text", "locality/image"
COLUMNS = ("rephrase", "image_rephrase", "port_new", "loc", "m_loc")
"""What a row may have beside its own question; each makes questions of one measure."""
SCORER = "1"
"""Increased whenever the same answers would score differently."""


def is_kept(answer: str, base: str) -> bool:
    """Whether an answer equals the untouched base's own after CEM's normalisation."""
    return normalize(answer) == normalize(base)


class Editing(Benchmark):
    """The questions of all measures, each with its measure as ``group``. It has no headline: a column a measure.

    Args:
        data: The file or folder with the questions about the new knowledge, or one with the same columns.
        workspace: Not used.
        name: The name in the tables.
        max_new_tokens: Maximum new tokens of one answer; EVOKE's.
    """

    has_headline = False

    def __init__(self, data: Path, workspace: Path, name: str = EDITING, max_new_tokens: int = 128) -> None:
        super().__init__(data, workspace)
        self.name, self.max_new_tokens = name, max_new_tokens

    @cached_property
    def _questions(self) -> list[Question]:
        hint = "fix or delete these rows; nothing was scored"
        rows = parse_rows(self.data, question_rows, self._parse_row, hint, key=lambda row: row[0])
        return [question for _, questions in rows for question in questions]

    def _parse_row(self, raw: dict[str, Any]) -> tuple[str, list[Question]]:
        """The row's id and its questions of every measure."""
        folder = folder_of(self.data)
        row = question_row(raw, folder)
        if "question_id" not in row:
            raise ValueError("the column 'question_id' is missing")
        name = require_id(row, "question_id")
        return name, [
            *self._about_the_item(row, name, folder),
            *self._unrelated(row, name, folder),
        ]

    def _about_the_item(self, row: Mapping[str, Any], name: str, folder: Path) -> Iterator[Question]:
        """Generality and portability."""
        row = dict(row)
        if row.get("rephrase"):
            picture, asked = open_picture(folder, require_picture(row)), require_text(row, "rephrase")
            yield self._question(f"{name}/rephrase", GENERALITY_TEXT, asked, require_text(row, "answer"), row, picture)
        if row.get("image_rephrase"):
            picture, asked = open_picture(folder, row["image_rephrase"]), require_text(row, "text")
            reference = require_text(row, "answer")
            yield self._question(f"{name}/image_rephrase", GENERALITY_IMAGE, asked, reference, row, picture)
        for number, (kind, asked, reference) in enumerate(_hops(row.get("port_new")), start=1):
            picture = open_picture(folder, require_picture(row))
            measure = f"{PORTABILITY}/{kind}"
            yield self._question(f"{name}/port_new/{number}", measure, asked, reference, row, picture)

    def _unrelated(self, row: Mapping[str, Any], name: str, folder: Path) -> Iterator[Question]:
        """Locality. The references are shown beside the answers; no number depends on them."""
        row = dict(row)
        if row.get("loc"):
            yield self._question(
                f"{name}/loc", LOCALITY_TEXT, require_text(row, "loc"), optional_text(row, "loc_ans"), row
            )
        if row.get("m_loc"):
            picture, asked = open_picture(folder, row["m_loc"]), require_text(row, "m_loc_q")
            yield self._question(f"{name}/m_loc", LOCALITY_IMAGE, asked, optional_text(row, "m_loc_a"), row, picture)

    def _question(
        self,
        name: str,
        measure: str,
        text: str,
        reference: str,
        row: Mapping[str, Any],
        picture: Picture | None = None,
    ) -> Question:
        if IMAGE in text:
            raise ValueError(f"a question must not contain the marker {IMAGE}; the picture always comes first")
        text = text.strip()
        return Question(
            id=name,
            benchmark=self.name,
            turns=(f"{IMAGE}\n{text}" if picture else text,),
            pictures=(picture,) if picture else (),
            reference=reference.strip(),
            group=measure,
            type=optional_text(row, "type") or "unknown",
            cluster=picture.sha256 if picture else text,
            max_new_tokens=self.max_new_tokens,
        )

    def fingerprint(self) -> str:
        """Sha256 over the questions, their pictures and the version of the scorer."""
        digest = hashlib.sha256(f"editing {SCORER} {self.max_new_tokens}".encode())
        for question in self._questions:
            pictures = [picture.sha256 for picture in question.pictures]
            parts = (question.id, *question.turns, question.reference, question.group, question.type, pictures)
            digest.update(repr(parts).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def asking(self) -> str:
        """The protocol and the decoding, in words."""
        return f"as EVOKE, at most {self.max_new_tokens:,} new tokens, the model's own repetition penalty"

    def signature(self) -> str:
        """How the questions are answered, on one line."""
        return f"{self.name}|max_new_tokens {self.max_new_tokens}|repetition_penalty the model's own"

    def questions(self, limit: int | None = None) -> list[Question]:
        """All questions in file order, or of each measure whole clusters until at least ``limit`` are selected.

        Rows without any of ``COLUMNS`` have none; a measure without questions is absent from the tables.

        Raises:
            UserError: A row is bad; lists all bad rows with their lines.
        """
        measures = dict.fromkeys(question.group for question in self._questions)
        of_measure = [[question for question in self._questions if question.group == name] for name in measures]
        chosen = {question.id for each in of_measure for question in first_clusters(each, limit)}
        return [question for question in self._questions if question.id in chosen]

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Score:
        """CEM of each answer that has a reference; the report computes locality, which needs the base's answers.

        Raises:
            UserError: An answer is missing, duplicated or does not belong to a question (invariant I3).
        """
        pairs = pair_answers(questions, answers)
        items = tuple(_score_item(question, answer) for question, answer in pairs)
        by_measure: dict[str, list[float]] = {}
        for question, item in zip(questions, items, strict=True):
            if "CEM" in item.values and not question.group.startswith("locality/"):
                by_measure.setdefault(f"CEM/{question.group}", []).append(item.values["CEM"])
        metrics = {name: 100 * fmean(values) for name, values in by_measure.items()}
        return Score(self.name, None, metrics, items)


def _score_item(question: Question, answer: Answer) -> ItemScore:
    text = answer.texts[-1] if answer.texts else ""
    status: Status = "failed" if answer.error else "parsed" if text.strip() else "empty"
    values = {"CEM": float(cem(text, question.reference))} if question.reference else {}
    return ItemScore(question.id, values, status)


def _hops(value: object) -> Iterator[tuple[str, str, str]]:
    """Kind, question and answer of each entry of VLKEB's ``port_new``; a cell of a CSV file holds it as JSON."""
    entries = from_json(value) or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError("port_new must be a list of objects with port_type and Q&A")
    for entry in entries:
        asked = entry.get("Q&A")
        if not isinstance(asked, Mapping):
            raise ValueError("port_new: an entry needs Q&A, an object with Question and Answer")
        kind = require_text(dict(entry), "port_type").strip()
        yield kind, require_text(dict(asked), "Question"), require_text(dict(asked), "Answer")
