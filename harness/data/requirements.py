"""What a preset needs from elsewhere: where it belongs, whether it is there, its size and licence, and its source."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.data.pictures import list_archives
from benchmarks.data.rows import is_data_path
from benchmarks.editing import EDITING
from benchmarks.errors import UserError
from benchmarks.evoke import QUESTIONS
from benchmarks.model_folder import shard_names
from benchmarks.registry import ADAPTATION, get_benchmark
from benchmarks.retention_specs import MINI_PREFIX, SPEC_BY_NAME
from benchmarks.vlmeval.client import table_digests
from harness.config import hub
from harness.config.method_settings import method_settings
from harness.config.scaled_rows import split_scaled
from harness.config.schema import SOURCES, DataSettings, Pool, Settings, StageSettings
from harness.config.settings import EVERY_METHOD, ResolvedSettings
from harness.config.sweep import DATA, grid
from harness.data.inputs import evaluation_file, injection_file, knowledge_file
from reports.record import VANILLA

if TYPE_CHECKING:
    from methods.base import LinearShapes, MethodSettings

Kind = Literal["model", "dataset", "table", "pool"]
MODELS = {
    "llava-hf/llava-1.5-7b-hf": ("about 14 GB", "Llama 2 Community License"),
    "llava-hf/llava-1.5-13b-hf": ("about 27 GB", "Llama 2 Community License"),
    "Qwen/Qwen2.5-VL-7B-Instruct": ("about 17 GB (unverified)", "Apache-2.0"),
    "Qwen/Qwen2.5-VL-3B-Instruct": ("about 8 GB (unverified)", "Qwen Research License, not for commercial use"),
    "Qwen/Qwen3-VL-4B-Instruct": ("about 9 GB (unverified)", "Apache-2.0"),
    "OpenGVLab/InternVL3_5-4B-HF": ("about 10 GB (unverified)", "Apache-2.0"),
    "google/gemma-3-4b-it": ("about 9 GB (unverified)", "Gemma Terms of Use; to be accepted on its page first"),
}
"""Size and licence, from their pages on the hub; "unverified" marks what nobody has looked up."""
VERIFIED_ROWS = frozenset({"MMMU", "HallusionBench"})
"""Tables whose number of rows is confirmed (VLMEvalKit's issues 645 and 825); the other numbers are from memory."""
MISSING = "not there"
NOT_PUBLISHED = "not the published table (md5)"
NO_LICENCE = "none stated; ask its authors"
ONEVISION = "lmms-lab/LLaVA-OneVision-Data"
LLAVA_INSTRUCT = "liuhaotian/LLaVA-Instruct-150K"
POOL_SOURCES = {
    Pool.CALIBRATION: (
        ONEVISION,
        "2,048 random rows of four of its sets, all of which are read",
        "Apache-2.0 by its card; its parts have licences of their own",
    ),
    Pool.REPLAY: (
        LLAVA_INSTRUCT,
        "a JSON of about 1 GB; of the pictures, those of 3,000 random rows",
        "CC BY 4.0 by its card; its pictures have licences of their own",
    ),
}
"""Repository, size and licence of what ``fetch`` draws a pool from."""


@dataclass(frozen=True)
class Requirement:
    """A model, data set or file that a run needs.

    Args:
        name: The name for ``fetch --only``.
        kind: How it is fetched.
        path: File or folder.
        source: Repository or address.
        size: In words.
        licence: As far as known; the authors' word is final.
        problem: Why it cannot be used as it is; empty if it can.
    """

    name: str
    kind: Kind
    path: Path
    source: str
    size: str
    licence: str
    problem: str = ""
    md5: str = ""
    """Of a published table beyond the twelve."""


def list_requirements(resolved: ResolvedSettings) -> list[Requirement]:
    """Everything that a run with these settings reads and that does not come with the package."""
    settings = resolved.settings
    benchmarks = [get_benchmark(name, settings.further) for name in settings.benchmarks]
    real = [info for info in benchmarks if info.size == "real"]
    requirements = [_model(settings.model)]
    if settings.data.knowledge and any(info.dimension == ADAPTATION for info in real):
        requirements.append(_evoke(settings.data.knowledge, settings))
    requirements += map(_stage, settings.sequence)
    requirements += _pools(settings.data)
    requirements += _training_data(settings.methods)
    tables = [info.name for info in real if info.dimension not in (ADAPTATION, EDITING)]
    return [*requirements, *(_table(name, settings) for name in tables)]


def check_requirements(resolved: ResolvedSettings, methods: Sequence[str], pools: Collection[Pool] = ()) -> None:
    """Refuse to start a run that lacks something that can be fetched. The user's own folders are checked later.

    Args:
        resolved: The settings of the run.
        methods: The rows that are asked for: training data and pools of other methods need not be there.
        pools: Pools that are read besides.

    Raises:
        UserError: It names everything that is missing, and the command that says how to get it.
    """
    unused = {f"{section}.{DATA}" for section in resolved.settings.methods} - _data_of(methods, resolved)
    unused |= {f"{pool}-pool" for pool in Pool if pool not in {*pools, *_pools_of(methods, resolved)}}
    missing = [
        need.name
        for need in list_requirements(resolved)
        if need.source and need.problem and need.problem != NOT_PUBLISHED and need.name not in unused
    ]
    if missing:
        hint = "`python -m harness doctor` with the same --preset, --model and --set says how to get it"
        tables = (resolved.settings.data.retention / f"{MINI_PREFIX}{name}.tsv" for name in missing)
        if minis := [table.stem for table in tables if table.is_file()]:
            hint = f"this preset has {', '.join(minis)}; {hint}"
        message = f"{', '.join(missing)}: not there, or incomplete"
        raise UserError(message, location=f"preset {resolved.preset}", hint=hint)


def select_requirements(resolved: ResolvedSettings, names: str | None) -> list[Requirement]:
    """Select the requirements that ``--only`` names, by comma; without it, all that are missing.

    Raises:
        UserError: There is none of that name.
    """
    requirements = list_requirements(resolved)
    if names is None:
        return [need for need in requirements if need.problem]
    by_name = {need.name.lower(): need for need in requirements}
    selected = [name.strip() for name in names.split(",") if name.strip()]
    for name in selected:
        if name.lower() not in by_name:
            known = ", ".join(need.name for need in requirements)
            raise UserError(
                f"the preset needs nothing called {name!r}", location="--only", hint=f"choose from: {known}"
            )
    return [by_name[name.lower()] for name in selected]


def _model(folder: Path) -> Requirement:
    repository = hub.repository_of(folder)
    source = repository[0] if repository else ""
    size, licence = MODELS.get(source, ("", "see its card"))
    return Requirement("model", "model", folder, source, size, licence, _problem_of_model(folder))


def _problem_of_model(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        return MISSING
    try:
        absent = [name for name in shard_names(folder) if not (folder / name).is_file()]
    except UserError as error:
        return error.message
    if absent:
        return f"{len(absent)} of its files of weights are not there, such as {absent[0]}"
    return "" if any(folder.glob("*.safetensors")) else "no weights (*.safetensors)"


def _stage(stage: StageSettings) -> Requirement:
    """The data of a stage of a task sequence."""
    repository = hub.repository_of(stage.knowledge)
    files = [knowledge_file(stage.knowledge), *([stage.evaluation] if stage.evaluation else [])]
    missing = ", ".join(f"{path.name} is not there" for path in files if not path.exists())
    source, licence = (repository[0], NO_LICENCE) if repository else ("", "")
    return Requirement(f"stage {stage.name}", "dataset", stage.knowledge, source, "", licence, missing)


def _evoke(folder: Path, settings: Settings) -> Requirement:
    repository = hub.repository_of(folder)
    files = [path for path in (injection_file(settings), evaluation_file(settings)) if not path.exists()]
    problem = ", ".join(f"{path.name} is not there" for path in files) if folder.exists() else MISSING
    if not problem and repository and not _has_pictures(folder):
        problem = "its pictures are not there"
    size = f"{QUESTIONS:,} items and as many questions, with their pictures"
    return Requirement("EVOKE", "dataset", folder, repository[0] if repository else "", size, NO_LICENCE, problem)


def _has_pictures(folder: Path) -> bool:
    return bool(list_archives(folder)) or any(path.is_dir() for path in (folder / "imgs").glob("*"))


def _training_data(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[Requirement]:
    """Training data of methods in the hub's cache."""
    for section, values in methods.items():
        path = Path(str(values.get(DATA, "")))
        if repository := hub.repository_of(path):
            problem = "" if path.is_dir() else MISSING
            yield Requirement(f"{section}.{DATA}", "dataset", path, repository[0], "", NO_LICENCE, problem)


def _data_of(methods: Sequence[str], resolved: ResolvedSettings) -> set[str]:
    """The names of the requirements for training data that these rows read, also where a row follows another method."""
    from methods.base import SameAs
    from methods.registry import expand_names, get_method

    read = {EVERY_METHOD}
    for name in expand_names(methods):
        method, variant = (None, None) if name == VANILLA else get_method(split_scaled(name)[0])
        values = variant.settings.values() if variant else ()
        read |= {value.method for value in values if isinstance(value, SameAs)}
        if method and DATA not in (variant.settings if variant else ()):
            read.add(method.name)
    return {f"{section}.{DATA}" for section in resolved.settings.methods if section.partition(":")[0] in read}


def _pools_of(methods: Sequence[str], resolved: ResolvedSettings) -> Iterator[str]:
    """The names of the pools that these rows draw from."""
    from methods.registry import expand_names, get_method

    for name in (split_scaled(row)[0] for row in expand_names(methods)):
        if name != VANILLA:
            method, _ = get_method(name)
            for values in _settings_of(name, resolved):
                yield from method(values).pools


def _settings_of(name: str, resolved: ResolvedSettings) -> list[MethodSettings]:
    """The settings of a row at each combination of swept values.

    Its defaults, if they cannot be resolved yet because training data or the model, for a rank by parity, is to be
    fetched too. Whatever else is wrong with them is reported when the run begins.
    """
    from methods.registry import default_settings, get_method

    def layers() -> LinearShapes:
        from harness.models.registry import target_shapes

        return target_shapes(resolved.settings.model)

    (method, variant), variant_name = get_method(name), name.partition(":")[2]
    fields = {field.name for field in dataclasses.fields(method.Settings)}
    points = grid(resolved.settings.cross, fields, variant.settings if variant else {})
    try:
        return [method_settings(resolved, method.name, variant_name, point, layers).values for point in points]
    except UserError:
        return [method.Settings(**(default_settings(variant) if variant else {}))]


def _pools(data: DataSettings) -> Iterator[Requirement]:
    """The pools that are files. One file for both is the user's own, since no published one serves both."""
    files = {Pool.CALIBRATION: data.calibration, Pool.REPLAY: data.replay}
    for pool, name in files.items():
        if name in SOURCES or not is_data_path(name):
            continue
        path, origin = Path(name), ("", "", "")
        kind: Kind = "pool"
        if repository := hub.repository_of(path):
            kind, origin = "dataset", (repository[0], "", NO_LICENCE)
        elif path.suffix == ".json" and data.calibration != data.replay:  # the format that `fetch` writes
            origin = POOL_SOURCES[pool]
        yield Requirement(f"{pool}-pool", kind, path, *origin, "" if path.exists() else MISSING)


def _table(name: str, settings: Settings) -> Requirement:
    further, folder = settings.further.get(name), settings.data.retention
    if further and further.table:
        return Requirement(name, "table", further.table, "", "", "", "" if further.table.is_file() else MISSING)
    spec = further.spec(name) if further else SPEC_BY_NAME[name]
    path = Path() if folder.is_file() else folder / f"{spec.dataset}.tsv"
    problem = "" if path.is_file() else MISSING
    if not problem and settings.data.published and table_digests(path).md5 != spec.md5:
        problem = NOT_PUBLISHED
    rows = "" if further else f"{spec.rows:,} rows" + ("" if name in VERIFIED_ROWS else " (unverified)")
    licence = f"{spec.licence} (unverified)" if spec.licence else "not known; ask its authors"
    return Requirement(name, "table", path, spec.url, rows, licence, problem, spec.md5 if further else "")
