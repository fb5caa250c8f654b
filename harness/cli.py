"""The commands. No logic: each reads its flags, calls one function of the harness and prints what it gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.errors import UserError

app = typer.Typer(
    name="harness",
    help="Teach a multimodal model new knowledge by many methods; measure what it learnt and what it forgot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BUG, USER_ERROR, STOPPED = 1, 2, 130
"""Exit codes besides 0: a bug or a difference found, something the user can mend, stopped by Ctrl-C."""

Methods = Annotated[str, typer.Option(help="methods and variants, by comma; 'all' for every row worth one")]
Preset = Annotated[str, typer.Option(help="name of a preset, or a YAML file of your own")]
Out = Annotated[Path | None, typer.Option(help="folder of the run [default: runs/PRESET]")]
Model = Annotated[str | None, typer.Option(help="folder of another base model, or its id on the hub")]
Judge = Annotated[str | None, typer.Option(help="who grades: rule, openai:MODEL, local:FOLDER or none")]
Protocol = Annotated[str | None, typer.Option(help="vlmevalkit or llava, for MME, MMBench, POPE and ScienceQA")]
Set = Annotated[list[str] | None, typer.Option("--set", help="any setting: training.epochs=3, METHOD.rank=64")]
Seeds = Annotated[str | None, typer.Option("--seeds", "--seed", help="3 for the seeds 0 1 2, or a list: 0,7")]
Limit = Annotated[int | None, typer.Option(help="at most N items and questions of each benchmark; marks the run")]
Stages = Annotated[int | None, typer.Option(help="parts in which the knowledge arrives; EVOKE has 4, 8 and 12")]
Benchmarks = Annotated[str | None, typer.Option(help="benchmarks, by comma [default: all of the preset]")]
Data = Annotated[str | None, typer.Option("--data", help="train each method on each of these: evoke,kore")]
Sweep = Annotated[list[str] | None, typer.Option("--sweep", help="each method at each value: learning_rate=1e-3,3e-3")]
Executor = Annotated[str | None, typer.Option(help="local, or ray to spread the cells over a Ray cluster")]
Workers = Annotated[int | None, typer.Option(help="cells at once, each in a process of its own [default: 1 here]")]
Plugin = Annotated[list[Path] | None, typer.Option(help="a Python file with a method of your own")]


@app.command()
def compare(
    methods: Methods,
    preset: Preset = "mini",
    out: Out = None,
    set_: Set = None,
    seeds: Seeds = None,
    limit: Limit = None,
    stages: Stages = None,
    benchmarks: Benchmarks = None,
    data: Data = None,
    sweep: Sweep = None,
    model: Model = None,
    judge: Judge = None,
    protocol: Protocol = None,
    executor: Executor = None,
    workers: Workers = None,
    plugin: Plugin = None,
) -> None:
    """Train, answer, score and report; running it again does only what is missing."""
    from harness import console as screen
    from harness.commands import compare as conductor
    from harness.distributed.process_group import init_process_group
    from harness.executors.accelerate_launch import launch_settings, run_follower

    where = {"executor": executor, "workers": workers, "model": model, "judge": judge, "protocol": protocol}
    where |= launch_settings()
    request = _request(
        methods, preset, out, set_, seeds, limit, benchmarks, plugin, data=data, sweep=sweep, stages=stages, where=where
    )
    process_group = init_process_group()
    if not process_group.is_main_process:
        run_follower(request, process_group)
        return
    outcome = conductor.compare(request, screen.log, process_group)
    screen.show_outcome(outcome)
    raise typer.Exit(outcome.exit_code)


@app.command()
def plan(
    methods: Methods,
    preset: Preset = "mini",
    out: Out = None,
    set_: Set = None,
    seeds: Seeds = None,
    limit: Limit = None,
    stages: Stages = None,
    benchmarks: Benchmarks = None,
    data: Data = None,
    sweep: Sweep = None,
    model: Model = None,
    judge: Judge = None,
    protocol: Protocol = None,
    plugin: Plugin = None,
) -> None:
    """Show the cells, what is stored already, and a forecast of time and disk."""
    from harness import console as screen
    from harness.commands import plan as planning

    where = {"model": model, "judge": judge, "protocol": protocol}
    request = _request(
        methods, preset, out, set_, seeds, limit, benchmarks, plugin, data=data, sweep=sweep, stages=stages, where=where
    )
    screen.show_plan(planning.plan(request))


@app.command("list")
def list_(
    methods: Annotated[bool, typer.Option("--methods", help="these alone")] = False,
    benchmarks: Annotated[bool, typer.Option("--benchmarks", help="these alone")] = False,
    presets: Annotated[bool, typer.Option("--presets", help="these alone")] = False,
    plugin: Plugin = None,
) -> None:
    """List methods with their variants, benchmarks and presets."""
    from harness.commands import listing

    _load(plugin)
    listing.show({"Methods": methods, "Benchmarks": benchmarks, "Presets": presets})


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs; several are merged")],
    out: Annotated[Path | None, typer.Option(help="folder to write into [default: the run]")] = None,
    against: Annotated[str | None, typer.Option(help="paper: its printed numbers beside ours")] = None,
) -> None:
    """Make tables, plots and the leaderboard again from stored results, without a model."""
    from harness import console as screen
    from harness.commands import report as reporting

    screen.show_reported(reporting.report(runs, out, against))


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="folder of a finished run")],
    new: Annotated[Path, typer.Argument(help="folder of another")],
) -> None:
    """Say what changed from one run to another, and whether it is significant."""
    from harness import console as screen
    from harness.commands import diff

    screen.show_listings(diff.diff(old, new))


@app.command("audit-paper")
def audit_paper() -> None:
    """Recompute what the KORE paper prints from its printed parts; list what does not follow."""
    from harness import console as screen
    from reports.tables.paper_audit import audit_listing

    screen.show_listings([audit_listing()])


@app.command()
def verify(run: Annotated[Path, typer.Argument(help="folder of a finished run")]) -> None:
    """Recompute every number from the stored answers; exit with 1 on any difference."""
    from harness import console as screen
    from harness.commands import verify

    findings = verify.verify(run)
    screen.show_findings(findings)
    raise typer.Exit(BUG if findings.differences else 0)


@app.command()
def doctor(
    out: Annotated[Path, typer.Option(help="where runs would be written")] = Path("runs"),
    preset: Annotated[str | None, typer.Option(help="also what this preset needs: model, data, tables")] = None,
    model: Model = None,
    set_: Set = None,
) -> None:
    """Say what is installed, what is missing, and the command that mends it."""
    from harness import console as screen
    from harness.commands import doctor

    checks = doctor.examine(out, preset, model, set_ or ())
    screen.show_checks(checks)
    raise typer.Exit(USER_ERROR if any(check.state == "missing" for check in checks) else 0)


@app.command()
def fetch(
    preset: Preset = "mini",
    only: Annotated[str | None, typer.Option(help="names as doctor lists them, by comma [default: what lacks]")] = None,
    dataset: Annotated[str | None, typer.Option(help="any data set of the hub instead, OWNER/NAME")] = None,
    model: Model = None,
    set_: Set = None,
) -> None:
    """Download what a preset needs. The only command that uses the network unasked by a setting."""
    from harness import console as screen
    from harness.commands import fetch as fetching
    from harness.config.settings import resolve
    from harness.data import requirements as needs

    if dataset:
        screen.log(f"it is in {fetching.fetch_dataset(dataset)}")
        return
    wanted = needs.chosen(needs.needs(resolve(preset, set_ or (), {"model": model})), only)
    for place in fetching.fetch(wanted, screen.log):
        screen.log(f"  it is in {place}")


@app.command("check-method")
def check_method(
    name: Annotated[str, typer.Argument(help="a method, with its variants; or one of them, METHOD:VARIANT")],
    plugin: Plugin = None,
) -> None:
    """Hold a method to the contract on a tiny model; explain each failure, and exit with 1 on any."""
    from harness.commands import check_method as command

    _load(plugin)
    raise typer.Exit(0 if command.check_method(name) else BUG)


@app.command("new-method")
def new_method(name: Annotated[str, typer.Argument(help="of the method and its file, such as my_idea")]) -> None:
    """Write a short file with a method that keeps the contract, to start from."""
    from harness import console as screen
    from harness.commands import new_method

    path = new_method.new_method(name, Path())
    screen.log(f"written: {path}; try `python -m harness check-method {path.stem.replace('_', '-')} --plugin {path}`")


@app.command()
def tune(
    methods: Methods,
    preset: Preset = "mini",
    out: Out = None,
    set_: Set = None,
    rates: Annotated[str | None, typer.Option(help="learning rates to try, by comma; the same for each method")] = None,
    plugin: Plugin = None,
) -> None:
    """Search each method's learning rate on knowledge held out for that; write down all that was tried."""
    from harness import console as screen
    from harness.commands import tune

    request = _request(
        methods, preset, out or Path("runs") / f"{Path(preset).stem}-tune", set_, None, None, None, plugin
    )
    screen.show_tuning(tune.tune(request, rates, screen.log))


@app.command()
def augment(
    knowledge: Annotated[Path, typer.Argument(help="folder with items.jsonl, or in EVOKE's layout")],
    out: Annotated[Path, typer.Option(help="folder for the training data")],
    kind: Annotated[
        str, typer.Option("--as", help="tree, text-agnostic, text-aware, image-agnostic or image-aware")
    ] = "tree",
    generator: Annotated[str, typer.Option(help="who writes: rule, openai:MODEL or local:FOLDER")] = "rule",
    images: Annotated[str, typer.Option(help="where pictures come from: own, folder:FOLDER or web")] = "own",
    clip: Annotated[Path | None, typer.Option(help="folder of the CLIP that chooses pictures")] = None,
    alike: Annotated[float, typer.Option(min=-1, max=1, help="least cosine of other pictures with the own")] = -1.0,
    check: Annotated[str, typer.Option(help="what tells support: text, generator or entailment:FOLDER")] = "text",
    negatives: Annotated[bool, typer.Option("--negatives", help="also recognitions whose answer is No")] = False,
    relations: Annotated[bool, typer.Option("--relations", help="also questions over two items")] = False,
    evaluation: Annotated[Path | None, typer.Option(help="questions to audit for overlap [default: beside]")] = None,
    seed: Annotated[int, typer.Option(help="of wordings and edits")] = 0,
    cache: Annotated[Path | None, typer.Option(help="folder of kept calls and downloads [default: OUT/store]")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="items at once")] = 8,
    budget_tokens: Annotated[int | None, typer.Option(min=0, help="most tokens, prompts and replies together")] = None,
    budget_money: Annotated[float | None, typer.Option(min=0, help="most money, at --price")] = None,
    price: Annotated[str, typer.Option(help="of a million prompt and reply tokens, by comma")] = "0,0",
    limit: Annotated[int | None, typer.Option(min=1, help="at most N items")] = None,
) -> None:
    """Turn knowledge (picture, name, text) into training data; nothing is asked of a model twice."""
    from harness import console as screen
    from harness.augment import options
    from harness.augment import view as shown
    from harness.commands import augment as conductor

    request = options.Options(
        knowledge, out, options.kind_named(kind), generator, images, clip, alike, check, negatives, relations,
        evaluation, seed, cache, workers, budget_tokens, budget_money, options.price_of(price), limit,
    )  # fmt: skip
    outcome = conductor.augment(request, screen.log)
    shown.show(outcome)
    raise typer.Exit(USER_ERROR if outcome.budget.ran_out else 0)


@app.command(hidden=True)
def worker(
    run: Annotated[Path, typer.Argument(help="folder of the run")],
    plugin: Plugin = None,
) -> None:
    """Compute the cells of a run whose numbers come by standard input; ``compare --workers`` starts it."""
    from harness.executors import worker

    worker.serve(run, plugin or ())


@app.command("pretrain-mini")
def pretrain_mini(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the model")] = Path("runs/pretrain-mini"),
    family: Annotated[str, typer.Option(help="which miniature: llava, or qwen, which begins with the first")] = "llava",
) -> None:
    """Pre-train a miniature's base model on its old world; a stopped run goes on where it was."""
    from harness import console as screen
    from harness.miniature import pretrain as stages

    screen.log(f"the model is in {stages.pretrain(out, family)}")


def _request(
    methods: str,
    preset: str,
    out: Path | None,
    assignments: list[str] | None,
    seeds: str | None,
    limit: int | None,
    benchmarks: str | None,
    plugin: list[Path] | None,
    *,
    data: str | None = None,
    sweep: list[str] | None = None,
    stages: int | None = None,
    where: dict[str, Any] | None = None,
) -> Any:
    """The flags that commands about cells share, resolved."""
    from harness.config.settings import Request, parse_names, parse_seeds, resolve
    from harness.config.sweep import axes
    from harness.data.requirements import check_there

    _load(plugin)
    flags = {
        "seeds": None if seeds is None else parse_seeds(seeds),
        "limit": limit,
        "stages": stages,
        "benchmarks": None if benchmarks is None else parse_names(benchmarks, "--benchmarks"),
        "cross": axes(data, sweep or ()),
        **(where or {}),
    }
    resolved = resolve(preset, assignments or (), flags)
    check_there(resolved)
    folder = out or Path("runs") / resolved.preset
    return Request(parse_names(methods, "--methods"), resolved, folder, tuple(plugin or ()))


def _load(plugin: list[Path] | None) -> None:
    from harness import console as screen
    from methods.registry import load_file, load_installed

    for path in plugin or ():
        load_file(path)
    for error in load_installed():
        screen.log(f"warning: {error}")


def _alone_but_for_compare(words: list[str]) -> None:
    from harness.distributed.process_group import world_size

    if world_size() > 1 and words[:1] != ["compare"]:
        raise UserError(
            "only compare runs in several processes",
            location=f"WORLD_SIZE={world_size()}",
            hint="start this command without `accelerate launch`",
        )


def main() -> None:
    """Run a command. What the user can mend is said in plain words, without a traceback."""
    try:
        _alone_but_for_compare(sys.argv[1:])
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except SystemExit as end:
        if end.code == STOPPED:
            print("\nstopped; what was finished is kept, and the same command goes on from here", file=sys.stderr)
        raise
