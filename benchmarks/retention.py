"""Retention: the twelve benchmarks, declared as data, and the one class that serves all of them.

Questions and scores are VLMEvalKit's own, made in a separate process (``vlmeval_client``). Source of the facts:
VLMEvalKit 0.0.20 (ms-vlmeval) and KORE (arXiv 2510.19316), section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.base import Benchmark, first_clusters, pair_answers
from benchmarks.errors import UserError
from benchmarks.judges import JudgeClient
from benchmarks.records import Answer, Question, Score
from benchmarks.retention_specs import PREFIX, Protocol, RetentionSpec
from benchmarks.vlmeval import client as vlmeval_client


class Retention(Benchmark):
    """One of the twelve, in its published size or as its miniature: the same code, another TSV.

    Args:
        data: The TSV, in VLMEvalKit's format.
        workspace: Private folder; pictures are unpacked into it.
        spec: Which of the twelve.
        name: As the tables show it; "mini-MME" for a miniature.
        judge: "rule" for the deterministic judge of the miniature, a language model, "" for none.
        protocol: Whose prompts and rules; a benchmark without LLaVA's scripts keeps VLMEvalKit's.
        published: Refuse a table that is not the published one.
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
    ) -> None:
        super().__init__(data, workspace)
        self.spec, self.name, self.published = spec, name or spec.name, published
        self.judge = judge if isinstance(judge, str) else judge.name
        self.grader = None if isinstance(judge, str) or not spec.judge else judge
        self.protocol: Protocol = protocol if spec.llava else "vlmevalkit"

    @property
    def is_mini(self) -> bool:
        """Whether this is the miniature; its scores are not the paper's."""
        return self.name.startswith(PREFIX)

    @property
    def max_new_tokens(self) -> int:
        """Most new tokens for one answer."""
        if self.is_mini:
            return self.spec.mini_tokens
        return self.spec.llava.tokens if self.spec.llava and self.protocol == "llava" else self.spec.tokens

    def check_published(self) -> None:
        """Compare the table with the published md5, where that is wanted.

        Raises:
            UserError: It is another one.
        """
        if not self.published or self.is_mini:
            return
        found = vlmeval_client.md5_of(self.data)
        if found != self.spec.md5:
            raise UserError(
                f"the table is not the published one: its md5 is {found}, not {self.spec.md5}",
                location=str(self.data),
                hint=f"fetch it again from {self.spec.url}, or set data.published=false to use a table of your own",
            )

    def remarks(self) -> tuple[str, ...]:
        """What stands beside the number, whatever the answers."""
        if self.is_mini:
            return ()
        own = () if vlmeval_client.md5_of(self.data) == self.spec.md5 else ("not the published table",)
        scripts = self.spec.llava if self.protocol == "llava" else None
        return (f"LLaVA's protocol: {scripts.headline}", *own) if scripts else own

    def fingerprint(self) -> str:
        """Sha256 over the TSV, the judge, and the versions of VLMEvalKit and of what stands round it.

        Raises:
            UserError: The TSV or VLMEvalKit is missing.
        """
        parts = (vlmeval_client.sha256_of(self.data), self.spec.name, self.judge, self.signature())
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def signature(self) -> str:
        """How the number was made, in one line."""
        judge = self.judge or ("missing" if self.spec.judge else "none needed")
        protocol = self.protocol.removesuffix(
            "kit"
        )  # written so since there was but one; stored scores are keyed by it
        return (
            f"{self.name}|{vlmeval_client.versions()}|protocol {protocol}|judge {judge}"
            f"|max_new_tokens {self.max_new_tokens}"
        )

    def questions(self, limit: int | None = None) -> list[Question]:
        """VLMEvalKit's own prompts in file order, or whole clusters until ``limit`` questions are there.

        Raises:
            UserError: The TSV is bad (all bad rows are listed) or VLMEvalKit is missing.
        """
        return first_clusters(vlmeval_client.questions_many([self])[0], limit)

    def chances(self) -> dict[str, float]:
        """How likely a blind guess is right, by question id.

        Even among a row's options; for free answers the share of the most frequent one; 0 where a judge grades.
        """
        return {row["id"]: row["chance"] for row in vlmeval_client.rows_many([self])[0]}

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Score:
        """Score with VLMEvalKit's own class.

        Raises:
            UserError: An answer is missing, doubled or belongs to no question (I3), or the scorer failed.
        """
        return score_many([(self, questions, answers)])[0]


def score_many(jobs: Sequence[tuple[Retention, Sequence[Question], Sequence[Answer]]]) -> list[Score]:
    """Score several benchmarks in one process; its start costs seconds, the scoring of a miniature almost nothing.

    Raises:
        UserError: As ``Retention.score``.
    """
    return vlmeval_client.score_many(
        [(benchmark, pair_answers(questions, answers)) for benchmark, questions, answers in jobs]
    )
