"""Everything that can be set, its default, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from benchmarks.errors import UserError
from harness.config import hub
from harness.config.overrides import Layer, flatten, nest, parse_assignment, read_yaml, unknown
from harness.config.sweep import DATA, SweepAxis
from harness.config.training import TrainingSettings
from harness.presets import FOLDER, preset_names

if TYPE_CHECKING:
    pass

EVERY_METHOD = "*"
"""Under ``methods`` in a preset: settings for each method that has a setting of that name."""
CLI_SET = "--set"
"""The origin of what the command line sets."""


class StrictModel(BaseModel):
    """A group of settings. Unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(StrictModel):
    """Where the data lies. Paths in a preset are relative to the preset's file."""

    knowledge: Path = Field(description="what to inject: a folder in EVOKE's layout, or an injection file")
    evaluation: Path | None = Field(None, description="what to ask about it: a file [default: beside the knowledge]")
    retention: Path = Field(description="folder with one TSV for each retention benchmark")
    published: bool = Field(
        False, description="refuse data that is not what was published: tables by md5, EVOKE by its 9,422 questions"
    )
    old: str = Field(
        "none", description="what the base was pre-trained on, for methods that rehearse: mini, none, or LLaVA's JSON"
    )


class PictureSettings(StrictModel):
    """How pictures are prepared where it is not to be as the model's folder says."""

    aspect: Literal["folder", "pad"] = Field("folder", description="pad: made square, as LLaVA-1.5's own code does")
    min_pixels: PositiveInt | None = Field(None, description="smallest area that a picture is scaled to (Qwen2.5-VL)")
    max_pixels: PositiveInt | None = Field(None, description="largest area that a picture is scaled to (Qwen2.5-VL)")


class AnsweringSettings(StrictModel):
    """How questions are answered."""

    batch_size: PositiveInt = Field(32, description="questions answered at once; part of what identifies an answer")


class Settings(StrictModel):
    """All settings of a run but those of the methods, which ``method_settings`` resolves."""

    model: Path = Field(description="folder of the base model in Hugging Face layout, or its id on the hub")
    label: str = Field("", description="what reports call the model [default: its folder's name]")
    data: DataSettings
    benchmarks: tuple[str, ...] = Field(description="what to measure, in the order of the report")
    methods: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="settings of single methods or variants, or of all under '*'",
    )
    cross: tuple[SweepAxis, ...] = Field((), description="settings that take several values in turn, for each method")
    training: TrainingSettings = TrainingSettings()
    answering: AnsweringSettings = AnsweringSettings()
    pictures: PictureSettings = PictureSettings()
    seeds: tuple[NonNegativeInt, ...] = Field((0,), description="one cell for each method and seed", min_length=1)
    stages: PositiveInt = Field(1, description="parts in which the knowledge arrives, one training after the other")
    judge: str | None = Field(
        None,
        description="who grades where a benchmark wants a judge: rule, openai:MODEL, local:FOLDER, none "
        "[default: rule for miniatures, else none]",
    )
    protocol: Literal["vlmevalkit", "llava"] = Field(
        "vlmevalkit", description="whose prompts and rules for MME, MMBench, POPE and ScienceQA"
    )
    limit: PositiveInt | None = Field(None, description="at most so many items and questions; marks the whole run")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="type of the frozen weights")
    executor: Literal["local", "ray"] = Field(
        "local", description="where cells are computed: on this machine, or on a Ray cluster"
    )
    workers: PositiveInt | None = Field(
        None, description="cells at once, each in a process of its own [default: one here; on Ray all that fit]"
    )
    processes: PositiveInt = Field(1, description="processes that train and answer together; `accelerate launch` says")
    sharding: Literal["none", "fsdp", "zero2", "zero3"] = Field(
        "none", description="what of a model such processes share while they train; the launcher's configuration says"
    )
    track: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        (), description="trackers that losses and scores go to; offline, below the run's folder"
    )
    notes: tuple[str, ...] = Field((), description="sentences that the report prints below its tables")


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings with the origin of each value, by dotted key."""

    preset: str
    settings: Settings
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Where the value of a dotted key came from."""
        return self.origins.get(key, "default")


@dataclass(frozen=True)
class Request:
    """What a command about cells was asked for."""

    methods: tuple[str, ...]
    resolved: ResolvedSettings
    out: Path
    plugins: tuple[Path, ...] = ()
    """Files of the user's own methods; other processes that work for the run load them, too."""


def resolve(preset: str, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> ResolvedSettings:
    """Settings from the defaults, a preset (a name, or a YAML file), ``--set`` assignments and other flags.

    Args:
        preset: A name of ``preset_names`` or the path of a YAML file.
        assignments: ``a.b=value``; a method's setting may be written ``method.field=value``.
        flags: Values of other command line flags by dotted key; None means not given.

    Raises:
        UserError: A preset, setting or value is unknown or wrong.
    """
    path = _preset_path(preset)
    layer = {key: _anchored(key, value, path.parent) for key, value in flatten(read_yaml(path)).items()}
    origins = dict.fromkeys(layer, f"preset {path.stem}")
    for text in assignments:
        key, value = parse_assignment(text)
        key = _full_key(key)
        _override(layer, origins, key, _anchored(key, value, Path.cwd()), CLI_SET)
    for key, value in (flags or {}).items():
        if value is not None:
            _override(layer, origins, key, _anchored(key, value, Path.cwd()), f"--{key}")
    if origins.get("model") in ("--model", CLI_SET) and origins.get("label") != CLI_SET:
        _override(layer, origins, "label", hub.called(layer["model"]), origins["model"])  # the preset's is another's
    try:
        settings = Settings.model_validate(nest(layer))
    except ValidationError as error:
        raise _explained(error, layer, origins, str(path)) from error
    _check_names(settings, str(path))
    return ResolvedSettings(path.stem, settings, origins)


def parse_seeds(text: str) -> tuple[int, ...]:
    """``3`` means the three seeds 0, 1, 2; ``0,7`` means these two.

    Raises:
        UserError: It is neither.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UserError("these are no seeds", location=f"--seeds {text}", hint="write --seeds 3 or --seeds 0,1,2")
    numbers = tuple(int(part) for part in parts)
    seeds = numbers if "," in text else tuple(range(numbers[0]))
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            "there must be at least one seed, each once", location=f"--seeds {text}", hint="write --seeds 3"
        )
    return seeds


def parse_names(text: str, flag: str) -> tuple[str, ...]:
    """Names by comma.

    Raises:
        UserError: There is none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UserError("no name is given", location=flag, hint=f"write {flag} with one or more names, by comma")
    return names


def _preset_path(preset: str) -> Path:
    if preset.endswith((".yaml", ".yml")):
        return Path(preset).resolve()
    if preset not in preset_names():
        raise unknown("preset", preset, preset_names(), where="--preset")
    return FOLDER / f"{preset}.yaml"


_PATHS = frozenset({"data.knowledge", "data.evaluation", "data.retention"})


def _anchored(key: str, value: Any, folder: Path) -> Any:
    """Make a path relative to the file (or the folder of the command) that names it; hub ids become their places."""
    if key == "cross":
        return tuple(_anchored_axis(axis, folder) for axis in value)
    if not isinstance(value, str):
        return value
    if key == "model":
        return hub.model_place(value, folder)
    if key == "data.old" and value.endswith(".json"):
        return str(hub.data_place(value, folder))
    if key.startswith("methods.") and key.endswith(f".{DATA}"):
        return hub.training_data(value, folder)
    return hub.data_place(value, folder) if key in _PATHS else value


def _anchored_axis(axis: Any, folder: Path) -> Any:
    if not isinstance(axis, SweepAxis) or axis.setting != DATA:
        return axis
    return axis.model_copy(update={"values": tuple(hub.training_data(str(each), folder) for each in axis.values)})


def _full_key(key: str) -> str:
    """``method.field`` of the command line stands for ``methods.method.field``."""
    first = key.split(".")[0]
    if first in Settings.model_fields:
        return key
    from methods.registry import registered

    if first.partition(":")[0] in registered() or first == EVERY_METHOD:
        return f"methods.{key}"
    raise unknown("setting", key, [*_leaf_keys(), *(f"{name}.…" for name in registered())], where=f"--set {key}")


def _override(layer: Layer, origins: dict[str, str], key: str, value: Any, origin: str) -> None:
    layer[key], origins[key] = value, origin


def _leaf_keys() -> list[str]:
    """Every dotted key but those of the methods."""
    keys = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += [f"{name}.{inner}" for inner in section.model_fields]
        else:
            keys.append(name)
    return keys


def _explained(error: ValidationError, layer: Layer, origins: Mapping[str, str], where: str) -> UserError:
    """The first of pydantic's complaints, in the user's words."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return UserError(f"the setting {key} is missing", location=where, hint=f"add {key} to the preset")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown("setting", key, _leaf_keys(), where=f"{key} ({origins.get(key, where)})")
    given = next((name for name in layer if key == name or key.startswith(f"{name}.")), key)
    return UserError(
        f"{first['input']!r} does not fit: {first['msg']}",
        location=f"{given} ({origins.get(given, where)})",
        hint="give another value",
    )


def _check_names(settings: Settings, where: str) -> None:
    """Refuse sections for methods that do not exist, and benchmarks that nobody knows."""
    from methods.registry import registered

    for section in settings.methods:
        name, colon, variant = section.partition(":")
        if section != EVERY_METHOD and name not in registered():
            raise unknown("method", name, registered(), where=f"methods.{section} in {where}")
        if colon and not registered()[name].variant(variant):
            raise unknown("variant", variant, registered()[name].variants, where=f"methods.{section} in {where}")
    if len(set(settings.benchmarks)) < len(settings.benchmarks):
        raise UserError("a benchmark is named twice", location="benchmarks", hint="name each once")
