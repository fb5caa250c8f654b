"""What there is to choose from. Imports no torch, so that it answers in an instant."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from harness.presets import preset_about, preset_names

INDENT = "  "


def show(asked: Mapping[str, bool]) -> None:
    """Print methods with their variants, benchmarks and presets.

    Args:
        asked: Headings; those that are true are shown alone, or all where none is.
    """
    console = Console(highlight=False, soft_wrap=True)
    for heading, lines in (("Methods", _methods), ("Benchmarks", _benchmarks), ("Presets", _presets)):
        if any(asked.values()) and not asked[heading]:
            continue
        console.print(Text(heading, style="bold"))
        for name, about in lines():
            console.print(Text(f"{INDENT}{name:<28}", style="cyan"), Text(about), sep="")


def _methods() -> list[tuple[str, str]]:
    from methods.registry import registered

    lines = []
    for name, method in registered().items():
        lines.append((name, method.summary))
        if method.interpretation:
            lines.append(("", f"our reading: {method.interpretation}"))
        variants = {variant: (about.help, about.transductive) for variant, about in method.variants.items()}
        for family in method.variant_families:
            said = family.help.format(family.placeholder)
            variants[family.name] = (f"{said}, for example {', '.join(family.examples)}", family.transductive)
        for variant, (help, transductive) in variants.items():
            mark = " (transductive: shown, never ranked)" if transductive else ""
            lines.append((f"{name}:{variant}", f"{help}{mark}"))
    return lines


def _benchmarks() -> list[tuple[str, str]]:
    from benchmarks.registry import all_benchmarks

    return [(entry.name, f"{entry.dimension}: {entry.headline}") for entry in all_benchmarks()]


def _presets() -> list[tuple[str, str]]:
    return [(name, preset_about(name)) for name in preset_names()]
