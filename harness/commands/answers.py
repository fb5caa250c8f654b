"""Write the questions of a run for another program to answer, and take its answers back as a row of the run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.errors import UserError
from harness.commands.compare import CompareResult, try_report
from harness.config.row_names import ROW_NAME
from harness.config.settings import Request
from harness.console import print_lines
from harness.data.answers_file import SEVERAL_TURNS, answer_lines, question_rows, read_answers
from harness.experiment.compose import compose
from harness.experiment.context import RunContext, build_context
from harness.experiment.finished_run import open_finished
from harness.experiment.imported_answers import imported_row, with_rows
from harness.experiment.outputs import CellOutput
from harness.experiment.request_file import read_request, write_request
from harness.experiment.results import read_entries, read_results, write_results
from harness.experiment.rows import list_cells
from harness.experiment.run_cell import run_cell
from harness.experiment.score import score_all
from harness.storage.files import atomic_replace, atomic_write, locked
from reports.record import Run


@dataclass(frozen=True)
class ExportedQuestions:
    """What was written.

    Args:
        file: The questions.
        pictures: The folder of their pictures.
        questions: Number of questions.
        several_turns: How many of them have several turns.
    """

    file: Path
    pictures: Path
    questions: int
    several_turns: int


def export_questions(run: Path, to: Path) -> ExportedQuestions:
    """Write all questions of a run as lines of JSON, and their pictures into a folder beside the file.

    Args:
        run: Folder of a run.
        to: The file to write; the pictures are in ``STEM-pictures``.

    Raises:
        UserError: There is no run, the file exists, or a picture cannot be read.
    """
    if to.exists():
        raise UserError("something is there already", location=str(to), hint="give another file with --to")
    context = build_context(read_request(run))
    pictures = to.with_name(f"{to.stem}-pictures")
    count = several = 0
    with atomic_replace(to) as temporary, temporary.open("w", encoding="utf-8") as file:
        for question, row in question_rows(context.inputs.tasks, pictures.name, context.dtype):
            for picture, image in zip(question.pictures, row["images"], strict=True):
                path = to.parent / image["file"]
                if not path.exists():
                    atomic_write(path, picture.encoded, flush=False)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            several += len(question.turns) > 1
    return ExportedQuestions(to, pictures, count, several)


def import_answers(file: Path, run: Path, name: str) -> CompareResult:
    """Score the answers of a file as a row of a finished run. No other row is computed again.

    The answers are copied into the run's folder, so that later comparisons there have the row, too.

    Args:
        file: One line for each question of the run, in the order of the export.
        run: Folder of a finished run.
        name: The row's name in the tables.

    Raises:
        UserError: The run is not finished, its data have changed, there is a row of this name, or the file does not
            answer exactly the questions of the run. Nothing is changed then.
    """
    if not ROW_NAME.fullmatch(name):
        raise UserError("this is no name", location=f"--as {name}", hint="use letters, digits, - and _")
    read_results(run)  # refuses a folder without a run before the lock creates it
    with locked(run):
        reported, context = open_finished(run)
        request, row = context.request, imported_row(run, name)
        answers = read_answers(file, context.inputs.tasks)
        content = answer_lines(context.inputs.tasks, answers).encode()
        _check_name(request, reported, name, row.folder, content)
        request = with_rows(request, {name: row})
        cells = list_cells(request.methods, request.resolved)
        _check_questions(context, reported)
        context = replace(context, request=request, cells=cells)
        return _write(context, _score(context, name, row.folder, content), reported)


def show_questions(exported: ExportedQuestions) -> None:
    """Print where the questions are, and how those of several turns are asked."""
    print_lines(f"{exported.questions} questions are in {exported.file}, their pictures in {exported.pictures}")
    if exported.several_turns:
        print_lines(f"{exported.several_turns} of them have several turns, asked {SEVERAL_TURNS}; answer each turn")


def _check_name(request: Request, reported: Run, name: str, kept: Path, content: bytes) -> None:
    """Refuse a name that another row has; the same answers may be imported again."""
    taken = name in request.resolved.settings.rows or name in {cell.label for cell in reported.cells}
    if (taken or kept.exists()) and not (kept.is_file() and kept.read_bytes() == content):
        remove = f", or delete {kept} first" if kept.is_file() else ""
        hint = f"give it another name{remove}"
        raise UserError("there is another row of this name", location=f"--as {name}", hint=hint)


def _check_questions(context: RunContext, reported: Run) -> None:
    """Refuse a run whose data have changed since: its rows would have answered other questions."""
    now = compose([], context.inputs, context.request.resolved, reported.signature)
    if now.questions != reported.questions or now.pictures != reported.pictures:
        hint = "run compare again, and export its questions"
        raise UserError("the questions have changed since the run", location=str(context.request.out), hint=hint)


def _score(context: RunContext, name: str, kept: Path, content: bytes) -> CellOutput:
    """Keep the answers in the run's folder, and score them; they are not kept if that fails."""
    is_new = not kept.exists()
    atomic_write(kept, content)
    try:
        output = run_cell(context, next(cell for cell in context.cells if cell.label == name))
        if output.status != "ok":
            raise UserError(output.reason, location=f"--as {name}", hint="correct the file and import it again")
        score_all(context.store, [output], context.inputs.tasks)
    except Exception:
        if is_new:
            kept.unlink()
        raise
    return output


def _write(context: RunContext, output: CellOutput, reported: Run) -> CompareResult:
    """Write the record and the report with the new row; the other rows stay as they were reported."""
    out, label = context.request.out, output.cell.label
    outputs = [output if cell == output.cell else CellOutput(cell) for cell in context.cells]
    composed = compose(outputs, context.inputs, context.request.resolved, reported.signature)
    before = {(cell.label, cell.seed): cell for cell in reported.cells if cell.label != label}
    cells = tuple(before.get((cell.label, cell.seed), cell) for cell in composed.cells)
    run = replace(reported, title=composed.title, cells=cells)
    entries = [entry for (other, _), entry in read_entries(out).items() if other != label]
    write_request(context.request)
    write_results(run, [output], out, entries)
    return CompareResult(run, [output], try_report(run, out), tuple(context.store.quarantined))
