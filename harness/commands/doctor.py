"""What is installed, what is missing, and the command that fixes it."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from benchmarks.errors import UserError
from benchmarks.registry import get_benchmark
from harness.config.extras import check_extras
from harness.config.schema import Settings
from harness.config.settings import ResolvedSettings, resolve
from harness.console import stdout
from harness.data.answering import answering_notes, template_protocols
from harness.data.requirements import list_requirements
from harness.presets import FOLDER, preset_names
from harness.storage.provenance import version_of

DISTRIBUTION = "knowledge-injection-harness"
VLMEVAL = "ms-vlmeval==0.0.20"
DEFAULT = "mini"
NEEDED_DISK = 2
"""Gigabytes that a run of the miniature needs free on the disk."""
NEEDED_MEMORY = 3
"""Gigabytes of memory that it needs."""

State = Literal["ok", "warning", "missing"]
STYLES: dict[State, str] = {"ok": "green", "warning": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Diagnostic:
    """One line of the doctor's report."""

    what: str
    state: State
    found: str
    hint: str = ""


def examine(
    folder: Path, preset: str | None = None, model: str | None = None, assignments: Sequence[str] = ()
) -> list[Diagnostic]:
    """Check Python, the libraries, VLMEvalKit, the files of the presets and the machine.

    Args:
        folder: Where runs would be written.
        preset: Check this one in detail, instead of all of them in one line each.
        model: Another base model for it.
        assignments: Settings for it.

    Raises:
        UserError: There is no such preset, or a setting is wrong.
    """
    general = [_python(), *_libraries(), _vlmeval(), *_installed()]
    if preset is None:
        return [*general, *_presets(), *_machine(folder)]
    resolved = resolve(preset, assignments, {"model": model})
    flags = ["--preset", preset, *(["--model", model] if model else [])]
    flags += [word for text in assignments for word in ("--set", text)]
    return [*general, *_requirements(resolved, flags), *_machine(folder, real=_real(resolved))]


def show_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Print the doctor's report."""
    table = Table("what", "state", "found", "hint", box=None, pad_edge=False)
    for line in diagnostics:
        state = Text(line.state, style=STYLES[line.state])
        table.add_row(Text(line.what), state, Text(line.found), Text(line.hint))
    stdout().print(table)


def _requirements(resolved: ResolvedSettings, flags: Sequence[str]) -> Iterator[Diagnostic]:
    """One line for each file or folder that the settings read; ``flags`` are those that chose the settings."""
    for need in list_requirements(resolved):
        if not need.problem:
            yield Diagnostic(need.name, "ok", str(need.path))
            continue
        parts = (need.problem, need.size, f"licence: {need.licence}" if need.source else "")
        command = f"python -m harness fetch {shlex.join(flags)} --only {need.name}"
        hint = command if need.source else f"put it there: {need.path}"
        yield Diagnostic(need.name, "missing", "; ".join(filter(None, parts)), hint)
    for note in answering_notes(resolved.settings):
        yield Diagnostic("answering", "ok", note)
    yield from _protocols(resolved.settings)
    yield from _extras(resolved.settings)
    further = resolved.settings.further
    unscored = [name for name in _real(resolved) if get_benchmark(name, further).needs_judge]
    if unscored and resolved.settings.judge in (None, "", "none"):
        found = f"none: {', '.join(unscored)} will not be scored"
        yield Diagnostic("judge", "warning", found, "--judge openai:MODEL or local:FOLDER")


def _protocols(settings: Settings) -> Iterator[Diagnostic]:
    """One line if the model, once it is there, cannot be asked by the protocol."""
    protocols = template_protocols(settings)
    if not protocols or not (settings.model / "config.json").is_file():
        return
    from harness.models.registry import check_protocols

    try:
        check_protocols(settings.model, protocols)
    except UserError as error:
        yield Diagnostic(error.location, "missing", error.message, error.hint)


def _extras(settings: Settings) -> Iterator[Diagnostic]:
    """One line if a setting needs an optional extra that is not there, or that cannot work with the others."""
    try:
        check_extras(settings, [{}, *(section.get("training", {}) for section in settings.methods.values())])
    except UserError as error:
        yield Diagnostic(error.location, "missing", error.message, error.hint)


def _real(resolved: ResolvedSettings) -> list[str]:
    """Names of the benchmarks of published size."""
    settings = resolved.settings
    return [name for name in settings.benchmarks if get_benchmark(name, settings.further).size == "real"]


def _check(what: str, good: bool, found: str, hint: str, bad: State = "warning") -> Diagnostic:
    return Diagnostic(what, "ok", found) if good else Diagnostic(what, bad, found, hint)


def _python() -> Diagnostic:
    found = ".".join(map(str, sys.version_info[:3]))
    return _check("Python", (3, 11) <= sys.version_info[:2] <= (3, 12), found, "use Python 3.11 or 3.12")


def _libraries() -> Iterator[Diagnostic]:
    """One line for each library that the package requires."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Diagnostic("harness", "missing", "not installed as a package", "pip install -e .")
        return
    for line in lines:
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        name, hint = Requirement(requirement).name, f'pip install "{requirement.strip()}"'
        if version := version_of(name):
            yield _check(name, _satisfies(version, requirement), version, hint)
        else:
            yield Diagnostic(name, "missing", "not installed", hint)


def _satisfies(version: str, requirement: str) -> bool:
    """Whether a version is within the bounds of a requirement."""
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def _vlmeval() -> Diagnostic:
    name, _, pinned = VLMEVAL.partition("==")
    version, hint = version_of(name), f"pip install --no-deps {VLMEVAL}"
    if importlib.util.find_spec("vlmeval") is None:
        return Diagnostic("VLMEvalKit", "missing", "retention cannot be scored", hint)
    return _check("VLMEvalKit", version in ("", pinned), version or "found", hint)


def _installed() -> Iterator[Diagnostic]:
    """One line for each installed package whose method or family of models does not load."""
    from harness.models import GROUP as FAMILIES
    from methods.entry_points import load_installed
    from methods.registry import GROUP as METHODS

    for error in (*load_installed(METHODS), *load_installed(FAMILIES)):
        yield Diagnostic(error.location, "warning", error.message, error.hint)


def _presets() -> Iterator[Diagnostic]:
    """One line for each preset; files that do not come with the package are missing only if it is asked for."""
    for name in preset_names():
        resolved = resolve(name)
        shipped = (resolved.settings.data.knowledge, resolved.settings.data.retention) if name == DEFAULT else ()
        faults = [need.name for need in list_requirements(resolved) if need.problem]
        faults += [path.name for path in shipped if path and not path.exists()]
        if not faults:
            yield Diagnostic(f"preset {name}", "ok", "model and data are there")
        elif name == DEFAULT:
            hint = f"put the files where {FOLDER / name}.yaml says, or install the package again"
            yield Diagnostic(f"preset {name}", "missing", f"no {', '.join(faults)}", hint)
        else:
            found = f"{len(faults)} things are not there"
            yield Diagnostic(f"preset {name}", "warning", found, f"python -m harness doctor --preset {name}")


def _machine(folder: Path, real: Sequence[str] = ()) -> Iterator[Diagnostic]:
    """One line for each part of the machine; ``real`` benchmarks need more of it than the miniature does."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    yield _check("disk", free >= NEEDED_DISK, f"{free:.0f} GB free", "free some space")
    yield _check("run folder", os.access(existing, os.W_OK), str(folder), "choose another --out", bad="missing")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield _check("memory", memory >= NEEDED_MEMORY, f"{memory:.0f} GB", "close other programs")
    yield Diagnostic("processors", "ok", str(os.cpu_count()))
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            yield Diagnostic("GPU", "ok", torch.cuda.get_device_name())
        elif real:
            yield Diagnostic("GPU", "warning", "none; models of published size need one", "run on a machine with a GPU")
        else:
            yield Diagnostic("GPU", "ok", "none; the miniature needs none")
