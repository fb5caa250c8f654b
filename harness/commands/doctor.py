"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from benchmarks.registry import get_benchmark
from harness.config.settings import ResolvedSettings, resolve
from harness.data.requirements import needs
from harness.presets import FOLDER, preset_names
from harness.storage.provenance import version_of

DISTRIBUTION = "knowledge-injection-harness"
VLMEVAL = "ms-vlmeval==0.0.20"
DEFAULT = "mini"
NEEDED_DISK, NEEDED_MEMORY = 2, 3
"""Gigabytes that a run of the miniature wants free."""

State = Literal["ok", "warning", "missing"]


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
    """Look at Python, the libraries, VLMEvalKit, the presets' files and the machine.

    Args:
        folder: Where runs would be written.
        preset: One that is looked at closely.
        model: Another base model for it.
        assignments: Settings for it.

    Raises:
        UserError: There is no such preset, or a setting is wrong.
    """
    general = [_python(), *_libraries(), _vlmeval(), *_methods()]
    if preset is None:
        return [*general, *_presets(), *_machine(folder)]
    resolved = resolve(preset, assignments, {"model": model})
    flags = ["--preset", preset, *(["--model", model] if model else [])]
    flags += [word for text in assignments for word in ("--set", text)]
    return [*general, *_needs(resolved, flags), *_machine(folder, real=_real(resolved))]


def _needs(resolved: ResolvedSettings, flags: Sequence[str]) -> Iterator[Diagnostic]:
    """One line for each thing that the settings read; ``flags`` have named them."""
    for need in needs(resolved):
        told = "; ".join(filter(None, (need.fault, need.size, f"licence: {need.licence}" if need.source else "")))
        get = f"python -m harness fetch {shlex.join(flags)} --only {need.name}"
        hint = (get if need.source else f"put it there: {need.place}") if need.fault else ""
        yield Diagnostic(need.name, "missing" if need.fault else "ok", told if need.fault else str(need.place), hint)
    yield from _judge(resolved)


def _judge(resolved: ResolvedSettings) -> Iterator[Diagnostic]:
    wanting = [name for name in _real(resolved) if get_benchmark(name).needs_judge]
    if wanting and resolved.settings.judge in (None, "", "none"):
        listed = ", ".join(wanting)
        yield Diagnostic(
            "judge", "warning", f"none: {listed} will not be scored", "--judge openai:MODEL or local:FOLDER"
        )


def _real(resolved: ResolvedSettings) -> list[str]:
    """The benchmarks of published size."""
    return [name for name in resolved.settings.benchmarks if get_benchmark(name).size == "real"]


def _python() -> Diagnostic:
    found = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Diagnostic("Python", "ok" if good else "warning", found, "" if good else "use Python 3.11 or 3.12")


def _libraries() -> Iterator[Diagnostic]:
    """One line for each library that the package asks for."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Diagnostic("harness", "missing", "not installed as a package", "pip install -e .")
        return
    for line in wanted:
        requirement, _, extra = line.partition(";")
        if "extra" in extra:
            continue
        name = re.split(r"[<>=!~ ]", requirement.strip())[0]
        version = version_of(name)
        if not version:
            yield Diagnostic(name, "missing", "not installed", f'pip install "{requirement.strip()}"')
        elif not _satisfies(version, requirement):
            yield Diagnostic(name, "warning", version, f'pip install "{requirement.strip()}"')
        else:
            yield Diagnostic(name, "ok", version)


def _satisfies(version: str, requirement: str) -> bool:
    """Whether a version is at least, or exactly, what a requirement names."""
    for operator, bound in re.findall(r"(>=|==)\s*([\w.]+)", requirement):
        have, want = _numbers(version), _numbers(bound)
        if (operator == ">=" and have < want) or (operator == "==" and have != want):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The release part of a version; trailing zeros do not count."""
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _vlmeval() -> Diagnostic:
    version = version_of(VLMEVAL.partition("==")[0])
    if importlib.util.find_spec("vlmeval") is None:
        return Diagnostic("VLMEvalKit", "missing", "retention cannot be scored", f"pip install --no-deps {VLMEVAL}")
    if version and version != VLMEVAL.partition("==")[2]:
        return Diagnostic("VLMEvalKit", "warning", version, f"pip install --no-deps {VLMEVAL}")
    return Diagnostic("VLMEvalKit", "ok", version or "found")


def _methods() -> Iterator[Diagnostic]:
    """One line for each installed package whose method does not load."""
    from methods.registry import load_installed

    for error in load_installed():
        yield Diagnostic(error.location, "warning", error.message, error.hint)


def _presets() -> Iterator[Diagnostic]:
    """One line for each preset; what does not come with the package is only missed when it is asked for."""
    for name in preset_names():
        resolved = resolve(name)
        shipped = (resolved.settings.data.knowledge, resolved.settings.data.retention) if name == DEFAULT else ()
        faults = [need.name for need in needs(resolved) if need.fault]
        faults += [path.name for path in shipped if not path.exists()]
        if not faults:
            yield Diagnostic(f"preset {name}", "ok", "model and data are there")
        elif name == DEFAULT:
            hint = f"put the files where {FOLDER / name}.yaml says, or install the package again"
            yield Diagnostic(f"preset {name}", "missing", f"no {', '.join(faults)}", hint)
        else:
            told = f"{len(faults)} things are not there"
            yield Diagnostic(f"preset {name}", "warning", told, f"python -m harness doctor --preset {name}")


def _machine(folder: Path, real: Sequence[str] = ()) -> Iterator[Diagnostic]:
    """One line for each part of the machine; ``real`` benchmarks want more of it than the miniature does."""
    existing = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(existing).free / 1e9
    enough = free >= NEEDED_DISK
    yield Diagnostic("disk", "ok" if enough else "warning", f"{free:.0f} GB free", "" if enough else "free some space")
    writable = os.access(existing, os.W_OK)
    yield Diagnostic(
        "run folder", "ok" if writable else "missing", str(folder), "" if writable else "choose another --out"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    enough = memory >= NEEDED_MEMORY
    yield Diagnostic(
        "memory", "ok" if enough else "warning", f"{memory:.0f} GB", "" if enough else "close other programs"
    )
    yield Diagnostic("processors", "ok", str(os.cpu_count()))
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            yield Diagnostic("GPU", "ok", torch.cuda.get_device_name())
        elif real:
            yield Diagnostic("GPU", "warning", "none; models of published size want one", "run on a machine with a GPU")
        else:
            yield Diagnostic("GPU", "ok", "none; the miniature needs none")
