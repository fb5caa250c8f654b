"""The contract that every method keeps: checks on a tiny model, for ``check-method`` and for pytest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from harness.conformance.registry import Check
    from harness.conformance.scenarios import Scenarios
    from harness.conformance.subject import MethodUnderTest


def parametrize_with_checks(
    *names: str, plugin: Path | str | None = None, slow_marks: Sequence[pytest.MarkDecorator] = ()
) -> pytest.MarkDecorator:
    """Parametrize a test with all checks of the contract, as scikit-learn's function of the same name does.

    In your own test file::

        @parametrize_with_checks("my-idea", plugin="my_idea.py")
        def test_contract(method, check):
            check(method)

    A failure that the method declares in ``expected_failures`` is an xfail.

    Args:
        names: Methods and variants as in ``--methods``; "all-variants" stands for every row.
        plugin: A Python file that defines the method, unless it is installed.
        slow_marks: Marks for the checks that take seconds, such as ``pytest.mark.slow``.

    Raises:
        UserError: There is no such method or variant, or the file does not load.
    """
    import pytest

    from harness.conformance.checks import CHECKS
    from harness.conformance.subject import MethodUnderTest
    from methods.registry import expand_names, get_method, load_file

    if plugin is not None:
        load_file(Path(plugin))
    cases = [
        pytest.param(
            MethodUnderTest(get_method(name)[0], name.partition(":")[2]),
            partial(_assert_passes, check),
            id=f"{name}-{check.id}",
            marks=slow_marks if check.slow else (),
        )
        for name in expand_names(names)
        for check in CHECKS.values()
    ]
    return pytest.mark.parametrize(("method", "check"), cases)


def _assert_passes(check: Check[Scenarios], subject: MethodUnderTest) -> None:
    import pytest

    from harness.conformance.runner import run_check

    outcome = run_check(check, _scenarios(subject))
    if outcome.state == "expected failure":
        pytest.xfail(outcome.detail)
    if not outcome.ok:
        raise AssertionError(f"{outcome.state}: {outcome.detail}. {check.reason} Hint: {check.hint}")


@lru_cache(maxsize=1)
def _scenarios(subject: MethodUnderTest) -> Scenarios:
    """What the checks of one method share; only the last method's is kept, because it holds models."""
    from harness.conformance.scenarios import Scenarios

    return Scenarios(subject)
