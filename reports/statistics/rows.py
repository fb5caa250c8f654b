"""From cells to rows: the seeds of one method stand in one row, the untouched base first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from reports.record import UNRANKED, BenchmarkResult, CellResult, Run


@dataclass(frozen=True)
class ReportRow:
    """All seeds of one model x method x variant x data.

    Args:
        key: Stable and unique within the run; safe in HTML ids.
        label: What the reader sees.
        cells: One for each seed, in the run's order; at least one.
    """

    key: str
    label: str
    cells: tuple[CellResult, ...]

    @property
    def first(self) -> CellResult:
        """The cell that speaks for the row where seeds do not differ."""
        return self.cells[0]

    @property
    def is_baseline(self) -> bool:
        """Whether this is the untouched base, which is compared against and never ranked."""
        return self.first.is_vanilla

    @cached_property
    def usable(self) -> tuple[CellResult, ...]:
        """The cells that ended well."""
        return tuple(cell for cell in self.cells if cell.status == "ok")

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Every mark of any cell, in order of appearance, and the statuses of cells that failed."""
        found = [mark for cell in self.cells for mark in cell.marks]
        found += [cell.status for cell in self.cells if cell.status != "ok"]
        return tuple(dict.fromkeys(found))

    @cached_property
    def ranked(self) -> bool:
        """Whether the row may be ranked: a method, all of whose seeds ended well, with nothing held back."""
        return not self.is_baseline and len(self.usable) == len(self.cells) and not set(self.marks) & set(UNRANKED)

    @property
    def status(self) -> str:
        """One sentence for what went wrong, or nothing."""
        bad = [cell for cell in self.cells if cell.status != "ok"]
        if not bad:
            return ""
        what = "; ".join(dict.fromkeys(f"{cell.status}: {cell.reason}" if cell.reason else cell.status for cell in bad))
        return what if len(bad) == len(self.cells) else f"{len(bad)} of {len(self.cells)} seeds did not finish ({what})"

    def results(self, benchmark: str) -> list[BenchmarkResult]:
        """This benchmark's results over the usable seeds, but only if each of them has one."""
        found = [cell.scores[benchmark] for cell in self.usable if benchmark in cell.scores]
        return found if len(found) == len(self.usable) else []


def rows_of(run: Run) -> tuple[ReportRow, ...]:
    """The rows of a run, vanilla first, the rest in the order in which they were asked for."""
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
    twice = Counter(labels)
    rows = []
    for number, (label, cells) in enumerate(zip(labels, groups.values(), strict=True)):
        shown = f"{label} ({cells[0].variant or cells[0].method})" if twice[label] > 1 else label
        rows.append(ReportRow(f"row-{number}", shown, tuple(cells)))
    models = list(dict.fromkeys(row.first.model for row in rows))
    rows.sort(key=lambda row: (models.index(row.first.model), not row.is_baseline))
    return tuple(rows)


def baseline_of(row: ReportRow, rows: tuple[ReportRow, ...]) -> ReportRow | None:
    """The untouched base of the same model, or None if the run has none or it failed."""
    for other in rows:
        if other.is_baseline and other.first.model == row.first.model and other.usable:
            return other
    return None
