"""Recompute every number of a run from its stored answers, and compare them with the report (invariant I7)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.errors import UserError
from harness.config.settings import move_data
from harness.console import print_lines
from harness.data.inputs import BenchmarkTask
from harness.experiment.answer import answers_by_id
from harness.experiment.answering_engine import answering_by_id
from harness.experiment.asking import ASKED, Asker, asked_rows
from harness.experiment.cell import TRAINING
from harness.experiment.compose import compose
from harness.experiment.context import RunContext, build_context
from harness.experiment.leaks import count_leaked
from harness.experiment.limits import limit_notes
from harness.experiment.outputs import CellOutput
from harness.experiment.request_file import read_request
from harness.experiment.results import REPORT, read_entries, read_results
from harness.experiment.run_cell import stage_output
from harness.experiment.score import rescore_all
from harness.experiment.stages import Stage, list_stages, merge_records
from harness.storage.provenance import VERSION
from reports.record import CellResult, Run

RECOMPUTED = ("ok", "diverged")
"""The statuses of cells that can be recomputed from the store."""
SHOWN = 20
"""Differences that are printed; the others are only counted."""


@dataclass(frozen=True)
class VerificationReport:
    """What ``verify`` compared, and the differences it found."""

    entries: int
    """Stored entries whose content was compared with its checksum."""
    answers: int
    scores: int
    """Scores that were recomputed."""
    numbers: int
    """Numbers of the run's record that were compared."""
    files: int
    """Files of the report that were compared byte for byte."""
    differences: tuple[str, ...]


def verify(folder: Path, moved: Sequence[str] = ()) -> VerificationReport:
    """Score the stored answers again, build the record and the report again, and compare both with those on disk.

    The folder is only read.

    Args:
        folder: Of a finished run.
        moved: Where its data or its model are now, as ``--set`` takes it.

    Raises:
        UserError: The folder holds no finished run, or one that another version of this program made.
    """
    with TemporaryDirectory() as scratch:
        return _verify(folder, moved, Path(scratch))


def _verify(folder: Path, moved: Sequence[str], scratch: Path) -> VerificationReport:
    reported = read_results(folder)
    _check_version(reported, folder)
    request = read_request(folder)
    context = build_context(replace(request, resolved=move_data(request.resolved, moved)), scratch)
    entries = list(context.store.entries())
    differences = [f"{kind}/{key[:12]} is damaged" for kind, key in entries if not context.store.check(kind, key)]
    outputs = _read_outputs(context, reported, read_entries(folder), differences)
    scores = rescore_all(outputs, context.inputs.tasks)
    composed = compose(outputs, context.inputs, context.request.resolved, reported.signature, limit_notes(context))
    recomputed = _copy_unverifiable(composed, reported)
    lines = list(_compare(asdict(reported), asdict(recomputed), "results"))
    differences += filter(None, lines)
    files = _compare_files(recomputed, folder / REPORT, differences)
    answers = sum(len(each.answers) for output in outputs for each in output.answers.values())
    answers += sum(len(stage.answers.answers) for output in outputs for stage in output.stages if stage.answers)
    return VerificationReport(len(entries), answers, scores, lines.count(None), files, tuple(differences))


def _check_version(reported: Run, folder: Path) -> None:
    """Refuse the run of another version, which computes other numbers from the same answers."""
    found = re.search(r"(?:^|\|)harness:([^|]*)", reported.signature)
    if not found or found[1] != VERSION:
        made_by = f"version {found[1]}" if found else "an earlier version"
        raise UserError(
            f"the run was made by {made_by} of this program, and this is {VERSION}",
            location=str(folder),
            hint="verify it with that version, or run compare in the folder to compute it anew",
        )


def show_verification(report: VerificationReport) -> None:
    """Print what was compared, and the first differences."""
    count = len(report.differences)
    print_lines(
        f"{report.entries} stored entries, {report.answers} answers, {report.scores} scores computed again, "
        f"{report.numbers} numbers and {report.files} files of the report compared",
        *report.differences[:SHOWN],
        *([f"and {count - SHOWN} more"] if count > SHOWN else []),
        f"{count} differences" if count else "no difference",
    )


def _read_outputs(
    context: RunContext, reported: Run, entries: Mapping[tuple[str, int], Mapping[str, Any]], differences: list[str]
) -> list[CellOutput]:
    """Read the outputs of all cells from the store, by their keys: the code may have changed since."""
    by_key = {(cell.label, cell.seed): cell for cell in reported.cells}
    outputs = []
    for cell in context.cells:
        output, key = CellOutput(cell), (cell.label, cell.seed)
        outputs.append(output)
        if key not in by_key or key not in entries:
            differences.append(f"{cell.title} is not in the results")
        elif by_key[key].status in RECOMPUTED:
            _fill(output, context, entries[key], by_key[key], differences)
    return outputs


def _fill(
    output: CellOutput, context: RunContext, entry: Mapping[str, Any], reported: CellResult, differences: list[str]
) -> None:
    title, store = output.cell.title, context.store
    if entry["training"]:
        training = store.read_by_id(TRAINING, entry["training"])
        if training is None:
            differences.append(f"{title}: its training is not in the store")
            return
        output.training, key = training
        if entry.get("stages") and not _fill_stages(output, context, entry["stages"], differences):
            return
        output.status, output.reason = output.training["status"], output.training["reason"]
        output.leaks = count_leaked(context, output.cell) if output.status == "ok" else 0
        settings = {
            name: reported.settings[name].value if name in reported.settings else None for name in key["settings"]
        }
        differences += filter(None, _compare(key["settings"], settings, f"{title}: settings"))
    if entry.get("engine"):
        answering = answering_by_id(store, entry["engine"])
        if answering is None:
            differences.append(f"{title}: which engine answered is not in the store")
        else:
            output.answering = answering
    for name, entry_id in entry["answers"].items():
        answers = answers_by_id(store, entry_id)
        if answers is None:
            differences.append(f"{title}: its answers to {name} are not in the store")
        else:
            output.answers[name] = answers
    if entry["training"] and output.status == "ok":
        tasks = {task.name: task for task in context.inputs.tasks}
        asked = {entry_id: tasks[name] for name, entry_id in entry["answers"].items() if name in tasks}
        differences += _compare_asked(context, list_stages(context, output.cell)[-1], asked)


def _compare_asked(context: RunContext, stage: Stage, tasks: Mapping[str, BenchmarkTask]) -> Iterator[str]:
    """Have a row with its own way of asking make its questions again; yields those that are not as recorded.

    Args:
        context: Of the run.
        stage: After which they were asked.
        tasks: The benchmarks, by the ids of the entries with their answers.
    """
    asker = Asker(context, stage)
    for entry_id, task in tasks.items() if asker.changes_questions else ():
        recorded = context.store.read_by_id(ASKED, entry_id)
        if recorded is None:
            yield f"{stage.title}: the questions of {task.name} as they were asked are not in the store"
            continue
        made = asked_rows(asker.ask(task))
        wrong = sum(one != other for one, other in zip(recorded[0], made, strict=False))
        wrong += abs(len(recorded[0]) - len(made))
        if wrong:
            yield f"{stage.title}: {wrong} questions of {task.name} are asked otherwise than recorded"


def _fill_stages(
    output: CellOutput, context: RunContext, entries: Sequence[Mapping[str, str]], differences: list[str]
) -> bool:
    """Fill in each stage, and the cell's training from all of theirs; returns whether all of them are stored."""
    before = len(differences)
    for stage, entry in zip(list_stages(context, output.cell), entries, strict=False):
        training = context.store.read_by_id(TRAINING, entry["training"])
        if training is None:
            differences.append(f"{stage.title}: its training is not in the store")
            continue
        trained = stage_output(context, replace(stage, record=training[0]))
        if trained.task is not None:
            trained.answers = answers_by_id(context.store, entry["answers"])
            if trained.answers is None:
                differences.append(f"{stage.title}: its answers are not in the store")
            differences += _compare_asked(context, trained.stage, {entry["answers"]: trained.task})
        output.stages.append(trained)
    output.training = merge_records([trained.stage.record for trained in output.stages]) if output.stages else {}
    return len(differences) == before


def _copy_unverifiable(recomputed: Run, reported: Run) -> Run:
    """Copy what does not follow from the stored answers: costs, settings and texts, and cells that failed."""
    by_key = {(cell.label, cell.seed): cell for cell in reported.cells}
    cells = []
    for cell in recomputed.cells:
        old = by_key.get((cell.label, cell.seed), cell)
        copied = {name: getattr(old, name) for name in ("cost", "signature", "settings", "summary", "our_reading")}
        cells.append(replace(cell, **copied) if old.status in RECOMPUTED else old)
    return replace(recomputed, cells=tuple(cells))


def _compare(one: Any, other: Any, path: str) -> Iterator[str | None]:
    """Yield a line for each difference, and None for each value that is equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            yield from _compare(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _compare(left, right, f"{path}[{number}]")
    elif one == other or (one != one and other != other):
        yield None
    else:
        yield f"{path}: reported {_short(one)}, recomputed {_short(other)}"


def _compare_files(run: Run, report: Path, differences: list[str]) -> int:
    """Build the report again, in memory, and compare each file byte for byte; returns how many there are."""
    from reports.build import PAPER, build, list_beside_paper, read_files

    files: dict[Path, bytes] = {}
    has_paper = any(path.parent == report / PAPER for path in read_files(report))
    build(run, report, files.__setitem__, list_beside_paper(run) if has_paper else ())
    for path, content in sorted(files.items()):
        if not path.is_file():
            differences.append(f"{path} is not there; `report` makes it again")
        elif path.read_bytes() != content:
            hint = "; if an older version wrote the page, `report` writes it again" if path.suffix == ".html" else ""
            differences.append(f"{path} differs from what the stored answers give{hint}")
    return len(files)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
