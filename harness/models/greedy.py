"""Greedy decoding of a left-padded batch, without the machinery of ``generate``: rows leave when they are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens for which a cache is enlarged at a time."""


class RoomyLayer(DynamicLayer):
    """Keys and values with room to grow: a new token is written behind the others, which stay where they are."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new tokens, width) keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._pair = key_states.new_empty(0), value_states.new_empty(0)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not start or end > self._pair[0].shape[-2]:
            self._pair = (_enlarged(self.keys, key_states, end), _enlarged(self.values, value_states, end))
        for whole, new in zip(self._pair, (key_states, value_states), strict=True):
            whole[:, :, start:end] = new
        self.keys, self.values = (whole[:, :, :end] for whole in self._pair)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        end = self.get_seq_length()
        self._pair = (self._pair[0][indices], self._pair[1][indices])
        self.keys, self.values = (whole[:, :, :end] for whole in self._pair)


def _enlarged(old: torch.Tensor, new: torch.Tensor, end: int) -> torch.Tensor:
    rows, heads, _, width = new.shape
    whole = new.new_empty(rows, heads, end + ROOM, width)
    if old.numel():
        whole[:, :, : old.shape[-2]] = old
    return whole


def greedy(
    decoder: Any,
    head: torch.nn.Module,
    embeddings: torch.Tensor,
    attention_mask: torch.Tensor,
    limits: Sequence[int],
    stops: frozenset[int],
) -> list[tuple[list[int], bool]]:
    """Continue each row with its most probable token until it stops or reaches its limit.

    Args:
        decoder: The language model without its head.
        head: Hidden states to logits.
        embeddings: (rows, tokens, hidden), left-padded.
        attention_mask: (rows, tokens), 0 at padding.
        limits: Most new tokens of each row, at least 1.
        stops: Token ids that end a row.

    Returns:
        For each row its new ids without the final stop token, and whether it ended by one.
    """
    cache = DynamicCache(config=decoder.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    position = attention_mask.cumsum(-1).sub(1).clamp(min=0)
    said: list[list[int]] = [[] for _ in limits]
    ended = [False] * len(limits)
    active = list(range(len(limits)))
    while active:
        hidden = decoder(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        best = head(hidden).float().argmax(-1)
        going = []
        for place, (row, token) in enumerate(zip(active, best.tolist(), strict=True)):
            if token in stops:
                ended[row] = True
                continue
            said[row].append(token)
            if len(said[row]) < limits[row]:
                going.append(place)
        if len(going) < len(active):
            kept = torch.tensor(going, device=best.device, dtype=torch.long)
            active = [active[place] for place in going]
            if not active:
                break
            cache.batch_select_indices(kept)
            best, position, attention_mask = best[kept], position[kept], attention_mask[kept]
        embeddings = decoder.get_input_embeddings()(best).unsqueeze(1)
        position = position[:, -1:] + 1
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(active), 1)], dim=1)
    return list(zip(said, ended, strict=True))
