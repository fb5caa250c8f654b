"""How a run asks its benchmarks of published size, in words: for ``doctor``, ``plan`` and the report."""

from __future__ import annotations

from pathlib import Path

from benchmarks.registry import get_benchmark
from benchmarks.retention_specs import CLASS_OF_LLAVA, SPEC_BY_NAME
from harness.config.extras import BUILTIN, vllm_version
from harness.config.schema import PictureSettings, Settings
from harness.data.inputs import answering_pictures


def answering_notes(settings: Settings) -> tuple[str, ...]:
    """One sentence for each group of benchmarks that are asked alike, none for miniatures, and one for another engine.

    Reads no data.
    """
    groups: dict[str, list[str]] = {}
    for info in (get_benchmark(name, settings.further) for name in settings.benchmarks):
        if info.size == "real":
            # How it is asked does not depend on its data, which EVOKE has elsewhere.
            limit, retention = settings.answering.new_tokens(info.name), settings.data.retention
            way = info.open(Path(), retention, protocol=settings.protocol, max_new_tokens=limit).asking
            pictures = picture_text(answering_pictures(settings, info.name)) or "as the model's folder says"
            groups.setdefault(f"{way}, pictures {pictures}", []).append(info.name)
    notes = [f"{', '.join(names)}: {way}." for way, names in groups.items()]
    if engine := engine_asked_for(settings):
        notes.append(
            f"{engine} answers for each row that it can serve and answers alike, the built-in engine for others."
        )
    return tuple(notes)


def engine_asked_for(settings: Settings) -> str:
    """The engine that a run asks for, with its version; empty for the built-in one."""
    engine = settings.answering.engine
    return "" if engine == BUILTIN else f"{engine} {vllm_version()}"


def template_protocols(settings: Settings) -> frozenset[str]:
    """The protocols that ask with a chat template of their own, which not every model has. Reads no data."""
    specs = [SPEC_BY_NAME.get(get_benchmark(name, settings.further).original) for name in settings.benchmarks]
    return frozenset(spec.protocol(settings.protocol) for spec in specs if spec) & {CLASS_OF_LLAVA}


def picture_text(pictures: PictureSettings) -> str:
    """What differs from the model's folder, such as "aspect pad"; empty if nothing does."""
    values = pictures.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in values.items())
