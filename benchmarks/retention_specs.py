"""The twelve retention benchmarks as VLMEvalKit publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MIRROR = "https://opencompass.openxlab.space/utils"
MINI_PREFIX = "mini-"
VLMEVALKIT_TOKENS = 2048
"""Maximum new tokens of one answer. Source: VLMEvalKit's classes for Qwen2.5-VL and LLaVA (vlmeval/vlm)."""
VLMEVALKIT_PENALTY = 1.0
"""Repetition penalty, whatever the model's folder says. Source: vlmeval/vlm/qwen2_vl/model.py; LLaVA has none."""
Protocol = Literal["vlmevalkit", "vlmevalkit-llava", "llava"]
"""Whose prompts and scoring rules; numbers of different protocols are never compared.

``vlmevalkit``: VLMEvalKit's prompts for any model. ``vlmevalkit-llava``: as VLMEvalKit's own class for LLaVA asks, in
its chat template; VLMEvalKit's rules. ``llava``: LLaVA's own scripts where KORE used them, else ``vlmevalkit-llava``.
"""
CIRCULAR = ("mmbench", "ccbench", "circular", "mmcr")
"""Parts of the names of sets that VLMEvalKit asks in every rotation (``ImageMCQDataset.evaluate_heuristic``)."""
CLASS_OF_LLAVA: Protocol = "vlmevalkit-llava"
Family = Literal["yes-no", "choice", "short answer", "mathvista", "mathvision", "mia", "mmdu", "open"]


@dataclass(frozen=True)
class LlavaProtocol:
    """How LLaVA's own evaluation scripts run a benchmark that KORE evaluated with them."""

    headline: str
    tokens: int


@dataclass(frozen=True)
class RetentionSpec:
    """One of the twelve benchmarks, or a further one (``benchmarks.further``)."""

    name: str
    dimension: str
    dataset: str
    """VLMEvalKit's name; its rules test for parts of it, so the miniature uses the same name."""
    family: Family
    headline: str
    """How the headline is computed, on 0-100."""
    chance: float
    """Headline of guessing uniformly among the options of the published set (0 for free answers). MathVista's and
    MathVision's are their authors' "random chance" (arXiv 2310.02255, testmini; arXiv 2402.14804, 218 of 3,040)."""
    mini_tokens: int
    """Maximum new tokens of one answer in the miniature."""
    file: str
    """Path of the published TSV below ``MIRROR``, or its whole address."""
    md5: str
    rows: int
    columns: tuple[str, ...] = ("question", "answer")
    split: str = ""
    """Only rows of this split are asked and scored, if the table has splits."""
    cluster: Literal["image", "set", "column"] = "image"
    """What dependent questions share: an image, one of HallusionBench's sets, or a value of the column ``cluster``."""
    judge: str = ""
    """The original's use of a language model: "extract" the answer, "grade" it, or empty for none."""
    set_note: str = ""
    """Which questions the published table holds, and which the paper's number may be over; shown beside the number."""
    licence: str = ""
    """Unverified; empty if unknown."""
    llava: LlavaProtocol | None = None
    """LLaVA's protocol; None if KORE used VLMEvalKit, too."""
    further: bool = False
    """Whether it is none of the twelve, and outside the paper's summaries."""
    tokens: int = VLMEVALKIT_TOKENS
    """Maximum new tokens of one answer by VLMEvalKit's protocols."""
    uses_f1: bool = False
    """Whether a further benchmark of the family "yes-no" has the F1 of "Yes" as its headline."""

    def protocol(self, chosen: Protocol) -> Protocol:
        """The protocol of this benchmark in a run with the ``chosen`` one."""
        return CLASS_OF_LLAVA if chosen == "llava" and self.llava is None else chosen

    @property
    def url(self) -> str:
        """URL of the published TSV."""
        return self.file if "://" in self.file else f"{MIRROR}/{self.file}"

    @property
    def is_circular(self) -> bool:
        """Whether VLMEvalKit asks each question in every rotation of its options (its rule, by the data set's name)."""
        return self.family == "choice" and any(part in self.dataset.lower() for part in CIRCULAR)

    @property
    def judge_reads_unread(self) -> bool:
        """Whether VLMEvalKit's ``run.py`` lets a language model read the answers that the rule cannot read."""
        return self.family in ("yes-no", "choice")


SPECS: tuple[RetentionSpec, ...] = (
    RetentionSpec(
        "MME", "COM", "MME", "yes-no",
        "(perception + reasoning) / (200 x categories present) x 100; each category gives acc + acc+",
        37.5, 24, "VLMEval/MME.tsv", "b36b43c3f09801f5d368627fb92187c3", 2374,
        columns=("question", "answer", "category", "image_path"),
        llava=LlavaProtocol(
            "(perception + cognition) / 2800 x 100 by MME's script: yes or no in the first 4 letters", 128
        ),
    ),
    RetentionSpec(
        "MMBench", "COM", "MMBench_DEV_EN", "choice", "circular accuracy of split dev: right in every rotation",
        0.4, 24, "benchmarks/MMBench/MMBench_DEV_EN.tsv", "b6caf1133a01c6bb705cf753bb527ed8", 4329,
        columns=("question", "answer", "A", "B"), split="dev",
        llava=LlavaProtocol(
            "LLaVA's prompt; circular accuracy of split dev, which its scripts leave to the server", 1024
        ),
        licence="Apache-2.0",
    ),
    RetentionSpec(
        "SEEDBench2_Plus", "OCR", "SEEDBench2_Plus", "choice", "accuracy",
        25.0, 24, "benchmarks/SEEDBench/SEEDBench2_Plus.tsv", "e32d3216dc4f452b0fe497a52015d1fd", 2277,
        columns=("question", "answer", "A", "B"),
        licence="CC-BY-NC-4.0",
    ),
    RetentionSpec(
        "OCRVQA", "OCR", "OCRVQA_TESTCORE", "short answer", "exact match without regard to case",
        0.0, 24, "VLMEval/OCRVQA_TESTCORE.tsv", "c5239fe77db8bdc1f2ad8e55e0d1fe97", 3072,
    ),
    RetentionSpec(
        "ScienceQA", "M-DIS", "ScienceQA_TEST", "choice", "accuracy on the questions that have an image",
        40.0, 24, "benchmarks/ScienceQA/ScienceQA_TEST.tsv", "e42e9e00f9c59a80d8a5db35bc32b71f", 2017,
        columns=("question", "answer", "A", "B"),
        llava=LlavaProtocol("accuracy on the questions that have an image (its script's IMG-Accuracy)", 1024),
        set_note="over the 2,017 test questions with a picture; the paper's 69.83 is most likely over all 4,241 (a "
        "published file of LLaVA-1.5-7B's answers has 70.17 there)",
        licence="CC-BY-NC-SA-4.0",
    ),
    RetentionSpec(
        "MMMU", "M-DIS", "MMMU_DEV_VAL", "choice", "accuracy of split validation",
        25.0, 24, "VLMEval/MMMU_DEV_VAL.tsv", "585e8ad75e73f75dcad265dfd0417d64", 1050,
        columns=("question", "answer", "A", "B"), split="validation",
        licence="Apache-2.0",
    ),
    RetentionSpec(
        "MIA-Bench", "INS", "MIA-Bench", "mia", "mean share of the instruction's weighted components that are followed",
        0.0, 64, "VLMEval/Mia-Bench.tsv", "0b9de595f4dd40af18a69b94d89aba82", 400,
        columns=("question", "components", "component_weight", "component_type", "num_of_component"), judge="grade",
    ),
    RetentionSpec(
        "MMDU", "M-IDU", "MMDU", "mmdu", "Overall Score x 10 over all turns (set=all); 10 is its lowest graded value",
        10.0, 48, "VLMEval/MMDU.tsv", "848b635a88a078f49aebcc6e39792061", 110, judge="grade",
    ),
    RetentionSpec(
        "MathVista", "MAT", "MathVista_MINI", "mathvista", "accuracy over all",
        17.9, 24, "VLMEval/MathVista_MINI.tsv", "f199b98e178e5a2a20e7048f5dcb0464", 1000,
        columns=("question", "answer", "question_type", "answer_type", "choices", "answer_option", "task", "skills"),
        judge="extract",
        licence="CC-BY-SA-4.0",
    ),
    RetentionSpec(
        "MathVision", "MAT", "MathVision", "mathvision",
        "accuracy over all, compared as values; the published rule, where 'A' equals any number, stands beside it",
        7.17, 24, "VLMEval/MathVision.tsv", "93f6de14f7916e598aa1b7165589831e", 3040,
        columns=("question", "answer", "choices", "category"), judge="extract",
        licence="MIT",
    ),
    RetentionSpec(
        "POPE", "HAL", "POPE", "yes-no", "F1 of 'Yes' over all; an unreadable answer counts as 'No'",
        50.0, 24, "VLMEval/POPE.tsv", "c12f5acb142f2ef1f85a26ba2fbe41d5", 5127,
        columns=("question", "answer", "category"),
        llava=LlavaProtocol("mean accuracy of the three splits; F1 stands beside it", 128),
        set_note="over VLMEvalKit's table, 9,000 questions in three splits; LLaVA's question file, which the paper's "
        "number is most likely over, has 8,910 (2,910 in split random)",
        licence="MIT",
    ),
    RetentionSpec(
        "HallusionBench", "HAL", "HallusionBench", "yes-no", "mean of aAcc, fAcc and qAcc",
        25.0, 24, "VLMEval/HallusionBench.tsv", "0c23ac0dc9ef46832d7a24504f2a0c7c", 951,
        columns=("question", "answer", "category", "l2-category"), cluster="set",
        licence="BSD-3-Clause",
    ),
)  # fmt: skip


SPEC_BY_NAME = {spec.name: spec for spec in SPECS}


def spec_of_job(job: Mapping[str, Any]) -> RetentionSpec:
    """The benchmark of a job of the scoring process, in which a further benchmark is plain data."""
    if "further" not in job:
        return SPEC_BY_NAME[job["spec"]]
    return RetentionSpec(**{**job["further"], "columns": tuple(job["further"]["columns"])})
