"""The options of ``harness answers export`` and ``harness answers import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

app = typer.Typer(name="answers", help="Questions of a run out, answers of any engine or API in.", no_args_is_help=True)

Plugin = Annotated[list[Path] | None, Option(help="a Python file with a method of your own")]


@app.command("export")
def export(
    run: Annotated[Path, Argument(help="folder of a finished run")],
    to: Annotated[Path, Option(help="file to write, such as questions.jsonl; pictures go into a folder beside it")],
    plugin: Plugin = None,
) -> None:
    """Write the questions of a run as JSONL, with pictures, limits and digests, for any program to answer."""
    from harness.commands import answers
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    answers.show_questions(answers.export_questions(run, to))


@app.command("import")
def import_(
    file: Annotated[Path, Argument(help="the exported lines in their order, each with its answers")],
    run: Annotated[Path, Option(help="folder of a finished run")],
    name: Annotated[str, Option("--as", help="the row's name in the tables")],
    plugin: Plugin = None,
) -> None:
    """Score answers from elsewhere as a row of a run, against the same vanilla; nothing else is computed again."""
    from harness.commands import answers, compare
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    compare.show_result(answers.import_answers(file, run, name))
