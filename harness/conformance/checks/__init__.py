"""The checks by topic. Importing this package registers all of them, in this order."""

from harness.conformance.checks import metadata, settings, data, attach, training  # noqa: F401, I001
from harness.conformance.checks import loss, penalty, step_hook, export, isolation, stages, asking  # noqa: F401
from harness.conformance.registry import CHECKS

__all__ = ["CHECKS"]
