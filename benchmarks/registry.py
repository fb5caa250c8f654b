"""All benchmarks by name. Cheap to import: a listing needs no model, no table and no scorer."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from benchmarks.base import Benchmark
from benchmarks.data.zip_pictures import place_of
from benchmarks.errors import UserError
from benchmarks.evoke import QUESTIONS, Evoke
from benchmarks.judges import JudgeClient
from benchmarks.retention import Retention
from benchmarks.retention_specs import BY_NAME, PREFIX, TWELVE, Protocol

ADAPTATION = "K.A"
"""Stands where retention benchmarks have their dimension."""
EMBEDDED = Path(__file__).parent / "mini" / "data"
MINI_JUDGE = "rule"
EVOKE_FILE = "evoke_evaluation_data.jsonl"
INJECTION_FILE = "evoke_injection_data.json"
TUNING_FILES = {"injection": "evoke_tuning_injection_data.json", "evaluation": "evoke_tuning_evaluation_data.jsonl"}


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a listing shows of a benchmark, and how to open it."""

    name: str
    size: Literal["mini", "real"]
    dimension: str
    """COM, OCR, M-DIS, INS, M-IDU, MAT or HAL; K.A for EVOKE."""
    headline: str
    chance: float
    """Headline of guessing evenly, on 0-100."""
    needs_judge: bool
    rows: int | None = None
    """Rows of the published table."""
    link: str = ""

    @property
    def original(self) -> str:
        """The name without the miniature's prefix: what summaries over the twelve go by."""
        return self.name.removeprefix(PREFIX)

    def open(
        self,
        workspace: Path,
        data: Path | None = None,
        judge: str | JudgeClient | None = None,
        protocol: Protocol = "vlmevalkit",
        published: bool = False,
    ) -> Benchmark:
        """The benchmark, ready to ask.

        Args:
            workspace: Private folder for unpacked pictures and the scorer's files.
            data: The table or the folder that holds it; the embedded data of a miniature where None.
            judge: Another judge than the usual one ("rule" for a miniature, none for the published size).
            protocol: Whose prompts and rules, where there is a choice.
            published: Refuse data that is not what was published.

        Raises:
            UserError: No data is given for a benchmark that is not embedded.
        """
        if data is None and self.size == "real":
            raise UserError(
                "its data does not come with this package",
                location=self.name,
                hint=f"fetch it ({self.link}) and name the folder",
            )
        if self.dimension == ADAPTATION:
            folder = data or EMBEDDED / "evoke"
            file = place_of(folder, EVOKE_FILE) if folder.is_dir() or data is None else folder
            return Evoke(file, workspace, self.name, published=published and self.size == "real")
        spec = BY_NAME[self.original]
        table = f"{self.name}.tsv" if self.size == "mini" else f"{spec.dataset}.tsv"
        place = data or EMBEDDED / "retention"
        usual = MINI_JUDGE if self.size == "mini" else ""
        return Retention(
            place / table if place.is_dir() or data is None else place,
            workspace,
            spec,
            self.name,
            usual if judge is None else judge,
            protocol,
            published,
        )


@cache
def all_benchmarks() -> tuple[BenchmarkInfo, ...]:
    """Every benchmark, the miniatures first, EVOKE before the twelve."""
    entries = []
    for size, prefix in (("mini", PREFIX), ("real", "")):
        kind: Literal["mini", "real"] = "mini" if size == "mini" else "real"
        hub = "" if prefix else "https://huggingface.co/datasets/kailinjiang/EVOKE"
        entries.append(
            BenchmarkInfo(
                f"{prefix}EVOKE",
                kind,
                ADAPTATION,
                "K.A = (CEM + F1) / 2",
                0.0,
                False,
                None if prefix else QUESTIONS,
                hub,
            )
        )
        entries += [
            BenchmarkInfo(
                prefix + spec.name,
                kind,
                spec.dimension,
                spec.headline,
                spec.chance,
                bool(spec.judge),
                None if prefix else spec.rows,
                "" if prefix else spec.url,
            )
            for spec in TWELVE
        ]
    return tuple(entries)


def get_benchmark(name: str) -> BenchmarkInfo:
    """The benchmark with this name.

    Raises:
        UserError: There is none; it names the nearest.
    """
    entries = {entry.name: entry for entry in all_benchmarks()}
    if name in entries:
        return entries[name]
    folded = {known.lower(): known for known in entries}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.0)
    raise UserError(
        f"there is no benchmark {name!r}",
        location="benchmarks",
        hint=f"did you mean {folded[near[0]]!r}? `list` shows all",
    )
