"""Run the contract's checks on a method and its variants, and print the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.commands.check_report import print_outcomes
from harness.config.scaled_rows import refuse_scaled
from methods.registry import get_method, load_plugins


def check_method(name: str, model: Path | None = None, plugins: Sequence[Path] = ()) -> bool:
    """Run all checks on a method and each of its variants, or only on the variant that is named; print the results.

    Args:
        name: As in ``--methods``.
        model: Folder of a small model of any family to check it on; None for a tiny LLaVA.
        plugins: Files with methods of one's own.

    Returns:
        Whether all checks passed.

    Raises:
        UserError: There is no method of that name, it is a scaled row, which has no code of its own, or the model
            cannot be loaded.
    """
    refuse_scaled(name, "check-method")
    load_plugins(plugins)
    method, variant = get_method(name, "check-method")  # an unknown name is refused before torch is imported
    import torch

    from harness.conformance.fakes import fresh_model
    from harness.conformance.runner import run_checks
    from harness.conformance.subject import MethodUnderTest

    torch.set_num_threads(1)  # the tiny model's matrices are not worth a second one
    rows = [name] if variant else list(method.default_rows())
    if model is not None:
        fresh_model(folder=model)  # an error of the folder is none of the method
    results = {row: run_checks(MethodUnderTest(method, row.partition(":")[2], model)) for row in rows}
    return print_outcomes(results)
