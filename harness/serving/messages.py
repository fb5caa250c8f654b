"""Messages between this process and the one that vLLM runs in: JSON, and tensors as safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any

import torch
from safetensors.torch import load, save

_SIZES = struct.Struct("<QQ")
Message = tuple[dict[str, Any], dict[str, torch.Tensor]]
"""Plain values, and tensors by name."""


def write_message(
    stream: IO[bytes], values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write a message and flush.

    Raises:
        OSError: The other end is closed.
    """
    header, content = json.dumps(values).encode(), save(dict(tensors)) if tensors else b""
    stream.write(_SIZES.pack(len(header), len(content)) + header)
    stream.write(content)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """The next message; None if the other end is closed, even in the middle of one."""
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    length, size = _SIZES.unpack(sizes)
    header, content = stream.read(length), stream.read(size)
    if len(header) < length or len(content) < size:
        return None
    return json.loads(header), load(content) if size else {}
