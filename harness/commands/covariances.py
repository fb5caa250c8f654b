"""Pictures of what several benchmarks' prompts have in common inside a model: covariances of layers' inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.config.settings import Request, ResolvedSettings
from harness.console import print_lines, progress
from harness.experiment.context import RunContext, build_context
from harness.experiment.resources import CellResources
from harness.storage.files import atomic_write, locked

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel
    from methods.components.covariance_similarity import CovarianceSummary
    from methods.components.input_moments import Norm
    from reports.plots.covariances import LayerCovariances

SIZE = 32
"""Blocks along each side of a heat map, as in KORE's figures."""
RANK_SHARE = 1 / 16
"""Share of a layer's inputs that the bottom subspace has by default: 256 of 4096."""


@dataclass(frozen=True)
class CovarianceOptions:
    """What is looked at, as given on the command line."""

    layers: str | None = None
    """A pattern over the names of the decoder's linear layers; None for the first, middle and last decoder layer."""
    samples: int = 256
    rank: int | None = None
    norm: Norm = "token-mean"
    seed: int = 0


def inspect_covariances(resolved: ResolvedSettings, out: Path, options: CovarianceOptions) -> list[Path]:
    """Compute covariances of the inputs of some layers for each benchmark, and draw them and their similarities.

    Args:
        resolved: They name the model, the data and the benchmarks.
        out: Folder for the plots.
        options: Layers and prompts.

    Returns:
        The files written.

    Raises:
        UserError: No layer matches, the rank is above a layer's, or something cannot be read.
    """
    from methods.components.covariance_similarity import summarize
    from reports.build import write_plots
    from reports.plots.covariances import covariance_plots

    with locked(out):
        context = build_context(Request((), resolved, out))
        prompts = _prompts(context, options)
        ranks = choose_ranks(context.model, options)
        whole: dict[str, dict[str, CovarianceSummary]] = {}
        halves: dict[str, tuple[dict[str, CovarianceSummary], ...]] = {}
        with progress("covariances", len(prompts)) as bar:
            for name, own in prompts.items():
                whole[name] = summarize(context.model, own, ranks, options.norm)
                parts = (own[::2], own[1::2])
                halves[name] = tuple(summarize(context.model, part, ranks, options.norm) for part in parts)
                bar(name)
        layers = [
            _compare(layer, {n: whole[n][layer] for n in prompts}, {n: [h[layer] for h in halves[n]] for n in prompts})
            for layer in next(iter(whole.values()))
        ]
        return write_plots(covariance_plots(layers), out, atomic_write)


def parse_norm(text: str) -> Norm:
    """How tokens are weighted.

    Raises:
        UserError: There is no such way.
    """
    from methods.components.input_moments import Norm

    known: tuple[Norm, ...] = get_args(Norm)
    for norm in known:
        if text == norm:
            return norm
    hint = f"choose from {', '.join(known)}"
    raise UserError("there is no such way to weight tokens", location=f"--norm {text}", hint=hint)


def show_files(files: Sequence[Path]) -> None:
    """Print where the plots are."""
    print_lines(*(f"plot: {file}" for file in files if file.suffix == ".svg"), "their data are beside them as CSV")


def choose_ranks(model: LanguageVisionModel, options: CovarianceOptions) -> dict[str, int]:
    """The chosen linear layers, in the decoder's order, and the rank of each one's bottom subspace.

    Raises:
        UserError: The pattern is none or matches nothing, or the rank is above a layer's number of inputs.
    """
    from methods.components.layerwise_forward import decoder_layers

    layers = decoder_layers(model)
    widths = {name: linear.in_features for _, linears in layers for name, linear in linears.items()}
    if options.layers is None:
        places = dict.fromkeys((0, len(layers) // 2, len(layers) - 1))
        names = [next(iter(layers[place][1])) for place in places]
    else:
        names = _matching(options.layers, list(widths))
    for name in names:
        if (options.rank or 1) > widths[name]:
            problem = f"rank {options.rank}, but {name} has only {widths[name]} inputs"
            raise UserError(problem, location="--rank", hint=f"choose at most {widths[name]}, or other layers")
    return {name: options.rank or max(1, round(RANK_SHARE * widths[name])) for name in names}


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The names in which the pattern occurs."""
    where = f"--layers {pattern}"
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        hint = r"write a regular expression such as layers\.0\..*q_proj"
        raise UserError(f"this is no pattern ({error})", location=where, hint=hint) from error
    if not found:
        hint = f"the names are like {names[0]} and {names[-1]}"
        raise UserError("no linear layer of the decoder matches", location=where, hint=hint)
    return found


def _prompts(context: RunContext, options: CovarianceOptions) -> dict[str, Sequence[Conversation]]:
    """Prompts of each benchmark, drawn as for a method that reads it.

    Raises:
        UserError: A benchmark has too few for two halves.
    """
    inputs = context.inputs
    questions = {task.name: task.questions for task in inputs.tasks}
    resources = CellResources(options.seed, inputs.pools, context.store, {}, evaluation_inputs=questions)
    prompts = {name: resources.benchmark_prompts(name, options.samples) for name in questions}
    for name, own in prompts.items():
        if len(own) < 2:
            raise UserError("two prompts are needed, to compare halves", location=name, hint="raise --limit")
    return prompts


def _compare(
    layer: str, whole: Mapping[str, CovarianceSummary], halves: Mapping[str, Sequence[CovarianceSummary]]
) -> LayerCovariances:
    """Pictures and similarities of one layer's covariances, by benchmark."""
    import numpy as np

    from methods.components.covariance_similarity import chance, max_pooled, similarities
    from reports.plots.covariances import LayerCovariances

    names = tuple(whole)
    measured = {(name, name): similarities(*halves[name]) for name in names}
    for a, b in combinations(names, 2):
        measured[a, b] = measured[b, a] = similarities(whole[a], whole[b])
    matrices = {
        measure: np.array([[measured[a, b][measure] for b in names] for a in names])
        for measure in measured[names[0], names[0]]
    }
    pictures = tuple(max_pooled(one.covariance, SIZE).double().numpy() for one in whole.values())
    return LayerCovariances(layer, names, pictures, matrices, chance(whole[names[0]]))
