"""List methods, benchmarks and presets. Imports no torch, so that it takes well below a second."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from harness.console import stdout
from harness.presets import preset_about, preset_names

INDENT = "  "


def show(asked: Mapping[str, bool]) -> None:
    """Print methods with their variants, benchmarks and presets.

    Args:
        asked: Whether each heading was asked for; where none was, all are shown.
    """
    console = stdout()
    for heading, lines in (("Methods", _methods), ("Benchmarks", _benchmarks), ("Presets", _presets)):
        if any(asked.values()) and not asked[heading]:
            continue
        console.print(Text(heading, style="bold"), soft_wrap=True)
        for name, about in lines():
            console.print(Text(f"{INDENT}{name:<28}", style="cyan"), Text(about), sep="", soft_wrap=True)


def _methods() -> list[tuple[str, str]]:
    from methods.registry import registered

    lines = []
    for name, method in registered().items():
        lines.append((name, method.summary))
        if method.interpretation:
            lines.append(("", f"our reading: {method.interpretation}"))
        variants = {variant: (info.help, info.transductive) for variant, info in method.variants.items()}
        for family in method.variant_families:
            examples = f", for example {', '.join(family.examples)}" if family.examples else ""
            about = f"{family.help.format(family.placeholder)}{examples}"
            variants[family.name] = (about, family.transductive)
        for variant, (about, transductive) in variants.items():
            mark = " (transductive: shown, never ranked)" if transductive else ""
            needs = ", ".join(method.variants[variant].needs) if variant in method.variants else ""
            lines.append(
                (f"{name}:{variant}", f"{about}{mark}{f' (needs {needs}; not part of all-variants)' if needs else ''}")
            )
    return lines


def _benchmarks() -> list[tuple[str, str]]:
    from benchmarks.registry import all_benchmarks
    from harness.config.further import installed_benchmarks

    lines = [(entry.name, f"{entry.dimension}: {entry.headline}") for entry in all_benchmarks()]
    return [*lines, *((name, "from an installed package") for name in installed_benchmarks())]


def _presets() -> list[tuple[str, str]]:
    return [(name, preset_about(name)) for name in preset_names()]
