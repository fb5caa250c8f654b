"""A model as it is, to be compared bit for bit with what it is later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Snapshot:
    """Weights, which of them are trained, the parts of the model, and what hangs on them."""

    weights: dict[str, torch.Tensor]
    flags: dict[str, bool]
    parts: dict[str, str]
    hooks: dict[str, int]

    def difference(self, later: Snapshot) -> str:
        """The first difference in words; empty where there is none."""
        added, gone = later.parts.keys() - self.parts.keys(), self.parts.keys() - later.parts.keys()
        if added or gone:
            return f"{len(added)} parts were added and {len(gone)} are gone, such as {min(added | gone)}"
        for name, kind in self.parts.items():
            if later.parts[name] != kind:
                return f"{name} was a {kind} and is a {later.parts[name]}"
        changed = changes(self.weights, later.weights)
        if changed:
            return f"{len(changed)} weights differ, such as {changed[0]}"
        for name, trained in self.flags.items():
            if later.flags[name] != trained:
                return f"requires_grad of {name} was {trained} and is {later.flags[name]}"
        for name, count in later.hooks.items():
            if self.hooks[name] != count:
                return f"{self.hooks[name]} forward or backward hooks were on {name or 'the model'}, now {count}"
        return ""


def snapshot(module: torch.nn.Module) -> Snapshot:
    """The model as it is now."""
    parts = dict(module.named_modules())
    return Snapshot(
        weights=copies(module.state_dict()),
        flags={name: parameter.requires_grad for name, parameter in module.named_parameters()},
        parts={name: type(part).__name__ for name, part in parts.items()},
        hooks={name: sum(len(vars(part)[kind]) for kind in _HOOKS) for name, part in parts.items()},
    )


def copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A copy of each."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def changes(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """Names of tensors that are not the same bit for bit, or not in both."""
    common = before.keys() & after.keys()
    differ = [name for name in common if not _same(before[name], after[name])]
    return sorted((before.keys() ^ after.keys()) | set(differ))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
