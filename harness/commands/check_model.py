"""Hold a model folder to what the plain call of Hugging Face computes, and print the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from harness.commands import BUG


def check_model(
    model: Annotated[str, Argument(help="folder of a model in Hugging Face layout, or its id on the hub")],
    plugin: Annotated[list[Path] | None, Option(help="a Python file with a family of models of your own")] = None,
    device: Annotated[str, Option(help="where to compute: cpu, cuda or auto")] = "auto",
) -> None:
    """Check a model against the plain call of Hugging Face; explain each failure, and exit with 1 on any.

    Token ids, logits, text, pictures, padding, batches, supervised tokens, limits, adapted layers, projector and the
    untouched base: in float32, with two copies of the model in memory.
    """
    from methods.registry import load_plugins

    load_plugins(plugin or ())
    raise typer.Exit(0 if check_folder(model, device) else BUG)


def check_folder(model: str, device: str = "auto") -> bool:
    """Run all checks on a model and print the results.

    Args:
        model: A local folder in Hugging Face layout, or an id in the hub's cache.
        device: "cpu", "cuda" or "auto".

    Returns:
        Whether all checks passed.

    Raises:
        UserError: There is no such folder or device, or no family for the model's architecture.
    """
    import torch

    from benchmarks.errors import UserError
    from harness.commands.check_report import print_outcomes
    from harness.config.hub import display_name, model_path
    from harness.conformance.model_runner import run_model_checks
    from harness.models.registry import family_of

    available = torch.cuda.is_available()
    if device not in ("cpu", "cuda", "auto") or (device == "cuda" and not available):
        raise UserError(f"there is no device {device}", location="--device", hint="use cpu or auto")
    folder = model_path(model, Path())
    family = family_of(folder)
    place = torch.device("cuda" if available and device != "cpu" else "cpu")
    return print_outcomes({f"{display_name(folder)} by {family.__name__}": run_model_checks(folder, family, place)})
