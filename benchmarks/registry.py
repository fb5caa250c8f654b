"""All benchmarks by name. Cheap to import: a listing does not load models, tables or scorers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from benchmarks.base import Benchmark
from benchmarks.data.rows import find_rows
from benchmarks.editing import EDITING, Editing
from benchmarks.errors import UserError, suggest
from benchmarks.evoke import NEW_TOKENS, QUESTIONS, Evoke
from benchmarks.further import FurtherBenchmark
from benchmarks.further_table import OwnBenchmark
from benchmarks.judges import JudgeClient
from benchmarks.retention import Retention
from benchmarks.retention_specs import MINI_PREFIX, SPEC_BY_NAME, SPECS, Protocol

ADAPTATION = "K.A"
"""The dimension of EVOKE; retention benchmarks have one of the seven."""
EMBEDDED = Path(__file__).parent / "mini" / "data"
"""The data of the miniature, shipped with the package."""
MINI_JUDGE = "rule"
EVOKE_FILE = "evoke_evaluation_data.jsonl"
QUESTION_FILES = (EVOKE_FILE, "questions.jsonl", "questions.csv", "questions.tsv")
"""Names of files of questions in a folder."""
EDITING_FILES = ("evoke_editing_data.jsonl", "editing.jsonl", "editing.csv", "editing.tsv")
"""Names of files with the questions of editing's measures, beside those about the new knowledge."""
INJECTION_FILE = "evoke_injection_data.json"
TUNING_FILES = {"injection": "evoke_tuning_injection_data.json", "evaluation": "evoke_tuning_evaluation_data.jsonl"}


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a listing shows about a benchmark, and how to open it."""

    name: str
    size: Literal["mini", "real"]
    dimension: str
    """COM, OCR, M-DIS, INS, M-IDU, MAT or HAL; K.A for EVOKE; its name for Editing; of a further benchmark, what its
    file says."""
    headline: str
    chance: float
    """Headline of guessing uniformly, on 0-100."""
    needs_judge: bool
    rows: int | None = None
    """Rows of the published table."""
    link: str = ""
    further: FurtherBenchmark | None = None
    """None for EVOKE, the twelve and Editing."""

    @property
    def original(self) -> str:
        """The name without the miniature's prefix, as used by summaries over the twelve."""
        return self.name.removeprefix(MINI_PREFIX)

    def open(
        self,
        workspace: Path,
        data: Path | None = None,
        judge: str | JudgeClient | None = None,
        protocol: Protocol = "vlmevalkit",
        published: bool = False,
        max_new_tokens: int | None = None,
    ) -> Benchmark:
        """Open the benchmark over its data.

        Args:
            workspace: Private folder for unpacked pictures and the scorer's files.
            data: The table or its folder; None for the embedded data of a miniature.
            judge: Replaces the default judge ("rule" for a miniature, none for the published size).
            protocol: Whose prompts and rules to use, if there is a choice.
            published: Refuse data that differs from the published data.
            max_new_tokens: Maximum new tokens of one answer; None for the benchmark's own.

        Raises:
            UserError: No data is given for a benchmark that is not embedded.
        """
        if self.further and self.further.table:
            return OwnBenchmark(self.further, self.name, workspace, judge or "", protocol, max_new_tokens)
        if data is None and self.size == "real":
            raise UserError(
                "its data does not come with this package",
                location=self.name,
                hint=f"fetch it ({self.link}) and pass its folder",
            )
        if self.dimension == ADAPTATION:
            folder = data or EMBEDDED / "evoke"
            file = find_rows(folder, QUESTION_FILES)
            client = None if isinstance(judge, str) else judge
            is_published = published and self.size == "real"
            return Evoke(file, workspace, self.name, max_new_tokens, is_published, client)
        if self.dimension == EDITING:
            file = find_rows(data or EMBEDDED / "evoke", EDITING_FILES)
            return Editing(file, workspace, self.name, max_new_tokens or NEW_TOKENS)
        spec = self.further.spec(self.name) if self.further else SPEC_BY_NAME[self.original]
        table = f"{self.name}.tsv" if self.size == "mini" else f"{spec.dataset}.tsv"
        path = data or EMBEDDED / "retention"
        if path.is_dir() or data is None:
            path /= table
        if judge is None:
            judge = MINI_JUDGE if self.size == "mini" else ""
        return Retention(path, workspace, spec, self.name, judge, protocol, published, max_new_tokens)


@cache
def all_benchmarks() -> tuple[BenchmarkInfo, ...]:
    """Every benchmark: the miniatures first, EVOKE before the twelve, and after them editing's measures."""
    evoke_link = "https://huggingface.co/datasets/kailinjiang/EVOKE"
    real = [
        BenchmarkInfo("EVOKE", "real", ADAPTATION, "K.A = (CEM + F1) / 2", 0.0, False, QUESTIONS, evoke_link),
        *(
            BenchmarkInfo(
                spec.name, "real", spec.dimension, spec.headline, spec.chance, bool(spec.judge), spec.rows, spec.url
            )
            for spec in SPECS
        ),
        BenchmarkInfo(EDITING, "real", EDITING, "generality, portability, locality; no headline", 0.0, False),
    ]
    mini = [
        replace(info, name=MINI_PREFIX + info.name, size="mini", rows=None, link="", chance=_mini_chance(info))
        for info in real
    ]
    return (*mini, *real)


def _mini_chance(info: BenchmarkInfo) -> float:
    """The chance of a miniature; a random baseline that authors measured belongs to their own table only."""
    return 0.0 if info.dimension == "MAT" else info.chance


def get_benchmark(name: str, further: Mapping[str, FurtherBenchmark] | None = None) -> BenchmarkInfo:
    """The benchmark with this name; ``further`` holds those beyond EVOKE and the twelve.

    Raises:
        UserError: The name is unknown; suggests the nearest one.
    """
    entries = {entry.name: entry for entry in all_benchmarks()}
    if name in entries:
        return entries[name]
    if further and name in further:
        spec = further[name].spec(name)
        return BenchmarkInfo(
            name, "real", spec.dimension, spec.headline, 0.0, bool(spec.judge), link=spec.file, further=further[name]
        )
    raise UserError(
        f"there is no benchmark {name!r}",
        location="benchmarks",
        hint=f"{suggest(name, entries)}`python -m harness list` shows all",
    )
