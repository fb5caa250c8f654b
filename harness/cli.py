"""The commands. Each reads its options, calls one function of ``harness.commands`` and shows what it returns."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer import Argument, Option

from benchmarks.errors import UserError
from harness.commands import BUG, STOPPED, USER_ERROR, answers_cli, check_model, inspect_cli
from harness.commands.run_options import (
    Benchmarks,
    Memory,
    Methods,
    Model,
    Plugin,
    Preset,
    RunOptions,
    Set,
    takes_run_options,
)

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="harness",
    help="Teach a multimodal model new knowledge by many methods; measure what it learned and what it forgot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(answers_cli.app)
app.add_typer(inspect_cli.app)


@app.callback()
def start() -> None:
    """Show the log, whatever the command."""
    from harness.console import configure_logging

    configure_logging()


@app.command()
@takes_run_options()
def compare(options: RunOptions) -> None:
    """Train, answer, score and report; running it again does only what is missing."""
    from harness.commands import compare
    from harness.console import configure_logging
    from harness.distributed.process_group import init_process_group
    from harness.executors.accelerate_launch import launch_settings, run_follower

    request = options.request(**launch_settings())
    process_group = init_process_group()
    if not process_group.is_main_process:
        configure_logging(level=logging.ERROR)  # the main process logs for all of them
        run_follower(request, process_group)
        return
    result = compare.compare(request, process_group)
    compare.show_result(result)
    raise typer.Exit(result.exit_code)


@app.command()
@takes_run_options("executor", "workers")
def plan(options: RunOptions, memory: Memory = None) -> None:
    """Show the cells, what is stored already, and a forecast of time, disk and memory."""
    from harness.commands import plan

    plan.show_plan(plan.plan(options.request(), memory))


@app.command()
@takes_run_options(
    *("data", "sweep", "stages", "editing", "adapter", "row", "answers", "answerer", "budget_tokens", "budget_money"),
    *("price", "out"),
    methods="",
)
def capture(
    options: RunOptions,
    discard: Annotated[
        str | None,
        Option(help="components to discard, by comma", show_default="the paper's shares of the smallest layer"),
    ] = None,
    calibrate_on: Annotated[
        str | None, Option(help="benchmarks whose prompts are looked at, by comma", show_default="calibration pool")
    ] = None,
    samples: Annotated[str | None, Option(help="numbers of these prompts, by comma", show_default="256")] = None,
    largest: Annotated[bool, Option("--largest", help="discard the largest components, not the smallest")] = False,
    out: Annotated[Path | None, Option(help="folder of the run", show_default="runs/PRESET-capture")] = None,
) -> None:
    """Score the base without some singular components: plain SVD, ASVD, CO-SVD and a random basis."""
    from harness.commands import capture

    varied = capture.CaptureOptions(discard, calibrate_on, samples, largest)
    result = capture.capture(dataclasses.replace(options, out=out), varied)
    capture.show_capture(result)
    raise typer.Exit(result.exit_code)


@app.command("list")
def list_(
    methods: Annotated[bool, Option("--methods", help="only these")] = False,
    benchmarks: Annotated[bool, Option("--benchmarks", help="only these")] = False,
    presets: Annotated[bool, Option("--presets", help="only these")] = False,
    plugin: Plugin = None,
) -> None:
    """List methods with their variants, benchmarks and presets."""
    from harness.commands import listing
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    listing.show({"Methods": methods, "Benchmarks": benchmarks, "Presets": presets})


@app.command()
def report(
    runs: Annotated[list[Path], Argument(help="folders of finished runs; several are merged")],
    out: Annotated[Path | None, Option(help="folder to write into", show_default="the run")] = None,
    against: Annotated[str | None, Option(help="paper: its printed numbers beside ours, and its claims judged")] = None,
) -> None:
    """Make tables, plots and the leaderboard again from stored results, without a model."""
    from harness.commands import report

    report.show_report(report.report(runs, out, against))


@app.command()
def export(
    run: Annotated[Path, Argument(help="folder of a finished run")],
    row: Annotated[str, Option(help="the row's name in the tables, such as kore")],
    to: Annotated[Path, Option(help="folder to write")],
    seed: Annotated[int, Option(help="which of the row's trainings")] = 0,
    merge: Annotated[bool, Option("--merge", help="a whole model instead of an adapter")] = False,
    without_projector: Annotated[
        bool, Option("--without-projector", help="an adapter of the language model, and a base with the projector")
    ] = False,
    training_data: Annotated[
        bool, Option("--training-data", help="what it was trained on, as JSONL with messages and images, instead")
    ] = False,
    push: Annotated[
        str | None, Option(help="also upload it to the Hugging Face hub, as the private repository OWNER/NAME")
    ] = None,
    public: Annotated[bool, Option("--public", help="with --push: a repository that everybody sees")] = False,
    plugin: Plugin = None,
) -> None:
    """Write what a row trained for PEFT or transformers; load it back and compare its logits with the run's."""
    from harness.commands import export
    from harness.commands import push as pushing
    from harness.commands import training_data as data
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    if training_data:
        if merge or without_projector or push:
            hint = "leave out --merge, --without-projector and --push"
            raise UserError("training data have no weights", location="--training-data", hint=hint)
        data.show_training_data(data.write_training_data(run, row, to, seed))
        return
    if push:
        pushing.check_push(push)
    exported = export.export(run, row, to, seed, export.parse_form(merge, without_projector), push or "")
    export.show_export(exported)
    if push:
        pushing.show_push(pushing.push(exported.folder, push, public=public), public=public)


@app.command()
def diff(
    old: Annotated[Path, Argument(help="folder of a finished run")],
    new: Annotated[Path, Argument(help="folder of another")],
) -> None:
    """Show what changed from one run to another, and whether it is significant."""
    from harness.commands import report

    report.show_listings(report.diff(old, new))


@app.command("audit-paper")
def audit_paper() -> None:
    """Recompute what the KORE paper prints from its printed parts; list what does not follow."""
    from harness.commands.report import show_listings
    from reports.tables.paper_audit import audit_listing

    show_listings([audit_listing()])


@app.command()
def verify(
    run: Annotated[Path, Argument(help="folder of a finished run")],
    set_: Annotated[
        list[str] | None, Option("--set", help="where data or the model are now: data.knowledge=FILE, model=FOLDER")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Recompute every number from the stored answers; exit with 1 on any difference."""
    from harness.commands import verify
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    verification = verify.verify(run, set_ or ())
    verify.show_verification(verification)
    raise typer.Exit(BUG if verification.differences else 0)


@app.command()
def doctor(
    out: Annotated[Path, Option(help="where runs would be written")] = Path("runs"),
    preset: Annotated[str | None, Option(help="also what this preset needs: model, data, tables")] = None,
    model: Model = None,
    set_: Set = None,
    benchmarks: Benchmarks = None,
) -> None:
    """Show what is installed, what is missing, and the command that fixes it."""
    from harness.commands import doctor

    diagnostics = doctor.examine(out, preset, model, _with_benchmarks(set_, benchmarks))
    doctor.show_diagnostics(diagnostics)
    raise typer.Exit(USER_ERROR if any(diagnostic.state == "missing" for diagnostic in diagnostics) else 0)


@app.command()
def fetch(
    preset: Preset = "mini",
    only: Annotated[
        str | None, Option(help="names as doctor lists them, by comma", show_default="what is missing")
    ] = None,
    dataset: Annotated[str | None, Option(help="any data set of the hub instead, OWNER/NAME")] = None,
    model: Model = None,
    set_: Set = None,
    benchmarks: Benchmarks = None,
) -> None:
    """Download what a preset needs. The only command that uses the network unasked by a setting."""
    from harness.commands import fetch
    from harness.config.settings import resolve
    from harness.data.requirements import select_requirements

    if dataset:
        logger.info("it is in %s", fetch.fetch_snapshot(dataset, "dataset"))
        return
    assignments = _with_benchmarks(set_, benchmarks)
    for place in fetch.fetch(select_requirements(resolve(preset, assignments, {"model": model}), only)):
        logger.info("  it is in %s", place)


def _with_benchmarks(set_: list[str] | None, benchmarks: str | None) -> list[str]:
    """The assignments of ``--set`` and, as another one, ``--benchmarks``."""
    return [*(set_ or ()), *([f"benchmarks=[{benchmarks}]"] if benchmarks else [])]


@app.command("check-method")
def check_method(
    name: Annotated[str, Argument(help="a method, with its variants; or one of them, METHOD:VARIANT")],
    model: Annotated[Path | None, Option(help="folder of a small model of another family to check it on")] = None,
    plugin: Plugin = None,
) -> None:
    """Check a method against the contract on a tiny model; explain each failure, and exit with 1 on any."""
    from harness.commands import check_method

    raise typer.Exit(0 if check_method.check_method(name, model, plugin or ()) else BUG)


app.command("check-model")(check_model.check_model)


@app.command("new-method")
def new_method(
    name: Annotated[str, Argument(help="of the method and its file, such as my_idea")],
    without_training: Annotated[bool, Option("--without-training", help="one that computes its update")] = False,
) -> None:
    """Write a short file with a method that keeps the contract, to start from."""
    from harness.commands import new_method

    path = new_method.new_method(name, Path(), trains=not without_training)
    method = path.stem.replace("_", "-")
    logger.info("written: %s; try `python -m harness check-method %s --plugin %s`", path, method, path)


@app.command()
def tune(
    methods: Methods,
    preset: Preset = "mini",
    out: Annotated[Path | None, Option(help="folder of the run", show_default="runs/PRESET-tune")] = None,
    set_: Set = None,
    rates: Annotated[str | None, Option(help="learning rates to try, by comma; the same for each method")] = None,
    plugin: Plugin = None,
) -> None:
    """Search each method's learning rate on knowledge held out for that; write down all that was tried."""
    from harness.commands import tune

    options = RunOptions(methods, preset, out or Path("runs") / f"{Path(preset).stem}-tune", set_, plugin=plugin)
    tune.show_tuning(tune.tune(options.request(), rates))


@app.command()
def augment(
    knowledge: Annotated[Path, Argument(help="a file in any format or its folder, such as one with items.jsonl")],
    out: Annotated[Path, Option(help="folder for the training data")],
    kind: Annotated[
        str, Option("--as", help="tree, text-agnostic, text-aware, image-agnostic or image-aware")
    ] = "tree",
    generator: Annotated[str, Option(help="who writes: rule, openai:MODEL or local:FOLDER")] = "rule",
    images: Annotated[str, Option(help="where pictures come from: own, folder:FOLDER or web")] = "own",
    clip: Annotated[Path | None, Option(help="folder of the CLIP that chooses pictures")] = None,
    alike: Annotated[float, Option(min=-1, max=1, help="least cosine of other pictures with the own")] = -1.0,
    check: Annotated[str, Option(help="what checks support: text, generator or entailment:FOLDER")] = "text",
    negatives: Annotated[bool, Option("--negatives", help="also recognitions whose answer is No")] = False,
    relations: Annotated[bool, Option("--relations", help="also questions over two items")] = False,
    evaluation: Annotated[
        Path | None, Option(help="questions to audit for overlap", show_default="beside the knowledge")
    ] = None,
    seed: Annotated[int, Option(help="of wordings and edits")] = 0,
    cache: Annotated[Path | None, Option(help="folder of stored calls and downloads", show_default="OUT/store")] = None,
    workers: Annotated[int, Option(min=1, max=64, help="items at once")] = 8,
    budget_tokens: Annotated[int | None, Option(min=0, help="most tokens, prompts and replies together")] = None,
    budget_money: Annotated[float | None, Option(min=0, help="most money, at --price")] = None,
    price: Annotated[str, Option(help="of a million prompt and reply tokens, by comma")] = "0,0",
    limit: Annotated[int | None, Option(min=1, help="at most N items")] = None,
) -> None:
    """Turn knowledge (picture, name, text) into training data; no model is asked the same thing twice."""
    from harness.augment.options import Options, parse_kind, parse_price
    from harness.commands import augment

    options = Options(
        knowledge, out, parse_kind(kind), generator, images, clip, alike, check, negatives, relations,
        evaluation, seed, cache, workers, budget_tokens, budget_money, parse_price(price), limit,
    )  # fmt: skip
    result = augment.augment(options)
    augment.print_result(result)
    raise typer.Exit(USER_ERROR if result.budget.ran_out else 0)


@app.command(hidden=True)
def worker(
    run: Annotated[Path, Argument(help="folder of the run")],
    plugin: Plugin = None,
) -> None:
    """Compute the cells of a run whose numbers come on standard input; ``compare --workers`` starts it."""
    from harness.executors import worker

    worker.serve(run, plugin or ())


@app.command("pretrain-mini")
def pretrain_mini(
    out: Annotated[Path, Option(help="folder for checkpoints and the model")] = Path("runs/pretrain-mini"),
    family: Annotated[str, Option(help="which miniature: llava, or qwen, which begins with the first")] = "llava",
    start: Annotated[Path | None, Option(help="begin with stage 4, from a model after stage 3")] = None,
) -> None:
    """Pre-train a miniature's base model on its old world; a stopped run continues where it was."""
    from harness.miniature.pretrain import pretrain

    logger.info("the model is in %s", pretrain(out, family, start=start))


def main() -> None:
    """Run a command. An error that the user can fix is printed without a traceback."""
    from harness.console import prepare_process
    from harness.distributed.process_group import refuse_several_processes

    prepare_process()
    try:
        if sys.argv[1:2] != ["compare"]:
            refuse_several_processes("start this command without `accelerate launch`")
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:  # before the command began
        _stop()
    except SystemExit as end:
        if end.code == STOPPED:
            _stop()
        raise


def _stop() -> NoReturn:
    """End as a command that was stopped."""
    print("\nstopped; what was finished is kept, and the same command continues from here", file=sys.stderr)
    sys.exit(STOPPED)
