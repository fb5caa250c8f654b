"""Write a file with a small method that passes the contract's checks, to start from."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.errors import UserError
from harness.storage.files import atomic_write

TEMPLATE = '''"""{title}: LoRA that is pulled back towards its start."""

from __future__ import annotations

import dataclasses

from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, setting


@dataclasses.dataclass(frozen=True)
class {kind}Settings(AdapterSettings):
    """Settings of the adapter, and the weight of the pull."""

    pull: float = setting(0.01, "weight of the pull; 0 is LoRA", source="ours", ge=0)


class {kind}(InjectionMethod):
    """LoRA with pull x sum of B^2 added to the loss, which keeps the change of the weights small.

    Paper: none yet.
    Differences: none.
    Cost: LoRA's, and a few elementwise operations a step.
    """

    name = "{name}"
    summary = "LoRA pulled back towards its start"
    paper = Paper("Unpublished", "https://example.org")
    Settings = {kind}Settings
    settings: {kind}Settings
    coefficient = Coefficient("pull", (0.001, 0.01, 0.1))

    def penalty(self, model, batch, logits):
        """Return a scalar that is added to the loss; methods/base.py describes the other hooks."""
        if not self.settings.pull:
            return None
        weights = [weight for name, weight in model.module.named_parameters() if "lora_B" in name]
        return self.settings.pull * sum(weight.square().sum() for weight in weights)
'''


def new_method(identifier: str, folder: Path) -> Path:
    """Write ``IDENTIFIER.py`` with a method of that name.

    Args:
        identifier: Name of the Python module, such as ``my_idea``; hyphens count as underscores.
        folder: Where to write it.

    Raises:
        UserError: The name is not valid or already taken, or the file exists.
    """
    from methods.registry import registered

    stem = identifier.removesuffix(".py").replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", stem):
        raise UserError(
            f"{identifier!r} is not a valid name for a method", location="new-method", hint="write it like my_idea"
        )
    name, path = stem.replace("_", "-"), folder / f"{stem}.py"
    if name in registered():
        raise UserError(f"there is a method {name!r} already", location="new-method", hint="choose another name")
    if path.exists():
        raise UserError("the file is there already", location=str(path), hint="choose another name, or delete it")
    words = stem.split("_")
    kind = "".join(word.capitalize() for word in words)
    atomic_write(path, TEMPLATE.format(title=" ".join(words).capitalize(), kind=kind, name=name))
    return path
