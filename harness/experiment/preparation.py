"""What every command that trains and asks does first, once its inputs are read."""

from __future__ import annotations

from harness.data.reference_notes import warn_of_references
from harness.experiment.context import RunContext
from harness.experiment.limits import check_limits
from harness.llm.judge import check_judge
from harness.storage.files import remove_partials


def prepare_run(context: RunContext) -> None:
    """Check what would fail later, warn of what cannot be scored, and remove what an interrupted run left behind.

    Raises:
        UserError: The judge cannot be called, or the model cannot take a text or a picture.
    """
    check_judge(context.settings.judge)
    warn_of_references(context.inputs.tasks)
    check_limits(context)
    remove_partials(context.request.out)
