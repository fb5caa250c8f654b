"""The commands from Python: ``from harness import compare, load_run, Preset``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from harness.config.answerers import Answerers, parse_answerers
from harness.config.further import benchmark_flags
from harness.config.schema import Settings, SweepAxis
from harness.config.settings import Request, ResolvedSettings, parse_names, parse_rows, resolve
from harness.config.sweep import DATA, join_axes, make_axis
from harness.data.requirements import check_requirements
from harness.distributed.process_group import refuse_several_processes
from methods.external import CONFIG as ADAPTER_CONFIG
from methods.registry import load_plugins
from reports.record import BenchmarkResult, CellResult, Run

if TYPE_CHECKING:
    import pandas as pd

    from reports.plots.canvas import Plot
    from reports.statistics.estimates import Analysis

ANSWER_COLUMNS = ("id", "seed", "type", "question", "reference", "answer", "status")
"""Columns of ``RunResult.answers`` before those of the benchmark's metrics."""


@dataclass(frozen=True)
class Preset:
    """A named set of settings, some of them changed.

    Args:
        name: A preset's name (``mini``, ``llava-1.5-7b``, ...) or the path of a YAML file.
        changes: Values by dotted key, as ``--set`` takes them: ``{"training.epochs": 3, "lora.rank": 64}``.
    """

    name: str = "mini"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, **flags: Any) -> ResolvedSettings:
        """All settings, each with its origin.

        Args:
            flags: Settings by name that win over ``changes``; None means not given.

        Raises:
            UserError: A preset, setting or value is unknown or wrong.
        """
        return resolve(self.name, self.changes, flags)

    @property
    def settings(self) -> Settings:
        """The resolved settings of a run with this preset.

        Raises:
            UserError: A preset, setting or value is unknown or wrong.
        """
        return self.resolve().settings


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        folder: Where it is stored.
        record: Everything that its report is made from.
    """

    folder: Path
    record: Run

    @property
    def leaderboard(self) -> Path:
        """The HTML leaderboard: one file that needs no server."""
        from harness.experiment.results import REPORT
        from reports.html.leaderboard import PAGE

        return self.folder / REPORT / PAGE

    @cached_property
    def _analysis(self) -> Analysis:
        from reports.statistics.analysis import analyse

        return analyse(self.record)

    def table(self, name: str = "main") -> pd.DataFrame:
        """A table of the report: one row for each method, one column for each score, values from 0 to 100.

        Args:
            name: ``main``, ``benchmarks``, ``types``, ``editing``, or ``long``: one record for each number with its
                ``n``, 95 % interval (``low``, ``high``), difference from the baseline (``delta``) and p value.

        Raises:
            UserError: The run has no such table.
        """
        import pandas as pd

        from reports.tables.tables import long_table, make_tables

        if name == "long":
            return long_table(self._analysis)
        found = {table.key: table for table in make_tables(self._analysis)}
        if name not in found:
            raise UserError(
                f"this run has no table {name!r}",
                location=str(self.folder),
                hint=f"choose from {', '.join(found)}, long",
            )
        table = found[name]
        return pd.DataFrame(
            {
                (column.title if name != "types" else column.help): [
                    line.cells[column.key].value if column.key in line.cells else float("nan") for line in table.lines
                ]
                for column in table.columns
            },
            index=pd.Index([line.label for line in table.lines], name=table.heading.lower()),
        )

    def plot(self, name: str = "tradeoff") -> Plot:
        """A plot of the report, by default adaptation against retention.

        A notebook shows it; ``svg``, ``pdf`` and ``data`` hold it for other uses.

        Raises:
            UserError: The run has no such plot.
        """
        from reports.plots.all_plots import draw_plots

        found = {plot.key: plot for plot in draw_plots(self._analysis)}
        if name not in found:
            raise UserError(
                f"this run has no plot {name!r}", location=str(self.folder), hint=f"choose from {', '.join(found)}"
            )
        return found[name]

    def answers(self, method: str, benchmark: str) -> pd.DataFrame:
        """Every answer of a method to a benchmark, for all seeds.

        Args:
            method: A row's label, such as ``lora`` or ``lora (data evoke)``; ``vanilla`` is the untouched base.
            benchmark: Its name, such as ``EVOKE`` or ``mini-POPE``.

        Returns:
            Columns id, seed, type, question, reference, answer and status, then one for each metric (0 to 1).

        Raises:
            UserError: The run has no such row, or it was not asked this benchmark.
        """
        import pandas as pd

        rows = [
            record
            for cell in self._cells(method)
            for record in self._records(cell, benchmark, self._score(cell, benchmark))
        ]
        metrics = [name for name in (rows[0] if rows else ()) if name not in ANSWER_COLUMNS]
        return pd.DataFrame(rows, columns=[*ANSWER_COLUMNS, *metrics])

    def _cells(self, method: str) -> list[CellResult]:
        cells = [cell for cell in self.record.cells if cell.label == method]
        if not cells:
            labels = dict.fromkeys(cell.label for cell in self.record.cells)
            raise UserError(
                f"this run has no row {method!r}", location=str(self.folder), hint=f"choose from {', '.join(labels)}"
            )
        return cells

    def _score(self, cell: CellResult, benchmark: str) -> BenchmarkResult:
        if benchmark not in cell.scores:
            asked = ", ".join(cell.scores) or f"none: {cell.reason}"
            raise UserError(
                f"{cell.label} was not asked {benchmark!r}", location=str(self.folder), hint=f"choose from {asked}"
            )
        return cell.scores[benchmark]

    def _records(self, cell: CellResult, benchmark: str, score: BenchmarkResult) -> list[dict[str, Any]]:
        questions = {entry.id: entry for entry in self.record.questions if entry.benchmark == benchmark}
        return [
            {
                "id": item.question_id,
                "seed": cell.seed,
                "type": questions[item.question_id].type,
                "question": questions[item.question_id].text,
                "reference": questions[item.question_id].reference,
                "answer": item.answer,
                "status": item.status,
                **item.values,
            }
            for item in score.items
        ]

    def export_questions(self, to: str | Path) -> Path:
        """Write its questions as lines of JSON, and their pictures beside them, as ``answers export`` does.

        Returns:
            The folder of the pictures.

        Raises:
            UserError: The file exists, or the data of the run cannot be read.
        """
        from harness.commands.answers import export_questions

        return export_questions(self.folder, Path(to)).pictures

    def import_answers(self, file: str | Path, name: str) -> RunResult:
        """The run with one more row, of answers to these questions from elsewhere.

        Raises:
            UserError: The name is taken, or the file does not answer exactly the questions of the run.
        """
        from harness.commands.answers import import_answers

        return RunResult(self.folder, import_answers(Path(file), self.folder, name).run)


def load_run(folder: str | Path) -> RunResult:
    """Open a finished run. No model is loaded.

    Raises:
        UserError: The folder holds no finished run.
    """
    from harness.experiment.results import read_results

    return RunResult(Path(folder), read_results(Path(folder)))


def compare(
    methods: str | Sequence[str],
    preset: str | Preset = "mini",
    *,
    out: str | Path | None = None,
    seeds: int | Sequence[int] | None = None,
    limit: int | None = None,
    stages: int | Sequence[Mapping[str, Any]] | None = None,
    benchmarks: str | Sequence[str] | None = None,
    editing: bool | None = None,
    data: str | Sequence[str] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    rows: Mapping[str, str | Path] | None = None,
    further: Sequence[str | Path] = (),
    model: str | Path | None = None,
    judge: str | None = None,
    protocol: str | None = None,
    workers: int | None = None,
    plugins: Sequence[str | Path] = (),
    answerers: Mapping[str, str] | Answerers | None = None,
) -> RunResult:
    """Train, answer, score and report, as ``python -m harness compare`` does; progress goes to the logger ``harness``.

    Args:
        methods: Names of methods and variants, ``"all"`` for every method.
        preset: A preset's name, a YAML file, or a ``Preset`` with changed settings.
        out: Folder of the run [default: ``runs/PRESET``].
        seeds: 3 for the seeds 0, 1, 2, or the seeds themselves.
        limit: At most so many items, and questions of each benchmark; marks the run.
        stages: Number of random parts of the knowledge, or a task sequence: ``[{"knowledge": FILE}, ...]``.
        benchmarks: Their names [default: all of the preset].
        editing: Whether to ask for editing's measures too [default: as the preset].
        data: Training data to cross each method with: ``["evoke", "text-aware"]``.
        sweep: A setting and its values: ``{"learning_rate": [1e-3, 3e-3]}``.
        rows: Rows from elsewhere, by name: the folder of a PEFT adapter or of a whole model, or a file of answers.
        further: YAML files with benchmarks of your own.
        model: Folder of another base model, or its id on the hub.
        judge: Who grades: ``rule``, ``openai:MODEL``, ``local:FOLDER`` or ``none``.
        protocol: ``vlmevalkit``, ``vlmevalkit-llava`` or ``llava``.
        workers: Cells at once, each in its own process.
        plugins: Python files that define methods of your own.
        answerers: Rows of answers by an endpoint: ``{"name": "openai:MODEL"}``, or ``Answerers`` with a budget.

    Raises:
        UserError: A setting, a file or the machine does not allow the run. A failed cell is a row that says why.
    """
    from harness.commands.compare import compare as run_compare

    refuse_several_processes("start several processes with `accelerate launch -m harness compare`")
    flags = {"limit": limit, "stages": stages, "editing": editing, "judge": judge, "protocol": protocol} | {
        "workers": workers,
        "seeds": tuple(range(seeds)) if isinstance(seeds, int) else seeds and tuple(seeds),
        "benchmarks": _names(benchmarks, "benchmarks") if benchmarks else None,
        "cross": _sweep_axes(data, sweep),
        "model": None if model is None else str(model),
    }
    flags |= _external_rows(rows or {}) | benchmark_flags(further)
    request = _request(_names(methods, "methods"), preset, out, load_plugins(plugins), flags)
    run = run_compare(replace(request, answerers=_answerers(answerers))).run
    return RunResult(request.out, run)


def _answerers(given: Mapping[str, str] | Answerers | None) -> Answerers:
    """Models by row, as ``--answerer`` gives them, and their budget if there is one."""
    answerers = given if isinstance(given, Answerers) else Answerers(given or {})
    return replace(answerers, models=parse_answerers(f"{name}={model}" for name, model in answerers.models.items()))


def _request(
    methods: tuple[str, ...],
    preset: str | Preset,
    out: str | Path | None,
    plugins: tuple[Path, ...],
    flags: Mapping[str, Any],
) -> Request:
    """The request of a run with these settings, once everything that it reads is there."""
    resolved = (Preset(preset) if isinstance(preset, str) else preset).resolve(**flags)
    check_requirements(resolved, methods)
    return Request(methods, resolved, Path(out) if out is not None else Path("runs") / resolved.preset, plugins)


def _names(names: str | Sequence[str], argument: str) -> tuple[str, ...]:
    return parse_names(names, argument) if isinstance(names, str) else tuple(names)


def _external_rows(rows: Mapping[str, str | Path]) -> dict[str, str]:
    """As ``--adapter``, ``--row`` and ``--answers`` on the command line, whichever fits the folder or file."""
    adapters: list[str] = []
    models: list[str] = []
    answers: list[str] = []
    for name, place in rows.items():
        fitting = answers if Path(place).is_file() else models
        (adapters if (Path(place) / ADAPTER_CONFIG).is_file() else fitting).append(f"{name}={place}")
    return parse_rows(adapters, models, answers)


def _sweep_axes(
    data: str | Sequence[str] | None, sweep: Mapping[str, Sequence[Any]] | None
) -> tuple[SweepAxis, ...] | None:
    axes = [make_axis(DATA, _names(data, "data"), "data")] if data else []
    axes += [make_axis(setting, tuple(values), f"sweep {setting}") for setting, values in (sweep or {}).items()]
    return join_axes(axes)
