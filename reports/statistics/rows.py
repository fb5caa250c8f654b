"""From cells to rows: one row holds all seeds of a method; the untouched base comes first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from reports.marks import UNRANKED
from reports.record import BenchmarkResult, CellResult, Run


@dataclass(frozen=True)
class ReportRow:
    """All seeds of one model x method x variant x data.

    Args:
        key: Unique within the run and safe in HTML ids.
        label: The name shown to readers.
        cells: One for each seed, in the run's order; at least one.
    """

    key: str
    label: str
    cells: tuple[CellResult, ...]

    @property
    def first(self) -> CellResult:
        """The cell of the first seed, for everything that does not depend on the seed."""
        return self.cells[0]

    @property
    def is_baseline(self) -> bool:
        """Whether this is the untouched base: the baseline of comparisons, never ranked."""
        return self.first.is_vanilla

    @cached_property
    def usable(self) -> tuple[CellResult, ...]:
        """The cells that finished."""
        return tuple(cell for cell in self.cells if cell.status == "ok")

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Every mark of any cell, in order of appearance, and the statuses of cells that failed."""
        marks = [mark for cell in self.cells for mark in cell.marks]
        marks += [cell.status for cell in self.cells if cell.status != "ok"]
        return tuple(dict.fromkeys(marks))

    @cached_property
    def ranked(self) -> bool:
        """Whether the row may be ranked: a method without excluding marks, all of whose seeds finished."""
        return not self.is_baseline and len(self.usable) == len(self.cells) and not set(self.marks) & set(UNRANKED)

    @property
    def status(self) -> str:
        """One sentence about what went wrong, or an empty string."""
        bad = [cell for cell in self.cells if cell.status != "ok"]
        if not bad:
            return ""
        reasons = [f"{cell.status}: {cell.reason}" if cell.reason else cell.status for cell in bad]
        text = "; ".join(dict.fromkeys(reasons))
        return text if len(bad) == len(self.cells) else f"{len(bad)} of {len(self.cells)} seeds did not finish ({text})"

    def results(self, benchmark: str) -> list[BenchmarkResult]:
        """Return this benchmark's results for the usable seeds, but only if each of them has one."""
        results = [cell.scores[benchmark] for cell in self.usable if benchmark in cell.scores]
        return results if len(results) == len(self.usable) else []


def build_rows(run: Run) -> tuple[ReportRow, ...]:
    """Return the rows of a run, vanilla first, the others in the order requested."""
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in run.cells:
        groups.setdefault((cell.model, cell.data, cell.method, cell.variant, cell.label), []).append(cell)
    several_models = len({cell.model for cell in run.cells}) > 1
    names = [
        " · ".join([label or cells[0].method, *([model] if several_models else [])])
        for (model, _, _, _, label), cells in groups.items()
    ]
    data_of: dict[str, set[str]] = {}
    for name, (_, data, *_) in zip(names, groups, strict=True):
        data_of.setdefault(name, set()).add(data)
    labels = [
        f"{name} · {data}" if data and len(data_of[name]) > 1 else name
        for name, (_, data, *_) in zip(names, groups, strict=True)
    ]
    counts = Counter(labels)
    rows = []
    for number, (label, cells) in enumerate(zip(labels, groups.values(), strict=True)):
        shown = f"{label} ({cells[0].variant or cells[0].method})" if counts[label] > 1 else label
        rows.append(ReportRow(f"row-{number}", shown, tuple(cells)))
    models = list(dict.fromkeys(row.first.model for row in rows))
    rows.sort(key=lambda row: (models.index(row.first.model), not row.is_baseline))
    return tuple(rows)


def baseline_of(row: ReportRow, rows: tuple[ReportRow, ...]) -> ReportRow | None:
    """Return the untouched base of the same model, or None if the run has none or it failed."""
    for other in rows:
        if other.is_baseline and other.first.model == row.first.model and other.usable:
            return other
    return None
