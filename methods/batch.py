"""What a forward pass of the training reads. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Batch(dict[str, "torch.Tensor"]):
    """Model inputs by name, and which conversation each row comes from.

    The tensors are (rows, tokens) ``input_ids``, ``attention_mask`` and ``labels``, and the pictures' pixels; they are
    all that a dictionary of the batch holds, so that ``model(**batch)`` and loops over its values work as ever.

    Args:
        tensors: By name.
        conversation_ids: ``Conversation.id`` for each row; none for a batch that was made from no conversations.

    Attributes:
        conversation_ids: As given. A model that trains each answer in a row of its own repeats the id.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor] | None = None, conversation_ids: Sequence[str] = ()) -> None:
        super().__init__(tensors or {})
        self.conversation_ids = tuple(conversation_ids)

    def replace(self, **tensors: torch.Tensor) -> Batch:
        """The same rows with these tensors in the place of those of the same names."""
        return Batch({**self, **tensors}, self.conversation_ids)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same rows with their tensors on a device, as ``accelerate.utils.send_to_device`` moves them."""
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.items()}
        return Batch(moved, self.conversation_ids)
