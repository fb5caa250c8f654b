"""The commands of a campaign, on a random model of a few thousand parameters or on the miniature."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.schema import TrainingSettings
from harness.miniature import llava, pretrain
from helpers import small_runs, tiny
from helpers.paths import ROOT
from tests.kill.processes import Running

OUT = "{out}"
"""Stands for the folder of the command."""
LAUNCHER = ("accelerate", "launch", "--config_file", str(ROOT / "harness" / "launch" / "ddp.yaml"))
ANSWERING = 'batch_size: 2, max_new_tokens: {"*": 8}'
PRETRAINING = pretrain.PretrainingPlan(
    look_steps=3, look_batch=4, lesson_steps=3, lesson_batch=4, drill_steps=3, drill_batch=4
)


@dataclass(frozen=True)
class Scenario:
    """A command that is killed and started again.

    Args:
        name: What ``--only`` calls it.
        words: Its arguments, with ``OUT`` for its folder.
        share: Rounds of it in one turn of the campaign; those that start new interpreters take ten times longer.
        given: A folder that is copied into its folder before the first start.
        spreads: Whether it starts other processes, of which one alone may be killed.
        prepare: Called in the process of the command before it begins.
        patterns: Moments to choose from, beside any: parts of the paths that change there.
    """

    name: str
    words: Sequence[str]
    share: int = 1
    given: Path | None = None
    spreads: bool = False
    prepare: Callable[[], None] | None = None
    patterns: Sequence[str] = ()

    @property
    def launched(self) -> bool:
        """Whether a launcher starts all of its processes."""
        return self.words[0] == LAUNCHER[0]

    def start(self, out: Path, log: Path, environment: dict[str, str]) -> Running:
        """Start it, with its folder as ``out``."""
        if self.given and not out.exists():
            shutil.copytree(self.given, out)
        words = [word.replace(OUT, str(out)) for word in self.words]
        return Running(words, log, environment, self.prepare)


def list_scenarios(folder: Path, only: Sequence[str] | None = None, *, miniature: bool = False) -> list[Scenario]:
    """The scenarios, or those with these names; writes into ``folder`` what they need.

    Args:
        folder: For what they need.
        only: Their names.
        miniature: Whether comparisons are of the miniature: three benchmarks, a few items and questions each.
    """
    preset = small_runs.write_preset(
        folder / "input", tiny.write_tiny_model(folder / "model"), items=4, old="mini", answering=ANSWERING
    )
    of_miniature = ("mini", "--limit", "4", "--benchmarks", "mini-EVOKE,mini-MMBench,mini-MMDU")
    compare = ("compare", "--preset", *(of_miniature if miniature else (str(preset),)), "--out", OUT, "--methods")
    launched = ("--num_processes", "2", "--main_process_port", "0", "-m", "harness", *compare, "lora")
    augment = ("augment", str(preset.parent / "data"), "--out", OUT, "--negatives", "--relations")
    export = ("export", f"{OUT}/run", "--row", "lora", "--to", f"{OUT}/exported", "--without-projector")
    training_data = ("export", f"{OUT}/run", "--row", "lora", "--to", f"{OUT}/data", "--training-data")
    pretraining = ("pretrain-mini", "--out", OUT)
    in_store = (r"\.manifest", "_checkpoint/", r"\.log$")
    finished = folder / "finished"
    scenarios = [
        Scenario("compare", (*compare, "replay,o-lora", "--stages", "2"), 6, patterns=(*in_store, "/report/")),
        Scenario("workers", (*compare, "lora,replay", "--workers", "2"), spreads=True, patterns=in_store),
        Scenario("launch", (*LAUNCHER, *launched), spreads=True, patterns=in_store),
        Scenario("augment", augment, 9, patterns=("/imgs/", "dataset")),
        Scenario("export", export, 6, given=finished, patterns=("/exported$",)),
        Scenario("training-data", training_data, 2, given=finished, patterns=("/imgs/", "/data$")),
        Scenario("pretraining", pretraining, 6, prepare=_shorten_pretraining, patterns=("/pretraining/", "/drilled/")),
    ]
    if unknown := set(only or ()) - {scenario.name for scenario in scenarios}:
        raise SystemExit(f"there is no scenario {', '.join(sorted(unknown))}")
    chosen = [scenario for scenario in scenarios if only is None or scenario.name in only]
    if any(scenario.given for scenario in chosen):
        _run_to_export(Scenario("finished", (*compare, "lora")), finished / "run")
    return chosen


def _run_to_export(scenario: Scenario, out: Path) -> None:
    log = out.parent.with_suffix(".log")
    running = scenario.start(out, log, {})
    if not running.wait() or running.code:
        raise SystemExit(f"the run to export from ended with {running.code}; see {log}")


def _shorten_pretraining() -> None:
    """Few steps, a checkpoint after each, and the tokenizer of the shipped model, whose training takes ten seconds."""
    from tokenizers import Tokenizer

    def save_often(**settings: object) -> TrainingSettings:
        return TrainingSettings.model_validate(settings | {"save_every": 0})

    pretrain.PLANS["llava"] = PRETRAINING
    pretrain.TrainingSettings = save_often  # type: ignore[assignment, misc]
    llava.train_tokenizer = lambda corpus: Tokenizer.from_file(os.fspath(pretrain.DATA / "model" / "tokenizer.json"))
