"""Run the checks of a model family on a folder and collect the outcomes."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.errors import UserError

# Importing them registers the checks.
from harness.conformance import model_checks, model_method_checks  # noqa: F401
from harness.conformance.errors import HookError
from harness.conformance.model_scenarios import ModelScenarios
from harness.conformance.outcome import CheckOutcome, outcome_of
from harness.conformance.registry import MODEL_CHECKS, Check
from harness.models.base import LanguageVisionModel


def run_model_checks(folder: Path, family: type[LanguageVisionModel], device: torch.device) -> list[CheckOutcome]:
    """Run all checks.

    Args:
        folder: Local folder in Hugging Face layout.
        family: The family that is checked.
        device: Where to compute.

    Raises:
        UserError: The family cannot load the folder.
    """
    scenarios = ModelScenarios(folder, family, device)
    try:
        _ = scenarios.model
    except HookError as error:
        if isinstance(error.error, UserError):
            raise error.error from error
        raise
    return [run_model_check(check, scenarios) for check in MODEL_CHECKS.values()]


def run_model_check(check: Check[ModelScenarios], scenarios: ModelScenarios) -> CheckOutcome:
    """Run one check."""
    return outcome_of(check, lambda: check.function(scenarios))
