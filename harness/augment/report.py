"""What came of an augmentation: counts for each branch, what was refused or dropped, the overlap with an evaluation."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contamination import BranchOverlap
from benchmarks.records import IMAGE
from harness.augment.reader import ItemIssue
from harness.augment.writer import ConversationRow


@dataclass
class Lengths:
    """Words of questions or of answers."""

    count: int = 0
    words: int = 0
    longest: int = 0

    def add(self, text: str) -> None:
        """Count one."""
        length = len(text.replace(IMAGE, "").split())
        self.count, self.words, self.longest = self.count + 1, self.words + length, max(self.longest, length)

    def plain(self) -> dict[str, float]:
        """Longest and mean."""
        return {"longest": self.longest, "mean": round(self.words / self.count, 2) if self.count else 0.0}


@dataclass
class AugmentationStats:
    """Counted as the conversations come, as in the paper's table 24; lengths are in words."""

    items: int = 0
    branches: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    pictures: set[str] = field(default_factory=set)
    """Files that a conversation shows."""
    files: set[str] = field(default_factory=set)
    """These, and the files of the items' own pictures."""
    questions: Lengths = field(default_factory=Lengths)
    answers: Lengths = field(default_factory=Lengths)
    dropped: Counter[str] = field(default_factory=Counter)
    faults: list[ItemIssue] = field(default_factory=list)

    def add(self, written: ConversationRow) -> None:
        """Count one conversation."""
        turns, branch = written.row["conversations"], written.row["branch"]
        self.branches[branch] += 1
        self.rounds[branch] += len(turns) // 2
        self.pictures |= written.pictures.keys()
        self.files |= written.pictures.keys()
        for turn in turns:
            (self.questions if turn["from"] == "human" else self.answers).add(turn["value"])

    @property
    def total(self) -> int:
        """Conversations."""
        return self.branches.total()

    def plain(self, made_by: Mapping[str, Any], audit: Mapping[str, BranchOverlap] | None) -> dict[str, Any]:
        """The report as JSON values; it holds nothing that a second run with the same cache would tell otherwise."""
        return {
            "made_by": dict(made_by),
            "items": self.items,
            "conversations": self.total,
            "branches": {
                name: {
                    "conversations": count,
                    "percent": round(100 * count / self.total, 1),
                    "rounds": self.rounds[name],
                }
                for name, count in self.branches.items()
            },
            "unique_pictures": len(self.pictures),
            "question_words": self.questions.plain(),
            "answer_words": self.answers.plain(),
            "dropped": dict(sorted(self.dropped.items())),
            "faults": [dataclasses.asdict(fault) for fault in self.faults],
            "overlap": None if audit is None else {name: dataclasses.asdict(each) for name, each in audit.items()},
        }


def card(report: Mapping[str, Any]) -> Sequence[str]:
    """The report in a few lines of Markdown."""
    rows = [f"| {name} | {row['conversations']:,} | {row['percent']} | {row['rounds']:,} |" for name, row in
            report["branches"].items()]  # fmt: skip
    made_by = ", ".join(f"{name}: {value}" for name, value in report["made_by"].items())
    return [
        "# Training data from knowledge",
        "",
        f"{report['conversations']:,} conversations about {report['items']:,} items. Made by {made_by}.",
        "",
        "| branch | conversations | % | rounds |",
        "|---|---:|---:|---:|",
        *rows,
    ]
