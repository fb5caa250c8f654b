"""What a module's last forward pass leaves for a penalty."""

from __future__ import annotations

import torch


class RecordedPass:
    """Mixin of a module that records two tensors in a forward pass, which a penalty then takes."""

    record = False
    """Whether a forward pass with gradients records what the penalty needs."""
    _recorded: tuple[torch.Tensor, torch.Tensor] | None = None

    def record_pass(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Record both, in a forward pass with gradients of a module that is to record."""
        if self.record and torch.is_grad_enabled():
            self._recorded = first, second

    def pop_recorded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return and forget what the last forward pass recorded.

        Raises:
            RuntimeError: There was no forward pass with gradients since the last call.
        """
        recorded, self._recorded = self._recorded, None
        if recorded is None:
            raise RuntimeError("the penalty follows a forward pass with gradients")
        return recorded
