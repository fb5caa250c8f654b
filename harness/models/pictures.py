"""Pictures as tensors, each processed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch


class TensorCache:
    """Tensors by key; the least recently used go first when there are too many.

    Args:
        limit: Largest total size, in bytes.
    """

    def __init__(self, limit: int = 256 << 20) -> None:
        self._limit, self._size = limit, 0
        self._tensors: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def get(self, key: Hashable) -> torch.Tensor | None:
        """The tensor under ``key``, or None."""
        tensor = self._tensors.get(key)
        if tensor is not None:
            self._tensors.move_to_end(key)
        return tensor

    def put(self, key: Hashable, tensor: torch.Tensor) -> torch.Tensor:
        """Keep a tensor; returns it."""
        if key not in self._tensors:
            self._tensors[key] = tensor
            self._size += tensor.nbytes
            while self._size > self._limit and len(self._tensors) > 1:
                self._size -= self._tensors.popitem(last=False)[1].nbytes
        return tensor
