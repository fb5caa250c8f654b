"""The report of an augmentation: counts per branch, issues, what was dropped, the overlap with an evaluation."""

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
    """Lengths of questions or of answers, in words."""

    count: int = 0
    words: int = 0
    longest: int = 0

    def add(self, text: str) -> None:
        """Count a text."""
        length = len(text.replace(IMAGE, "").split())
        self.count, self.words, self.longest = self.count + 1, self.words + length, max(self.longest, length)

    def to_json(self) -> dict[str, float]:
        """The greatest and the mean length."""
        return {"longest": self.longest, "mean": round(self.words / self.count, 2) if self.count else 0.0}


@dataclass
class AugmentationStats:
    """Statistics of the conversations, as in the paper's table 24.

    Attributes:
        items: Number of items with at least one conversation.
        branches: Number of conversations of each branch.
        rounds: Number of rounds of each branch.
        shown_pictures: Files that conversations show.
        files: These, and the files of the items' own pictures.
        questions: Lengths of questions.
        answers: Lengths of answers.
        dropped: How often each reason led to a drop.
        issues: Problems of items and branches.
    """

    items: int = 0
    branches: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    shown_pictures: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    questions: Lengths = field(default_factory=Lengths)
    answers: Lengths = field(default_factory=Lengths)
    dropped: Counter[str] = field(default_factory=Counter)
    issues: list[ItemIssue] = field(default_factory=list)

    def add(self, conversation: ConversationRow) -> None:
        """Count a conversation."""
        turns, branch = conversation.row["conversations"], conversation.row["branch"]
        self.branches[branch] += 1
        self.rounds[branch] += len(turns) // 2
        self.shown_pictures |= conversation.pictures.keys()
        self.files |= conversation.pictures.keys()
        for turn in turns:
            (self.questions if turn["from"] == "human" else self.answers).add(turn["value"])

    def to_json(self, made_by: Mapping[str, Any], overlap: Mapping[str, BranchOverlap] | None) -> dict[str, Any]:
        """The report as JSON values; equal for runs with the same cache."""
        total = self.branches.total()
        return {
            "made_by": dict(made_by),
            "items": self.items,
            "conversations": total,
            "branches": {
                name: {"conversations": count, "percent": round(100 * count / total, 1), "rounds": self.rounds[name]}
                for name, count in self.branches.items()
            },
            "unique_pictures": len(self.shown_pictures),
            "question_words": self.questions.to_json(),
            "answer_words": self.answers.to_json(),
            "dropped": dict(sorted(self.dropped.items())),
            "faults": [dataclasses.asdict(issue) for issue in self.issues],
            "overlap": overlap and {name: dataclasses.asdict(each) for name, each in overlap.items()},
        }


def dataset_card(report: Mapping[str, Any]) -> Sequence[str]:
    """The report in a few lines of Markdown."""
    made_by = ", ".join(f"{name}: {value}" for name, value in report["made_by"].items())
    return [
        "# Training data from knowledge",
        "",
        f"{report['conversations']:,} conversations about {report['items']:,} items. Made by {made_by}.",
        "",
        "| branch | conversations | % | rounds |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {row['conversations']:,} | {row['percent']} | {row['rounds']:,} |"
            for name, row in report["branches"].items()
        ),
    ]
