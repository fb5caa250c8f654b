"""Resolve the settings of a run from defaults, preset and command line; each value keeps its origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from benchmarks.data.rows import is_data_path
from benchmarks.errors import UserError
from benchmarks.registry import all_benchmarks
from harness.config import hub
from harness.config.answerers import Answerers
from harness.config.further import complete_benchmarks
from harness.config.overrides import Layer, flatten, nest, parse_assignment, unknown_name
from harness.config.preset_files import read_preset
from harness.config.row_names import ROW_NAME
from harness.config.schema import EVERY, OLD, SOURCES, Pool, Settings, SweepAxis
from harness.config.sequence import KNOWLEDGE, STAGES, check_one_source, put_stages
from harness.config.sweep import DATA
from harness.config.value_errors import invalid_value

EVERY_METHOD = "*"
"""Under ``methods`` in a preset: settings of every method that has a setting of that name."""
CLI_SET = "--set"
"""The origin of values from ``--set``."""
LANGUAGE_BASE = "language_base"
"""A method's setting that is a model's folder or its id on the hub."""
PATHS = frozenset({"data.knowledge", "data.evaluation", "data.editing", "data.tuning", "data.retention"})
"""Settings whose values are paths, besides the model."""
SPLIT = {
    f"data.{OLD}": tuple(f"data.{pool}" for pool in Pool),
    "answering.max_new_tokens": (f"answering.max_new_tokens.{EVERY}",),
}
"""Short names of other settings: of an earlier version, which now set several, and of one number for all benchmarks."""


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings with the origin of each value, by dotted key."""

    preset: str
    settings: Settings
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Where the value of a dotted key comes from."""
        return self.origins.get(key, "default")


@dataclass(frozen=True)
class Request:
    """The methods, settings and folder of a run."""

    methods: tuple[str, ...]
    resolved: ResolvedSettings
    out: Path
    plugins: tuple[Path, ...] = ()
    """Files with custom methods; worker processes load them too."""
    answerers: Answerers = field(default_factory=Answerers)
    """Models behind an endpoint, asked before anything is computed; then their rows are answers from elsewhere."""


def resolve(
    preset: str, assignments: Sequence[str] | Mapping[str, Any] = (), flags: Mapping[str, Any] | None = None
) -> ResolvedSettings:
    """Resolve settings from the defaults, a preset, ``--set`` assignments and other flags.

    Args:
        preset: A name of ``preset_names`` or the path of a YAML file.
        assignments: ``a.b=value``, or values by key; a method's setting may be written ``method.field``.
        flags: Values of other command line flags by dotted key; None means not given.

    Raises:
        UserError: A preset, setting or value is unknown or wrong.
    """
    files = read_preset(preset)
    path, _ = files[-1]
    layer: Layer = {}
    origins: dict[str, str] = {}

    def override(key: str, value: Any, origin: str, folder: Path) -> None:
        if key == STAGES:
            value = put_stages(layer, origins, value, origin, folder)
        for each in SPLIT.get(key, (key,)):
            layer[each], origins[each] = _resolve_paths(each, value, folder), origin

    names = Counter(file.stem for file, _ in files)
    for file, content in files:
        own = flatten(content)
        if "model" in own:  # the label of the preset that it extends names another model
            layer.pop("label", None)
            origins.pop("label", None)
        for key, value in own.items():
            override(key, value, f"preset {file.stem if names[file.stem] == 1 else file}", file.parent)
    pairs = assignments.items() if isinstance(assignments, Mapping) else map(parse_assignment, assignments)
    for key, value in pairs:
        override(_full_key(key), value, CLI_SET, Path.cwd())
    for key, value in (flags or {}).items():
        if value is not None:
            override(key, value, f"--{key}", Path.cwd())
    if origins.get("model") in ("--model", CLI_SET) and origins.get("label") != CLI_SET:
        # The preset's label names another model.
        override("label", hub.display_name(layer["model"]), origins["model"], Path.cwd())
    check_one_source(layer, origins)
    try:
        settings = Settings.model_validate(nest(layer))
    except ValidationError as error:
        raise _translate(error, layer, origins, str(path)) from error
    _check_names(settings, str(path), origins)
    return ResolvedSettings(path.stem, complete_benchmarks(settings), origins)


def move_data(resolved: ResolvedSettings, assignments: Iterable[str]) -> ResolvedSettings:
    """The settings of a run whose data or model are in another place now.

    Args:
        resolved: As they were.
        assignments: As ``--set`` takes them, such as ``data.knowledge=FILE`` or ``model=FOLDER``.

    Raises:
        UserError: Another setting is named, or a value does not fit.
    """
    content, origins = resolved.settings.model_dump(mode="json"), dict(resolved.origins)
    for key, value in map(parse_assignment, assignments):
        group, _, leaf = key.rpartition(".")
        if key != "model" and group != "data":
            hint = "set only model and data.*; everything else is as it was in the run"
            raise UserError("this is not where data or the model are", location=f"--set {key}", hint=hint)
        (content[group] if group else content)[leaf] = _resolve_paths(key, value, Path.cwd())
        origins[key] = CLI_SET
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        raise invalid_value(error, Settings, lambda key: f"--set {key}") from error
    return ResolvedSettings(resolved.preset, settings, origins)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds: ``3`` means 0, 1 and 2; ``0,7`` means 0 and 7; ``7,`` means 7 alone.

    Raises:
        UserError: It is neither.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UserError("these are not seeds", location=f"--seeds {text}", hint="write --seeds 3 or --seeds 0,1,2")
    numbers = tuple(int(part) for part in parts)
    seeds = numbers if "," in text else tuple(range(numbers[0]))
    if not seeds or len(set(seeds)) < len(seeds):
        message = "there must be at least one seed, and each only once"
        raise UserError(
            message, location=f"--seeds {text}", hint="write --seeds 3 for 0, 1 and 2, or --seeds 7, for seed 7 alone"
        )
    return seeds


def parse_names(text: str, flag: str) -> tuple[str, ...]:
    """Parse names separated by commas.

    Raises:
        UserError: There is none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UserError("no name is given", location=flag, hint=f"write {flag} with one or more names, by comma")
    return names


def parse_rows(adapters: Sequence[str], models: Sequence[str], answers: Sequence[str] = ()) -> dict[str, str]:
    """Parse ``NAME=FOLDER`` of rows that were trained elsewhere, and ``NAME=FILE`` of those with answers alone.

    Args:
        adapters: Those of ``--adapter``.
        models: Those of ``--row``.
        answers: Those of ``--answers``.

    Returns:
        Settings by dotted key, as ``resolve`` takes them among its flags.

    Raises:
        UserError: One is not of this form, or a name is given twice.
    """
    flags: dict[str, str] = {}
    kinds = (("adapter", "--adapter", adapters), ("model", "--row", models), ("answers", "--answers", answers))
    for kind, option, texts in kinds:
        place = "file" if kind == "answers" else "folder"
        for text in texts:
            name, equals, folder = text.partition("=")
            if not equals or not folder or not ROW_NAME.fullmatch(name):
                hint = f"write {option} NAME={place.upper()}; the name has letters, digits, - and _"
                raise UserError(f"this is no name and {place}", location=f"{option} {text}", hint=hint)
            if kind == "answers":
                folder = str(Path(folder).expanduser().absolute())  # so that it is not taken for an id on the hub
            if f"rows.{name}.kind" in flags:
                hint = "give each row a name of its own"
                raise UserError("two rows have this name", location=f"{option} {text}", hint=hint)
            flags |= {f"rows.{name}.kind": kind, f"rows.{name}.folder": folder}
    return flags


def _resolve_paths(key: str, value: Any, folder: Path) -> Any:
    """Make a setting's paths absolute: they are relative to the preset's or the current folder, or hub ids."""
    if key == "cross":
        return tuple(_resolve_axis(axis, folder) for axis in value)
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if key == "model":
        return hub.model_path(value, folder)
    if key in SPLIT[f"data.{OLD}"] and is_data_path(value, folder) and value not in SOURCES:
        return str(hub.data_path(value, folder))
    named_model = key.startswith("rows.") and key.endswith(".folder")
    named_model |= key.startswith("methods.") and key.endswith(f".{LANGUAGE_BASE}")
    if named_model and value:
        return str(hub.model_path(value, folder))
    if key.startswith("methods.") and key.endswith(f".{DATA}"):
        return hub.training_data(value, folder)
    own_table = key.startswith("further.") and key.endswith(".table")
    return hub.data_path(value, folder) if key in PATHS or own_table else value


def _resolve_axis(axis: Any, folder: Path) -> Any:
    if not isinstance(axis, SweepAxis) or axis.setting != DATA:
        return axis
    return axis.model_copy(update={"values": tuple(hub.training_data(str(value), folder) for value in axis.values)})


def _full_key(key: str) -> str:
    """The dotted key of an assignment: ``method.field`` is short for ``methods.method.field``."""
    first = key.split(".")[0]
    if first in Settings.model_fields:
        return key
    from methods.registry import registered

    if first.partition(":")[0] in registered() or first == EVERY_METHOD:
        return f"methods.{key}"
    raise unknown_name("setting", key, [*_leaf_keys(), *(f"{name}.…" for name in registered())], where=f"--set {key}")


def _leaf_keys() -> list[str]:
    """Every dotted key except those of the methods."""
    keys = []
    for name, info in Settings.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            keys += [f"{name}.{inner}" for inner in group.model_fields]
        else:
            keys.append(name)
    return keys


def _translate(error: ValidationError, layer: Layer, origins: Mapping[str, str], where: str) -> UserError:
    """The first of pydantic's errors, with the setting and its origin."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return UserError(f"the setting {key} is missing", location=where, hint=f"add {key} to the preset")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_name("setting", key, _leaf_keys(), where=f"{key} ({origins.get(key, where)})")
    given = next((name for name in layer if key == name or key.startswith(f"{name}.")), key)
    return invalid_value(error, Settings, lambda _: f"{given} ({origins.get(given, where)})")


def _check_names(settings: Settings, where: str, origins: Mapping[str, str]) -> None:
    """Refuse a lack of knowledge, sections and references of unknown methods, and benchmarks and seeds named twice."""
    from methods.registry import get_method, registered

    if settings.data.knowledge is None and not settings.sequence:
        key = KNOWLEDGE[0]
        raise UserError(f"the setting {key} is missing", location=where, hint=f"add {key} to the preset")
    for section in settings.methods:
        name, colon, variant = section.partition(":")
        if section != EVERY_METHOD and name not in registered():
            raise unknown_name("method", name, registered(), where=f"methods.{section} in {where}")
        if colon and not registered()[name].get_variant(variant):
            raise unknown_name("variant", variant, registered()[name].variants, where=f"methods.{section} in {where}")
    benchmarks = {EVERY, *settings.benchmarks, *settings.further, *(info.name for info in all_benchmarks())}
    for name in settings.answering.max_new_tokens.keys() - benchmarks:
        raise unknown_name("benchmark", name, benchmarks, where=f"answering.max_new_tokens.{name} in {where}")
    if settings.size_reference:
        get_method(settings.size_reference, f"size_reference ({origins['size_reference']})")
    for kind, values in {"benchmark": settings.benchmarks, "seed": settings.seeds}.items():
        if len(set(values)) < len(values):
            raise UserError(f"a {kind} is named twice", location=f"{kind}s", hint="name each once")
