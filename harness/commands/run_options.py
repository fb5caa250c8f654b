"""The options of the commands that plan or compute a run, and the request that they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

if TYPE_CHECKING:
    from harness.config.settings import Request

Methods = Annotated[
    str,
    Option(
        help="methods and variants, by comma; 'all' for every method, 'all-variants' for their variants too, 'paper' "
        "for the rows of KORE's claims"
    ),
]
Preset = Annotated[str, Option(help="name of a preset, or a YAML file of your own")]
Model = Annotated[str | None, Option(help="folder of another base model, or its id on the hub")]
Set = Annotated[list[str] | None, Option("--set", help="any setting: training.epochs=3, METHOD.rank=64")]
Benchmarks = Annotated[
    str | None, Option(help="benchmarks, by comma, also VLMEvalKit's further ones", show_default="all of the preset")
]
Benchmark = Annotated[list[Path] | None, Option(help="a YAML file with a benchmark of your own")]
Memory = Annotated[str | None, Option(help="plan for a card of this size: 24GiB", show_default="this machine's")]
Plugin = Annotated[list[Path] | None, Option(help="a Python file with a method or a model family of your own")]


@dataclass(frozen=True)
class RunOptions:
    """The options of the commands that plan or compute a run."""

    methods: Methods
    preset: Preset = "mini"
    out: Annotated[Path | None, Option(help="folder of the run", show_default="runs/PRESET")] = None
    set_: Set = None
    seeds: Annotated[str | None, Option("--seeds", help="3 for the seeds 0 1 2; a list: 0,7; one seed: 7,")] = None
    limit: Annotated[int | None, Option(help="at most N items and questions of each benchmark; marks the run")] = None
    stages: Annotated[int | None, Option(help="random parts in which the knowledge arrives; EVOKE: 4, 8, 12")] = None
    benchmarks: Benchmarks = None
    benchmark: Benchmark = None
    editing: Annotated[bool | None, Option("--editing", help="editing's generality, portability, locality too")] = None
    data: Annotated[str | None, Option(help="train each method on each of these: evoke,kore")] = None
    sweep: Annotated[
        list[str] | None, Option(help="each method at each value: learning_rate=1e-3,3e-3 or targets=attention,mlp")
    ] = None
    adapter: Annotated[
        list[str] | None, Option(help="NAME=FOLDER: a row from a PEFT adapter that was trained elsewhere")
    ] = None
    row: Annotated[
        list[str] | None, Option(help="NAME=FOLDER: a row from a fine-tuned model of the same architecture")
    ] = None
    answers: Annotated[
        list[str] | None, Option(help="NAME=FILE: a row of answers from elsewhere; see `answers export`")
    ] = None
    answerer: Annotated[
        list[str] | None, Option(help="NAME=openai:MODEL: a row of answers that an endpoint gives; see OPENAI_BASE_URL")
    ] = None
    budget_tokens: Annotated[int | None, Option(min=0, help="of --answerer: most tokens, all together")] = None
    budget_money: Annotated[float | None, Option(min=0, help="of --answerer: most money, at --price")] = None
    price: Annotated[str, Option(help="of a million prompt and answer tokens, by comma")] = "0,0"
    model: Model = None
    judge: Annotated[str | None, Option(help="who grades: rule, openai:MODEL, local:FOLDER or none")] = None
    protocol: Annotated[str | None, Option(help="prompts and rules: vlmevalkit, vlmevalkit-llava or llava")] = None
    executor: Annotated[str | None, Option(help="local, or ray to spread the cells over a Ray cluster")] = None
    workers: Annotated[int | None, Option(help="cells at once, each in its own process", show_default="1 here")] = None
    plugin: Plugin = None

    def request(self, **more: Any) -> Request:
        """Load the plugins and resolve the settings; ``more`` are settings that no option sets.

        Raises:
            UserError: An option or a setting is wrong, or something that the run reads is missing.
        """
        from harness.augment.options import parse_price
        from harness.config.answerers import Answerers, parse_answerers
        from harness.config.further import benchmark_flags
        from harness.config.settings import Request, parse_names, parse_rows, parse_seeds, resolve
        from harness.config.sweep import parse_axes
        from harness.data.requirements import check_requirements
        from methods.registry import load_plugins

        plugins = load_plugins(self.plugin or ())
        flags: dict[str, Any] = {
            "seeds": None if self.seeds is None else parse_seeds(self.seeds),
            "benchmarks": None if self.benchmarks is None else parse_names(self.benchmarks, "--benchmarks"),
            "cross": parse_axes(self.data, self.sweep or ()),
        }
        same = ("limit", "stages", "editing", "model", "judge", "protocol", "executor", "workers")
        flags |= {name: getattr(self, name) for name in same} | more
        flags |= parse_rows(self.adapter or (), self.row or (), self.answers or ())
        flags |= benchmark_flags(self.benchmark or ())
        resolved = resolve(self.preset, self.set_ or (), flags)
        methods = parse_names(self.methods, "--methods")
        check_requirements(resolved, methods)
        out = self.out or Path("runs") / resolved.preset
        price = parse_price(self.price)
        models = parse_answerers(self.answerer or ())
        answerers = Answerers(models, self.budget_tokens, self.budget_money, (price.prompt, price.completion))
        return Request(methods, resolved, out, plugins, answerers)


def takes_run_options(
    *left_out: str, methods: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of ``RunOptions`` as its options, but for those left out, and keep its own.

    Args:
        left_out: Fields that are no options.
        methods: The methods of a command that has no option for them.
    """
    fixed: dict[str, Any] = {} if methods is None else {"methods": methods}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @functools.wraps(command)
        def call(**values: Any) -> None:
            more = {option.name: values.pop(option.name) for option in own}
            command(RunOptions(**values, **fixed), **more)

        signature = inspect.signature(RunOptions, eval_str=True)  # typer reads the options from a signature
        options = [option for name, option in signature.parameters.items() if name not in (*left_out, *fixed)]
        call.__signature__ = signature.replace(parameters=[*options, *own])  # type: ignore[attr-defined]
        return call

    return decorate
