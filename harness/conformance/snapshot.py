"""Snapshots of a model, compared bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Snapshot:
    """A model's weights, ``requires_grad`` flags, types of modules, and numbers of hooks, each by name."""

    weights: dict[str, torch.Tensor]
    requires_grad: dict[str, bool]
    modules: dict[str, str]
    hooks: dict[str, int]

    def difference(self, later: Snapshot) -> str:
        """The first difference in words; "" if there is none."""
        added, removed = later.modules.keys() - self.modules.keys(), self.modules.keys() - later.modules.keys()
        if added or removed:
            return f"{len(added)} modules were added and {len(removed)} removed, such as {min(added | removed)}"
        for name, kind in self.modules.items():
            if later.modules[name] != kind:
                return f"{name} was a {kind} and is a {later.modules[name]}"
        changed = changed_tensors(self.weights, later.weights)
        if changed:
            return f"{len(changed)} weights differ, such as {changed[0]}"
        for name, flag in self.requires_grad.items():
            if later.requires_grad[name] != flag:
                return f"requires_grad of {name} was {flag} and is {later.requires_grad[name]}"
        for name, count in later.hooks.items():
            if self.hooks[name] != count:
                return f"{name or 'the model'} had {self.hooks[name]} forward or backward hooks and has {count}"
        return ""


def snapshot(module: torch.nn.Module) -> Snapshot:
    """Copy the state of a model."""
    modules = dict(module.named_modules())
    return Snapshot(
        weights=copies(module.state_dict()),
        requires_grad={name: parameter.requires_grad for name, parameter in module.named_parameters()},
        modules={name: type(part).__name__ for name, part in modules.items()},
        hooks={name: sum(len(vars(part)[kind]) for kind in _HOOKS) for name, part in modules.items()},
    )


def copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy each tensor."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def changed_tensors(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that differ in a bit or are in only one of the two."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not _equal(before[name], after[name])
    )


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)
