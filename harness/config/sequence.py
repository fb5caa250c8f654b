"""A task sequence in the settings, ``stages: [{knowledge: ..., evaluation: ...}, ...]``, and what it excludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.knowledge import KNOWLEDGE_FILES
from benchmarks.data.rows import SUFFIXES
from benchmarks.errors import UserError, suggest
from benchmarks.registry import INJECTION_FILE
from harness.config import hub
from harness.config.overrides import Layer
from harness.config.schema import StageSettings

STAGES = "stages"
KNOWLEDGE = ("data.knowledge", "data.evaluation")
"""What a sequence takes the place of."""
LONGEST_NAME = 40
"""Characters of a stage's name, which heads columns and axes."""
EXAMPLE = "write stages: [{knowledge: FIRST}, {knowledge: SECOND}]"

_FIELDS = tuple(StageSettings.model_fields)


def put_stages(layer: Layer, origins: dict[str, str], value: Any, origin: str, folder: Path) -> Any:
    """The value of ``stages``; a sequence removes the knowledge that an earlier origin names from both mappings.

    Args:
        layer: All settings so far.
        origins: The origin of each.
        value: A number, or a list of stages.
        origin: Where the value comes from.
        folder: What its paths are relative to.

    Raises:
        UserError: A stage is wrong, or ``--stages N`` meets a sequence.
    """
    if isinstance(value, list | tuple):
        for key in KNOWLEDGE:
            if origins.get(key) != origin:
                layer.pop(key, None)
                origins.pop(key, None)
        return read_sequence(value, folder, f"{STAGES} ({origin})")
    if origin == f"--{STAGES}" and isinstance(layer.get(STAGES), tuple):
        raise UserError(
            f"the settings give a sequence of stages ({origins[STAGES]}), which cannot be split into {value} parts too",
            location=f"--{STAGES} {value}",
            hint=f"leave out --{STAGES}, or name one data set: --set {STAGES}={value} --set data.knowledge=FILE",
        )
    return value


def read_sequence(stages: Sequence[Any], folder: Path, where: str) -> tuple[StageSettings, ...]:
    """Read the stages of a sequence; each gets a name.

    Raises:
        UserError: There is none; a stage is no mapping of known settings, or lacks its knowledge; or two have one name.
    """
    if not stages:
        raise UserError("the list of stages is empty", location=where, hint=EXAMPLE)
    read: list[StageSettings] = []
    for number, stage in enumerate(stages, 1):
        place = f"{where}, number {number}"
        one = stage if isinstance(stage, StageSettings) else _read_stage(stage, folder, place)
        if twin := next((n for n, other in enumerate(read, 1) if other.name == one.name), None):
            hint = "give each a name of its own: {name: ..., knowledge: ...}"
            raise UserError(f"its name {one.name!r} is that of number {twin}", location=place, hint=hint)
        read.append(one)
    return tuple(read)


def check_one_source(layer: Layer, origins: Mapping[str, str]) -> None:
    """Refuse settings that name the knowledge twice, not at all, or stages by keys.

    Raises:
        UserError: It names both places.
    """
    keyed = next((key for key in layer if key.startswith(f"{STAGES}.")), None)
    if keyed:
        where = f"{keyed} ({origins[keyed]})"
        raise UserError("the stages are a number or a list", location=where, hint=EXAMPLE)
    if not isinstance(layer.get(STAGES), tuple):
        return
    for key in KNOWLEDGE:
        if key in layer:
            raise UserError(
                f"the sequence of stages ({origins[STAGES]}) brings its own data, and {key} names other data",
                location=f"{key} ({origins[key]})",
                hint=f"leave out one of the two; --set {STAGES}=1 injects {KNOWLEDGE[0]} instead of a sequence",
            )


def _read_stage(stage: Any, folder: Path, place: str) -> StageSettings:
    if not isinstance(stage, Mapping):
        raise UserError(f"a stage is a mapping, not {stage!r}", location=place, hint=EXAMPLE)
    for key in stage:
        if key not in _FIELDS:
            hint = f"{suggest(str(key), _FIELDS)}it may have {', '.join(_FIELDS)}"
            raise UserError(f"a stage has no setting {key!r}", location=place, hint=hint)
    knowledge = _path(stage, "knowledge", folder, place)
    if knowledge is None:
        raise UserError("the setting knowledge is missing", location=place, hint="add the file, or its folder")
    evaluation = _path(stage, "evaluation", folder, place)
    return StageSettings(knowledge=knowledge, evaluation=evaluation, name=_name(stage.get("name"), knowledge, place))


def _path(stage: Mapping[str, Any], key: str, folder: Path, place: str) -> Path | None:
    value = stage.get(key)
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value).strip():
        raise UserError(f"{key} must be a path, not {value!r}", location=place, hint="give a file, or its folder")
    return hub.data_path(str(value), folder)


def _name(given: Any, knowledge: Path, place: str) -> str:
    """The name that is given, or that of the file; of its folder if the file's name is the same in every data set."""
    usual = knowledge.name in (INJECTION_FILE, *KNOWLEDGE_FILES)
    is_file = knowledge.suffix.lower() in SUFFIXES
    folder = knowledge.parent if is_file else knowledge
    own = knowledge.stem if is_file and not usual else hub.display_name(folder)
    name = own if given is None else given
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise UserError(f"name must be a word, not {given!r}", location=place, hint="write {name: news, ...}")
    name = str(name).strip()
    if not name.isprintable() or len(name) > LONGEST_NAME:
        hint = f"give it a name of at most {LONGEST_NAME} printable characters: {{name: news, ...}}"
        raise UserError(f"the name {name!r} cannot head a column", location=place, hint=hint)
    return name
