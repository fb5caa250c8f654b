"""Run the contract's checks on a method and its variants, and print the results."""

from __future__ import annotations

from harness.commands.check_report import print_outcomes
from harness.config.scaled_rows import refuse_scaled
from harness.conformance.runner import run_checks
from harness.conformance.subject import MethodUnderTest
from methods.registry import get_method


def check_method(name: str) -> bool:
    """Run all checks on a method and each of its variants, or only on the variant that is named; print the results.

    Returns:
        Whether all checks passed.

    Raises:
        UserError: There is no method of that name, or it is a scaled row, which has no code of its own.
    """
    import torch

    refuse_scaled(name, "check-method")
    torch.set_num_threads(1)  # the tiny model's matrices are not worth a second one
    method, variant = get_method(name, "check-method")
    rows = [name] if variant else list(method.default_rows())
    results = {row: run_checks(MethodUnderTest(method, row.partition(":")[2])) for row in rows}
    return print_outcomes(results)
