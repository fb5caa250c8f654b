"""Retention: the twelve benchmarks, declared as data, and the one class that serves all of them.

Questions and scores are VLMEvalKit's own, made in a separate process (``vlmeval_client``). Source of the facts:
VLMEvalKit 0.0.20 (ms-vlmeval) and KORE (arXiv 2510.19316), section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.base import Benchmark, first_clusters, paired
from benchmarks.errors import UserError
from benchmarks.judges import Grader
from benchmarks.records import Answer, Question, Score
from benchmarks.vlmeval import client as vlmeval_client

MIRROR = "https://opencompass.openxlab.space/utils"
PREFIX = "mini-"
Protocol = Literal["vlmevalkit", "llava"]
"""Whose prompt and rule of scoring; numbers of different protocols are never compared."""
Family = Literal["yes-no", "choice", "short answer", "mathvista", "mathvision", "mia", "mmdu"]


@dataclass(frozen=True)
class Scripts:
    """How LLaVA's own evaluation scripts treat a benchmark that KORE ran with them."""

    headline: str
    tokens: int


@dataclass(frozen=True)
class Spec:
    """What is to be known about one of the twelve."""

    name: str
    dimension: str
    dataset: str
    """VLMEvalKit's name; its rules look for parts of it, so the miniature runs under the same name."""
    family: Family
    headline: str
    """How the one number of the table comes about, on 0-100."""
    chance: float
    """Headline of guessing evenly among the options of the published set (0 where the answer is free)."""
    tokens: int
    """Most new tokens for one answer."""
    mini_tokens: int
    file: str
    """Path of the published TSV below ``MIRROR``."""
    md5: str
    rows: int
    columns: tuple[str, ...] = ("question", "answer")
    split: str = ""
    """Rows of this split are asked and scored, where the table has splits."""
    cluster: Literal["image", "set"] = "image"
    """Questions that share an image, or one of HallusionBench's sets, are not independent."""
    judge: str = ""
    """What the original has a language model do: "extract" the answer or "grade" it; empty where code does it all."""
    licence: str = ""
    """As far as we know it, written down without looking; empty where we know none."""
    llava: Scripts | None = None
    """LLaVA's protocol; None where KORE, too, ran VLMEvalKit."""

    @property
    def url(self) -> str:
        """Where the published TSV lies."""
        return f"{MIRROR}/{self.file}"


TWELVE: tuple[Spec, ...] = (
    Spec(
        "MME", "COM", "MME", "yes-no",
        "(perception + reasoning) / (200 x categories present) x 100; each category gives acc + acc+",
        37.5, 128, 24, "VLMEval/MME.tsv", "b36b43c3f09801f5d368627fb92187c3", 2374,
        columns=("question", "answer", "category", "image_path"),
        llava=Scripts("(perception + cognition) / 2800 x 100 by MME's script: yes or no in the first 4 letters", 128),
    ),
    Spec(
        "MMBench", "COM", "MMBench_DEV_EN", "choice", "circular accuracy of split dev: right in every rotation",
        0.4, 128, 24, "benchmarks/MMBench/MMBench_DEV_EN.tsv", "b6caf1133a01c6bb705cf753bb527ed8", 4329,
        columns=("question", "answer", "A", "B"), split="dev",
        llava=Scripts("LLaVA's prompt; circular accuracy of split dev, which its scripts leave to the server", 1024),
        licence="Apache-2.0",
    ),
    Spec(
        "SEEDBench2_Plus", "OCR", "SEEDBench2_Plus", "choice", "accuracy",
        25.0, 128, 24, "benchmarks/SEEDBench/SEEDBench2_Plus.tsv", "e32d3216dc4f452b0fe497a52015d1fd", 2277,
        columns=("question", "answer", "A", "B"),
        licence="CC-BY-NC-4.0",
    ),
    Spec(
        "OCRVQA", "OCR", "OCRVQA_TESTCORE", "short answer", "exact match without regard to case",
        0.0, 128, 24, "VLMEval/OCRVQA_TESTCORE.tsv", "c5239fe77db8bdc1f2ad8e55e0d1fe97", 3072,
    ),
    Spec(
        "ScienceQA", "M-DIS", "ScienceQA_TEST", "choice", "accuracy on the questions that have an image",
        40.0, 128, 24, "benchmarks/ScienceQA/ScienceQA_TEST.tsv", "e42e9e00f9c59a80d8a5db35bc32b71f", 2017,
        columns=("question", "answer", "A", "B"),
        llava=Scripts("accuracy on the questions that have an image (its script's IMG-Accuracy)", 1024),
        licence="CC-BY-NC-SA-4.0",
    ),
    Spec(
        "MMMU", "M-DIS", "MMMU_DEV_VAL", "choice", "accuracy of split validation",
        25.0, 512, 24, "VLMEval/MMMU_DEV_VAL.tsv", "585e8ad75e73f75dcad265dfd0417d64", 1050,
        columns=("question", "answer", "A", "B"), split="validation",
        licence="Apache-2.0",
    ),
    Spec(
        "MIA-Bench", "INS", "MIA-Bench", "mia", "mean share of the instruction's weighted components that are followed",
        0.0, 2048, 64, "VLMEval/Mia-Bench.tsv", "0b9de595f4dd40af18a69b94d89aba82", 400,
        columns=("question", "components", "component_weight", "component_type", "num_of_component"), judge="grade",
    ),
    Spec(
        "MMDU", "M-IDU", "MMDU", "mmdu", "Overall Score x 10 over all turns (set=all); 10 is its lowest graded value",
        10.0, 2048, 48, "VLMEval/MMDU.tsv", "848b635a88a078f49aebcc6e39792061", 110, judge="grade",
    ),
    Spec(
        "MathVista", "MAT", "MathVista_MINI", "mathvista", "accuracy over all",
        0.0, 2048, 24, "VLMEval/MathVista_MINI.tsv", "f199b98e178e5a2a20e7048f5dcb0464", 1000,
        columns=("question", "answer", "question_type", "answer_type", "choices", "answer_option", "task", "skills"),
        judge="extract",
        licence="CC-BY-SA-4.0",
    ),
    Spec(
        "MathVision", "MAT", "MathVision", "mathvision",
        "accuracy over all, compared as numbers; the published rule, where 'A' equals any number, stands beside it",
        0.0, 2048, 24, "VLMEval/MathVision.tsv", "93f6de14f7916e598aa1b7165589831e", 3040,
        columns=("question", "answer", "choices", "category"), judge="extract",
        licence="MIT",
    ),
    Spec(
        "POPE", "HAL", "POPE", "yes-no", "F1 of 'Yes' over all; an unreadable answer counts as 'No'",
        50.0, 128, 24, "VLMEval/POPE.tsv", "c12f5acb142f2ef1f85a26ba2fbe41d5", 5127,
        columns=("question", "answer", "category"),
        llava=Scripts("mean accuracy of the three splits; F1 stands beside it", 128),
        licence="MIT",
    ),
    Spec(
        "HallusionBench", "HAL", "HallusionBench", "yes-no", "mean of aAcc, fAcc and qAcc",
        25.0, 128, 24, "VLMEval/HallusionBench.tsv", "0c23ac0dc9ef46832d7a24504f2a0c7c", 951,
        columns=("question", "answer", "category", "l2-category"), cluster="set",
        licence="BSD-3-Clause",
    ),
)  # fmt: skip
BY_NAME = {spec.name: spec for spec in TWELVE}


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
        spec: Spec,
        name: str = "",
        judge: str | Grader = "",
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
                where=str(self.data),
                mend=f"fetch it again from {self.spec.url}, or set data.published=false to use a table of your own",
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
        [(benchmark, paired(questions, answers)) for benchmark, questions, answers in jobs]
    )
