"""What a preset needs from elsewhere: where it must lie, whether it does, its size and licence, and how to get it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.data.zip_pictures import archives
from benchmarks.errors import UserError
from benchmarks.evoke import QUESTIONS
from benchmarks.registry import ADAPTATION, get_benchmark
from benchmarks.retention_specs import BY_NAME
from benchmarks.vlmeval.client import md5_of
from harness.config import hub
from harness.config.settings import ResolvedSettings
from harness.config.sweep import DATA
from harness.data.inputs import evaluation_file, injection_file

Kind = Literal["model", "dataset", "table", "old data"]
MODELS = {
    "llava-hf/llava-1.5-7b-hf": ("about 14 GB", "Llama 2 Community License"),
    "llava-hf/llava-1.5-13b-hf": ("about 27 GB", "Llama 2 Community License"),
    "Qwen/Qwen2.5-VL-7B-Instruct": ("about 17 GB (unverified)", "Apache-2.0"),
}
"""Size and licence, as their pages on the hub say; what nobody has looked up says that it is unverified."""
COUNTED = frozenset({"MMMU", "HallusionBench"})
"""Tables whose rows others have counted (VLMEvalKit's issues 645 and 825); the numbers of the rest are from memory."""
ANOTHER = "not the published table (md5)"
NO_LICENCE = "none stated; ask its authors"
ONEVISION = "lmms-lab/LLaVA-OneVision-Data"


@dataclass(frozen=True)
class Requirement:
    """One thing that a run needs.

    Args:
        name: By which ``fetch --only`` takes it.
        kind: How it is fetched.
        place: File or folder.
        source: Repository or address.
        size: In words; downloads say it exactly.
        licence: As far as we know it; the authors have the last word.
        fault: Why it cannot be used as it is; empty where it can.
    """

    name: str
    kind: Kind
    place: Path
    source: str
    size: str
    licence: str
    fault: str = ""


def needs(resolved: ResolvedSettings) -> list[Requirement]:
    """Everything that a preset's run reads and that does not come with the package.

    Args:
        resolved: Its settings.
    """
    settings = resolved.settings
    entries = [get_benchmark(name) for name in settings.benchmarks]
    found = [_model(settings.model)]
    if any(entry.dimension == ADAPTATION and entry.size == "real" for entry in entries):
        found.append(_evoke(resolved))
    if settings.data.old.endswith(".json"):
        found.append(_old(Path(settings.data.old)))
    found += _training_data(settings.methods)
    tables = [entry for entry in entries if entry.dimension != ADAPTATION and entry.size == "real"]
    return [*found, *(_table(entry.name, settings) for entry in tables)]


def check_there(resolved: ResolvedSettings) -> None:
    """Refuse to begin a run that lacks something that could be fetched. Folders of one's own are looked at later.

    Raises:
        UserError: It names all that lacks, and the command that says what gets it.
    """
    lacking = [need.name for need in needs(resolved) if need.source and need.fault and need.fault != ANOTHER]
    if lacking:
        raise UserError(
            f"{', '.join(lacking)}: not there, or not whole",
            location=f"preset {resolved.preset}",
            hint="`python -m harness doctor` with the same --preset, --model and --set says what gets it",
        )


def chosen(everything: list[Requirement], names: str | None) -> list[Requirement]:
    """Those that ``--only`` names, by comma; else all that are missing.

    Raises:
        UserError: There is none of such a name.
    """
    if names is None:
        return [need for need in everything if need.fault]
    known = {need.name.lower(): need for need in everything}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name.lower() not in known:
            listed = ", ".join(need.name for need in everything)
            raise UserError(
                f"the preset needs nothing called {name!r}", location="--only", hint=f"choose from: {listed}"
            )
    return [known[name.lower()] for name in wanted]


def _model(folder: Path) -> Requirement:
    repository = hub.repository_of(folder)
    source = repository[0] if repository else ""
    size, licence = MODELS.get(source, ("", "see its card"))
    return Requirement(
        name="model",
        kind="model",
        place=folder,
        source=source,
        size=size,
        licence=licence,
        fault=_model_fault(folder),
    )


def _model_fault(folder: Path) -> str:
    """What of a model's folder is not there; the weights are looked at when they are loaded."""
    if not (folder / "config.json").is_file():
        return "not there"
    return "" if any(folder.glob("*.safetensors")) else "no weights (*.safetensors)"


def _evoke(resolved: ResolvedSettings) -> Requirement:
    settings = resolved.settings
    folder = settings.data.knowledge
    repository = hub.repository_of(folder)
    files = [path for path in (injection_file(settings), evaluation_file(settings)) if not path.is_file()]
    fault = ", ".join(f"{path.name} is not there" for path in files) if folder.exists() else "not there"
    if not fault and repository and not _pictures(folder):
        fault = "its pictures are not there"
    return Requirement(
        name="EVOKE",
        kind="dataset",
        place=folder,
        source=repository[0] if repository else "",
        size=f"{QUESTIONS:,} items and as many questions, with their pictures",
        licence=NO_LICENCE,
        fault=fault,
    )


def _pictures(folder: Path) -> bool:
    return bool(archives(folder)) or any(path.is_dir() for path in (folder / "imgs").glob("*"))


def _training_data(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[Requirement]:
    """What methods are trained on, where it lies in the hub's cache."""
    for section, values in methods.items():
        place = Path(str(values.get(DATA, "")))
        if repository := hub.repository_of(place):
            fault = "" if place.is_dir() else "not there"
            yield Requirement(f"{section}.{DATA}", "dataset", place, repository[0], "", NO_LICENCE, fault)


def _old(file: Path) -> Requirement:
    return Requirement(
        name="old-data",
        kind="old data",
        place=file,
        source=ONEVISION,
        size="a sample of four of its sets",
        licence="Apache-2.0 by its card; its parts have licences of their own",
        fault="" if file.is_file() else "not there",
    )


def _table(name: str, settings: Any) -> Requirement:
    spec = BY_NAME[name]
    place = settings.data.retention / f"{spec.dataset}.tsv" if not settings.data.retention.is_file() else Path()
    fault = "" if place.is_file() else "not there"
    if not fault and settings.data.published and md5_of(place) != spec.md5:
        fault = ANOTHER
    rows = f"{spec.rows:,} rows" + ("" if name in COUNTED else " (unverified)")
    licence = f"{spec.licence} (unverified)" if spec.licence else "not known; ask its authors"
    return Requirement(name, "table", place, spec.url, rows, licence, fault)
