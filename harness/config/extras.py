"""Optional extras: what a setting needs beyond the package's own requirements."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import Settings

EIGHT_BIT = "adamw-8bit"
"""The value of ``training.optimizer`` that needs bitsandbytes."""
BUILTIN, VLLM = "builtin", "vllm"
"""The values of ``answering.engine``; the second is also an extra, and the module that it installs."""
QUANTIZED = "nf4"
"""The value of ``precision`` that does."""


def require_extra(extra: str, setting: str) -> None:
    """Refuse a setting whose library is not installed; nothing is imported.

    Args:
        extra: Name of the extra, which is also the module's.
        setting: The setting with its value, for the message.

    Raises:
        UserError: The library is not installed.
    """
    if importlib.util.find_spec(extra) is None:
        raise UserError(
            f"this needs {extra}, which is not installed",
            location=setting,
            hint=f"pip install 'knowledge-injection-harness[{extra}]'",
        )


def vllm_version() -> str:
    """The installed version of vLLM; empty if there is none. The package for CPUs has another name, but its module."""
    names = metadata.packages_distributions().get(VLLM, [])
    return metadata.version(names[0]) if names else ""


def check_extras(settings: Settings, changes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what needs an extra where it is missing, or where it cannot work, before anything is computed.

    Args:
        settings: Of the run.
        changes: What single methods change in the settings of the training loop.

    Raises:
        UserError: It is not installed, or the model is sharded.
    """
    optimizers = {str(change.get("optimizer", settings.training.optimizer)) for change in changes}
    wanted = [f"training.optimizer={name}" for name in sorted(optimizers) if name == EIGHT_BIT]
    wanted += ["precision=nf4"] if settings.precision == QUANTIZED else []
    for setting in wanted:
        require_extra("bitsandbytes", setting)
        if settings.sharding != "none":
            raise UserError(
                f"it does not work with sharding={settings.sharding}",
                location=setting,
                hint="use harness/launch/ddp.yaml, or leave the setting out",
            )
    if settings.answering.engine == VLLM:
        require_extra(VLLM, "answering.engine=vllm")
        if settings.processes > 1:
            raise UserError(
                f"it does not work with {settings.processes} processes that share each cell",
                location="answering.engine=vllm",
                hint="start the command without `accelerate launch`, or leave the setting out",
            )


def libraries_of(precision: str, training: Mapping[str, Any]) -> tuple[str, ...]:
    """The extras that a result depends on, so that their versions become part of its cache key."""
    used = precision == QUANTIZED or training.get("optimizer") == EIGHT_BIT
    return ("bitsandbytes",) if used else ()
