"""Checks that instances of a method do not affect one another, and that no hook raises an error."""

from __future__ import annotations

from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios


@check(
    reason="Many adapters are restored in one base, one after the other.",
    hint="Once an adapter is detached, keep nothing of it on the class, in the module or in a cache.",
)
def check_adapters_swap(scenarios: Scenarios) -> None:
    """Each adapter gives its own logits, whichever was in the base before."""
    swapped, separate = scenarios.swapped_adapters
    gap = max(float((one - other).abs().max()) for one, other in zip(swapped, separate, strict=True))
    require(gap == 0, f"restored after another adapter, one gives logits that differ by up to {gap:.3g}")


@check(
    reason="Instances for other seeds and stages may exist at the same time.",
    hint="Keep state on self, never on the class or in global variables.",
)
def check_instances_independent(scenarios: Scenarios) -> None:
    """An instance has the same loss and penalty after another instance starts."""
    before, after = scenarios.other_seed.before, scenarios.other_seed.after
    require(before == after, f"loss and penalty go from {before} to {after} when another instance starts")


@check(
    reason="An error in a hook ends the row.",
    hint="To reproduce it, see harness/conformance/lifecycle.py, which calls the hooks in order.",
)
def check_no_hook_raises(scenarios: Scenarios) -> None:
    """No hook raises an error."""
    scenarios.finish()
    scenarios.attempt("resumed_run", "single_row_steps", "checkpointed_steps", "half_precision")
    scenarios.attempt("restore_state", "scaled_update", "swapped_adapters", "second_stage", "training_data")
    # check_half_precision reports errors that occur in half precision only.
    errors = sorted({str(error) for name, error in scenarios.crashes.items() if name != "half_precision"})
    require(not errors, "; ".join(errors))
