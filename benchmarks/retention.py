"""The retention benchmarks: one class for all twelve, and functions that ask or score several of them at once.

VLMEvalKit makes the questions and the scores, in a separate process (``vlmeval.client``). Sources: VLMEvalKit 0.0.20
(ms-vlmeval) and KORE (arXiv 2510.19316), section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.base import Benchmark, first_clusters, pair_answers
from benchmarks.errors import UserError
from benchmarks.judges import JudgeClient
from benchmarks.records import Answer, ItemScore, Picture, Question, Score
from benchmarks.retention_specs import (
    CLASS_OF_LLAVA,
    MINI_PREFIX,
    VLMEVALKIT_PENALTY,
    Protocol,
    RetentionSpec,
)
from benchmarks.vlmeval import client

UNPACKED = 3
"""Increased whenever an unpacked question has other fields, or a table is checked in another way."""
MAX_JUDGE_ROUNDS = 4
"""How often scoring starts again with the judge's new replies."""


class Retention(Benchmark):
    """One of the twelve benchmarks, in its published size or as its miniature: the same code, another TSV.

    Args:
        data: The TSV, in VLMEvalKit's format.
        workspace: Private folder; pictures are unpacked into it.
        spec: Which of the twelve, or a further one.
        name: The name in the tables; "mini-MME" for a miniature.
        judge: "rule" for the deterministic judge of the miniature, a language model, or "" for none. A language model
            also reads the choices and the yes or no that VLMEvalKit's rules cannot read, as its ``run.py`` lets it.
        protocol: Whose prompts and rules to use, by ``RetentionSpec.protocol``.
        published: Refuse a table that is not the published one.
        max_new_tokens: Maximum new tokens of one answer; None for what the protocol allows.
    """

    def __init__(
        self,
        data: Path,
        workspace: Path,
        spec: RetentionSpec,
        name: str = "",
        judge: str | JudgeClient = "",
        protocol: Protocol = "vlmevalkit",
        published: bool = False,
        max_new_tokens: int | None = None,
    ) -> None:
        super().__init__(data, workspace)
        self._max_new_tokens = max_new_tokens
        self.spec, self.name, self.published = spec, name or spec.name, published
        self.judge = judge if isinstance(judge, str) else judge.name
        self.protocol = spec.protocol(protocol)
        # LLaVA's scripts never ask a judge; the rule judge of the miniature grades, and reads no choices.
        asks = bool(spec.judge) or (spec.judge_reads_unread and self.protocol != "llava")
        self.judge_client = None if isinstance(judge, str) or not asks else judge

    @property
    def is_mini(self) -> bool:
        """Whether this is the miniature, whose scores are not comparable with the paper's."""
        return self.name.startswith(MINI_PREFIX)

    @property
    def max_new_tokens(self) -> int:
        """Maximum new tokens of one answer."""
        if self._max_new_tokens is not None:
            return self._max_new_tokens
        if self.is_mini:
            return self.spec.mini_tokens
        return self.spec.llava.tokens if self.spec.llava and self.protocol == "llava" else self.spec.tokens

    @property
    def repetition_penalty(self) -> float | None:
        """That of VLMEvalKit's class for Qwen2.5-VL; None for the model's own: LLaVA's class and scripts set none."""
        return None if self.is_mini or self.protocol != "vlmevalkit" else VLMEVALKIT_PENALTY

    def check_published(self) -> None:
        """Compare the table with the published md5, if ``published`` is set.

        Raises:
            UserError: The table differs.
        """
        if not self.published or self.is_mini or not self.spec.md5:
            return
        md5 = client.table_digests(self.data).md5
        if md5 != self.spec.md5:
            raise UserError(
                f"the table is not the published one: its md5 is {md5}, not {self.spec.md5}",
                location=str(self.data),
                hint=f"fetch it again from {self.spec.url}, or set data.published=false to use your own table",
            )

    def notes(self) -> tuple[str, ...]:
        """Notes that belong to every score, whatever the answers."""
        if self.is_mini or not self.spec.md5:
            return ()
        published = client.table_digests(self.data).md5 == self.spec.md5
        own = tuple(filter(None, [self.spec.set_note if published else "not the published table"]))
        llava = self.spec.llava if self.protocol == "llava" else None
        return (f"LLaVA's protocol: {llava.headline}", *own) if llava else own

    def fingerprint(self) -> str:
        """Sha256 over the TSV, the judge, and the versions of VLMEvalKit and its adapter.

        Raises:
            UserError: The TSV or VLMEvalKit is missing.
        """
        parts = (client.table_digests(self.data).sha256, self.spec.name, self.judge, self.signature(), *self._further())
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def asking(self) -> str:
        """The protocol and the decoding, in words."""
        penalty = self.repetition_penalty
        factor = "the model's own repetition penalty" if penalty is None else f"repetition penalty {penalty}"
        return f"protocol {self.protocol}, at most {self.max_new_tokens:,} new tokens, {factor}"

    def signature(self) -> str:
        """How the score is computed, on one line."""
        judge = self.judge or ("missing" if self.spec.judge else "none needed")
        protocol = self.protocol.removesuffix("kit")  # the keys of stored scores have always used the short form
        penalty = "" if self.repetition_penalty is None else f"|repetition_penalty {self.repetition_penalty}"
        tokens = f"max_new_tokens {self.max_new_tokens}{penalty}"
        further = f"|{self.spec.family}, {self.spec.headline}" if self.spec.further else ""
        return f"{self.name}|{client.versions()}|protocol {protocol}|judge {judge}|{tokens}{further}"

    def _further(self) -> tuple[str, ...]:
        """What a digest has to cover of a further benchmark: all that defines it."""
        return (repr(self.spec),) if self.spec.further else ()

    def questions(self, limit: int | None = None) -> list[Question]:
        """VLMEvalKit's own prompts in file order, or whole clusters until at least ``limit`` questions are selected.

        Raises:
            UserError: The TSV is bad (all bad rows are listed) or VLMEvalKit is missing.
        """
        return first_clusters(questions_batch([self])[0], limit)

    def rows_left_out(self) -> dict[str, int]:
        """How many rows of the table are never asked, by the reason, such as another split.

        To be called after ``questions``, which unpacks the table.
        """
        return client.load_left_out(self.unpacked_folder())

    def chance_levels(self) -> dict[str, float]:
        """The probability that a blind guess is right, by question id.

        Uniform over a row's options; for free answers the share of the most frequent one; 0 if a judge grades.
        """
        return {row["id"]: row["chance"] for row in rows_batch([self])[0]}

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Score:
        """Score with VLMEvalKit's own class.

        Raises:
            UserError: An answer is missing, duplicated or does not belong to a question (I3), or the scorer failed.
        """
        return score_batch([(self, questions, answers)])[0]

    def unpacked_folder(self) -> Path:
        """The folder of the unpacked questions, named by a digest of everything that determines them."""
        own = (*(() if self.protocol == "vlmevalkit" else (self.protocol,)), *self._further())
        parts = (client.table_digests(self.data).sha256, self.spec.name, client.versions(), UNPACKED, *own)
        return self.workspace / hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def questions_batch(benchmarks: Sequence[Retention]) -> list[list[Question]]:
    """The questions of several benchmarks; those unpacked before are read back and verified.

    Raises:
        UserError: A table is bad, or VLMEvalKit is missing.
    """
    batch = zip(benchmarks, rows_batch(benchmarks), strict=True)
    return [_questions(benchmark, benchmark.unpacked_folder(), rows) for benchmark, rows in batch]


def rows_batch(benchmarks: Sequence[Retention]) -> list[client.Rows]:
    """Like ``questions_batch``, but as plain data: pictures as paths below ``unpacked_folder``, with chance levels."""
    for benchmark in benchmarks:
        benchmark.check_published()
    folders = [benchmark.unpacked_folder() for benchmark in benchmarks]
    unpacked = [client.load_unpacked(folder) for folder in folders]
    missing = [i for i, rows in enumerate(unpacked) if rows is None]
    if missing:
        with client.scratch_folder(benchmarks[missing[0]].workspace) as scratch:
            jobs = [_job("questions", benchmarks[i], scratch / str(i)) for i in missing]
            for i, job, result in zip(missing, jobs, client.run_jobs(jobs, scratch), strict=True):
                client.save_unpacked(Path(job["folder"]), folders[i], result["rows"])
                unpacked[i] = result["rows"]
    return [rows or [] for rows in unpacked]


def score_batch(jobs: Sequence[tuple[Retention, Sequence[Question], Sequence[Answer]]]) -> list[Score]:
    """Score several benchmarks in one process: starting it takes seconds, scoring a miniature almost nothing.

    Raises:
        UserError: As ``Retention.score``.
    """
    if not jobs:
        return []
    with client.scratch_folder(jobs[0][0].workspace) as scratch:
        requests = [_score_job(*job, scratch / str(i)) for i, job in enumerate(jobs)]
        results = client.run_jobs(requests, scratch)
        for number in range(MAX_JUDGE_ROUNDS):
            waiting = [i for i, result in enumerate(results) if "judge_requests" in result]
            if not waiting:
                break
            for i in waiting:
                requests[i]["replies"] |= _judge_replies(jobs[i][0], results[i]["judge_requests"])
                requests[i]["folder"] = str(scratch / f"{i}-{number}")
            for i, result in zip(waiting, client.run_jobs([requests[i] for i in waiting], scratch), strict=True):
                results[i] = result
    return [_score(benchmark, result) for (benchmark, _, _), result in zip(jobs, results, strict=True)]


def _judge_replies(benchmark: Retention, requests: dict[str, Any]) -> dict[str, str | None]:
    if benchmark.judge_client is None:
        raise ValueError(f"{benchmark.name} sent requests to a judge that it does not have")
    return benchmark.judge_client.replies(requests)


def _score(benchmark: Retention, result: dict[str, Any]) -> Score:
    if "judge_requests" in result:
        raise UserError(
            f"the judge got new requests in each of {MAX_JUDGE_ROUNDS} rounds",
            location=benchmark.name,
            hint="report this as a bug",
        )
    judge = benchmark.judge_client
    failure = (f"the judge: {judge.last_error}",) if judge and result["pending"] else ()
    return Score(
        benchmark=benchmark.name,
        headline=result["headline"],
        metrics=result["metrics"],
        items=tuple(ItemScore(question_id, values, status) for question_id, values, status in result["items"]),
        judge=result["judge"],
        notes=(*benchmark.notes(), *result["notes"], *failure),
        pending=result["pending"],
    )


def _score_job(
    benchmark: Retention, questions: Sequence[Question], answers: Sequence[Answer], folder: Path
) -> dict[str, Any]:
    pairs = pair_answers(questions, answers)
    rows = [[question.id, list(answer.texts), answer.error] for question, answer in pairs]
    replies: dict[str, Any] = {} if benchmark.judge_client is None else {"replies": {}}
    return _job("score", benchmark, folder) | {"answers": rows} | replies


def _job(task: str, benchmark: Retention, folder: Path) -> dict[str, Any]:
    further = {"further": asdict(benchmark.spec)} if benchmark.spec.further else {}
    return further | {
        "task": task,
        "spec": benchmark.spec.name,
        "name": benchmark.name,
        "judge": benchmark.judge,
        "protocol": benchmark.protocol,
        "tsv": str(benchmark.data.resolve()),
        "folder": str(folder),
    }


def _questions(benchmark: Retention, folder: Path, rows: client.Rows) -> list[Question]:
    return [
        Question(
            id=row["id"],
            benchmark=benchmark.name,
            turns=tuple(row["turns"]),
            pictures=tuple(Picture(folder / name) for name, _ in row["pictures"]),
            reference=row["reference"],
            group=row["group"],
            type=row["type"],
            cluster=row["cluster"],
            max_new_tokens=benchmark.max_new_tokens,
            repetition_penalty=benchmark.repetition_penalty,
            table_text=row["table_text"],
            template=benchmark.protocol if benchmark.protocol == CLASS_OF_LLAVA else "",
        )
        for row in rows
    ]
