"""Benchmarks of one's own: from a YAML file, an installed package, or VLMEvalKit's further ones, into the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.editing import EDITING
from benchmarks.errors import UserError, suggest
from benchmarks.further import FurtherBenchmark, check_name, published_benchmark
from benchmarks.registry import all_benchmarks
from benchmarks.retention_specs import MINI_PREFIX
from harness.config.overrides import read_yaml
from harness.config.schema import Settings
from harness.config.value_errors import invalid_value

GROUP = "harness.benchmarks"
"""Entry points of this group name a path: a benchmark's YAML file in the package."""
PUBLISHED = ("dataset", "md5", "url")
"""Fields that only VLMEvalKit's own benchmarks have."""


def read_benchmark(path: Path) -> tuple[str, FurtherBenchmark]:
    """Read a benchmark's YAML file; its name is the file's unless it gives one.

    Raises:
        UserError: The file is missing or no YAML, or a field is unknown or wrong; names the file and the field.
    """
    content = read_yaml(path)
    name = str(content.pop("name", path.stem))
    known = [field for field in FurtherBenchmark.__dataclass_fields__ if field not in PUBLISHED]
    for field in content:
        if field not in known:
            hint = f"{suggest(field, known)}it may have name, {', '.join(known)}"
            raise UserError(f"a benchmark has no field {field!r}", location=f"{path}: {field}", hint=hint)
    if "family" not in content:
        hint = "add `family:` choice, yes-no, short answer or open"
        raise UserError("the family is missing", location=str(path), hint=hint)
    try:
        benchmark = TypeAdapter(FurtherBenchmark).validate_python(content)
    except ValidationError as error:
        raise invalid_value(error, FurtherBenchmark, lambda key: f"{path}: {key}") from error
    except UserError as error:
        raise UserError(error.message, location=f"{path}: {error.location}", hint=error.hint) from error
    return name, replace(benchmark, table=(path.parent / (benchmark.table or Path())).resolve())


def benchmark_flags(paths: Sequence[str | Path]) -> dict[str, Any]:
    """The benchmarks of ``--benchmark`` as settings by dotted key, as ``resolve`` takes them among its flags.

    Raises:
        UserError: As ``read_benchmark``, or two have the same name.
    """
    flags: dict[str, Any] = {}
    for path in map(Path, paths):
        name, benchmark = read_benchmark(path)
        if f"further.{name}" in flags:
            hint = "give each a name of its own (`name:` in its file)"
            raise UserError(f"two benchmarks have the name {name!r}", location=str(path), hint=hint)
        check_name(name, _known())  # before the name becomes part of a dotted key
        flags[f"further.{name}"] = benchmark
    return flags


def complete_benchmarks(settings: Settings) -> Settings:
    """Add what the settings only name: benchmarks of installed packages, of VLMEvalKit, and editing's measures.

    Raises:
        UserError: A name is unknown, or that of another benchmark; or an installed one does not load.
    """
    known, further = _known(), dict(settings.further)
    for name in further:
        if not further[name].dataset:
            check_name(name, known)
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in settings.benchmarks:
        if name not in known and name not in further:
            further[name] = _load(installed[name]) if name in installed else _published(name, (*known, *installed))
    named = (*settings.benchmarks, *further, *([_editing(settings.benchmarks)] if settings.editing else ()))
    asked = tuple(dict.fromkeys(named))
    return settings.model_copy(update={"further": further, "benchmarks": asked})


def _editing(benchmarks: Sequence[str]) -> str:
    """The name of editing's measures: the miniature's if a miniature is asked."""
    return f"{MINI_PREFIX}{EDITING}" if any(name.startswith(MINI_PREFIX) for name in benchmarks) else EDITING


def installed_benchmarks() -> tuple[str, ...]:
    """The names of the benchmarks of installed packages."""
    return tuple(entry.name for entry in entry_points(group=GROUP))


def _known() -> tuple[str, ...]:
    return tuple(info.name for info in all_benchmarks())


def _published(name: str, known: tuple[str, ...]) -> FurtherBenchmark:
    return published_benchmark(name, known)


def _load(entry: EntryPoint) -> FurtherBenchmark:
    where = f"entry point {entry.name} = {entry.value}"
    hint = "fix or uninstall the package that declares it"
    try:
        path = Path(entry.load())
    except Exception as error:  # another package's code may raise anything; the user must learn which package
        message = f"the benchmark does not load ({type(error).__name__}: {error})"
        raise UserError(message, location=where, hint=hint) from error
    check_name(entry.name, _known())
    return read_benchmark(path)[1]
