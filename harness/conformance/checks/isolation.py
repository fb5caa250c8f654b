"""Checks that a method gets along with other instances of itself, and that no hook raises an error."""

from __future__ import annotations

from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios


@check(
    "adapters-in-turn",
    reason="Many adapters are put into one base, one after the other.",
    hint="Keep nothing of an adapter on the class, in the module or in a cache once it is detached.",
)
def adapters_in_turn(seen: Scenarios) -> None:
    """Each adapter gives its own logits, whatever was in the base before."""
    shared, apart = seen.in_turn
    gap = max(float((one - other).abs().max()) for one, other in zip(shared, apart, strict=True))
    require(gap == 0, f"put in after another adapter, one gives logits that differ by up to {gap:.3g}")


@check(
    "instances-apart",
    reason="Instances for other seeds and stages may be alive at the same time.",
    hint="Keep state on self, never on the class or in the module's globals.",
)
def instances_apart(seen: Scenarios) -> None:
    """An instance measures the same loss and penalty when another has begun."""
    before, after = seen.other.before, seen.other.after
    require(before == after, f"loss and penalty go from {before} to {after} when another instance begins")


@check(
    "hooks-run",
    reason="An error in a hook ends the row.",
    hint="Run it by hand: harness/conformance/lifecycle.py calls the hooks in order.",
)
def hooks_run(seen: Scenarios) -> None:
    """No hook raises anything."""
    seen.finish()
    seen.tried("resumed", "cut", "checkpointed", "half", "restored", "in_turn", "second", "data")
    # What crashes in half precision alone is told by a check of its own.
    told = sorted({str(crash) for name, crash in seen.crashes.items() if name != "half"})
    require(not told, "; ".join(told))
