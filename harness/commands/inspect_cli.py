"""The options of ``harness inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from harness.commands.run_options import Benchmarks, Model, Preset, Set

app = typer.Typer(name="inspect", help="Look into a model or training data, without training.", no_args_is_help=True)


@app.callback()
def inspect() -> None:
    """Look into a model or training data, without training."""


@app.command("covariances")
def covariances(
    preset: Preset = "mini",
    out: Annotated[Path | None, Option(help="folder for plots", show_default="runs/PRESET-covariances")] = None,
    layers: Annotated[
        str | None,
        Option(help="regular expression over names of linear layers", show_default="first, middle and last"),
    ] = None,
    samples: Annotated[int, Option(min=2, help="prompts of each benchmark")] = 256,
    rank: Annotated[
        int | None, Option(min=1, help="of the bottom subspaces", show_default="a sixteenth of the layer's inputs")
    ] = None,
    norm: Annotated[
        str, Option(help="how tokens are weighted: token-mean, or official as in KORE's code")
    ] = "token-mean",
    seed: Annotated[int, Option(help="of the draw of prompts")] = 0,
    benchmarks: Benchmarks = None,
    limit: Annotated[int | None, Option(min=2, help="at most N questions of each benchmark to draw from")] = None,
    model: Model = None,
    set_: Set = None,
) -> None:
    """Draw covariances of layers' inputs for each benchmark, and how alike they are."""
    from harness.commands import covariances as command
    from harness.config.settings import parse_names, resolve
    from harness.data.requirements import check_requirements

    names = None if benchmarks is None else parse_names(benchmarks, "--benchmarks")
    resolved = resolve(preset, set_ or (), {"model": model, "benchmarks": names, "limit": limit})
    check_requirements(resolved, ())
    options = command.CovarianceOptions(layers, samples, rank, command.parse_norm(norm), seed)
    folder = out or Path("runs") / f"{Path(preset).stem}-covariances"
    command.show_files(command.inspect_covariances(resolved, folder, options))


@app.command("filters")
def filters(
    preset: Preset = "mini",
    rate: Annotated[float, Option(min=0.0, max=1.0, help="probability of an error in a statement about a fact")] = 0.2,
    check: Annotated[str, Option(help="what checks support: text, or entailment:FOLDER beside it")] = "text",
    seed: Annotated[int, Option(help="of wordings and errors")] = 0,
    limit: Annotated[int | None, Option(min=2, help="at most N items")] = None,
    set_: Set = None,
) -> None:
    """Measure how many wrong statements about the preset's knowledge a filter of `augment` finds."""
    from benchmarks.data.knowledge import load_knowledge
    from harness.augment.factory import build_checker
    from harness.commands import filters as command
    from harness.config.settings import resolve
    from harness.data.inputs import injection_file
    from methods.augmentation.generators.rule_based import RuleGenerator

    knowledge = load_knowledge(injection_file(resolve(preset, set_ or ()).settings))[:limit]
    judge = build_checker(check, RuleGenerator(seed))
    command.show_filter(command.measure_filter(knowledge, rate, seed, judge))
