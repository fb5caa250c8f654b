"""How many wrong statements of a generator a filter finds: precision and recall at a known rate of errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from benchmarks.records import KnowledgeItem
from harness.console import stdout
from methods.augmentation.grounding import SupportChecker, drop_unsupported
from methods.augmentation.invented_errors import KINDS, ErrorKind, InventingGenerator

ALL = "all"


@dataclass
class FilterCounts:
    """Statements of one branch, and those that the filter drops, by kind of error; None for the right ones."""

    written: Counter[ErrorKind | None] = field(default_factory=Counter)
    dropped: Counter[ErrorKind | None] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        """Wrong statements."""
        return sum(self.written[kind] for kind in KINDS)

    @property
    def precision(self) -> float | None:
        """Share of the dropped statements that are wrong; None if nothing is dropped."""
        total = sum(self.dropped.values())
        return sum(self.dropped[kind] for kind in KINDS) / total if total else None

    def recall(self, kinds: Iterable[ErrorKind] = KINDS) -> float | None:
        """Share of the wrong statements of these kinds that are dropped; None if there are none."""
        chosen = list(kinds)
        total = sum(self.written[kind] for kind in chosen)
        return sum(self.dropped[kind] for kind in chosen) / total if total else None


def measure_filter(
    knowledge: Sequence[KnowledgeItem], rate: float, seed: int, judge: SupportChecker | None
) -> dict[str, FilterCounts]:
    """Make statements wrong with a known probability, and see which ones the filter drops.

    Args:
        knowledge: The items that the statements are about.
        rate: Probability of an error in a statement about a fact.
        seed: Seed of wordings and errors.
        judge: Asked about what the string check lets pass; None for the string check alone.

    Returns:
        The counts by branch, those of all branches first.
    """
    generator = InventingGenerator(knowledge, seed, rate)
    counts = {name: FilterCounts() for name in (ALL, "dialogue", "caption", "vqa")}
    for item in knowledge:
        for statement in generator.statements(item):
            _, reasons = drop_unsupported(item, statement.texts, judge)
            for name in (ALL, statement.branch):
                counts[name].written[statement.error] += 1
                counts[name].dropped[statement.error] += bool(reasons)
    return counts


def show_filter(counts: dict[str, FilterCounts]) -> None:
    """Print one line for each branch; shares are percentages."""
    heads = ("branch", "statements", "wrong", "dropped", "precision", "recall", *(f"recall, {kind}" for kind in KINDS))
    table = Table(*heads, box=None, pad_edge=False)
    for name, count in counts.items():
        shares = (count.precision, count.recall(), *(count.recall([kind]) for kind in KINDS))
        numbers = (sum(count.written.values()), count.wrong, sum(count.dropped.values()))
        table.add_row(name, *map(str, numbers), *("-" if share is None else f"{100 * share:.1f}" for share in shares))
    stdout().print(table)
