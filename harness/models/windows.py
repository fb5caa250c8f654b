"""Attention within the windows of a picture for all windows of one size at once, instead of one after the other."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision


def batch_window_attention(tower: Any) -> None:
    """Have each block of a Qwen2.5 vision tower attend in all windows of one size at once.

    Outside flash attention the library calls the attention once for each window of each picture. What comes out is the
    same but for rounding. Towers that use another implementation than torch's own are left as they are.
    """
    if tower.config._attn_implementation == "sdpa":
        for block in tower.blocks:
            block.attn.forward = MethodType(_forward, block.attn)


def _forward(
    self: Any,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """As ``Qwen2_5_VLVisionAttention.forward``: (patches, hidden), windows one after the other, with their borders."""
    states = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)
    query, key, value = states.unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    lengths = cu_seqlens.diff()
    sizes = sorted(set(lengths.tolist()))
    if len(sizes) == 1:
        attended = _attend(*(part.unflatten(0, (-1, sizes[0])) for part in (query, key, value))).flatten(0, 1)
    else:
        attended = torch.empty_like(query)
        for size in sizes:
            starts = cu_seqlens[:-1][lengths == size].long()
            places = starts[:, None] + torch.arange(size, device=starts.device)
            attended[places] = _attend(query[places], key[places], value[places])
    projected: torch.Tensor = self.proj(attended.flatten(1))
    return projected


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(windows, patches, heads, width) each."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
