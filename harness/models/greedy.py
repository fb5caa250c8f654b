"""Greedy decoding of a left-padded batch, without the machinery of ``generate``: rows leave when they are done.

What several rows begin with is read once, and what was read for one turn of a conversation is not read for the next.
As with any cache of keys and values, all parts of a decoder but attention must look at one token at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

CACHE_GROWTH = 32
"""Tokens for which a cache is enlarged at a time."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, (rows, heads, tokens, width)."""


class PreallocatedKVCache(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values with room to grow: a new token is written behind the others, which stay where they are."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new tokens, width) keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._pair = (key_states[:, :, :0], value_states[:, :, :0])
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not start or end > self._pair[0].shape[-2]:
            keys, values = (whole[:, :, :start] for whole in self._pair)
            self._pair = (_enlarged(keys, key_states, end), _enlarged(values, value_states, end))
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
    whole = new.new_empty(rows, heads, end + CACHE_GROWTH, width)
    whole[:, :, : old.shape[-2]] = old
    return whole


@dataclass
class PrefixCache:
    """What the rows of a batch have read so far; empty at first. A batch that begins with it need not read it again."""

    layers: Layers = field(default_factory=list)
    mask: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """(rows, tokens), 0 where the keys and values mean nothing."""
    ids: list[list[int]] = field(default_factory=list)
    """The token ids that each row has read."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        if self.layers:
            chosen = torch.tensor(rows, device=self.mask.device)
            self.layers = [(keys[chosen], values[chosen]) for keys, values in self.layers]
            self.mask, self.ids = self.mask[chosen], [self.ids[row] for row in rows]


def counted(mask: torch.Tensor) -> torch.Tensor:
    """Position ids (rows, tokens) of tokens that are just counted; 0 at padding on the left."""
    return mask.cumsum(-1).sub(1).clamp(min=0)


def read(
    decoder: Any, embeddings: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: PrefixCache
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Read the rest of each row, behind what it has read already.

    Args:
        decoder: The language model without its head.
        embeddings: (rows, tokens, hidden), the whole of each row, left-padded.
        mask: (rows, tokens), 0 at padding.
        positions: Position ids, (rows, tokens) or (axes, rows, tokens).
        past: What the rows have read, each from its beginning and never to its end; used up, to give memory back.

    Returns:
        The last hidden state of each row (rows, hidden), the mask (rows, all tokens) and the cache.
    """
    cache: Any = DynamicCache(config=decoder.config)
    roomy: Any = PreallocatedKVCache
    cache.layers = [roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if past.layers:
        for layer in cache.layers:
            layer.update(*past.layers.pop(0))
        rest = mask.sum(-1) - past.mask.sum(-1)
        width = int(rest.max())
        columns = torch.arange(width, device=mask.device)
        embeddings = embeddings[:, -width:]
        mask = torch.cat([past.mask, (columns >= width - rest[:, None]).to(past.mask.dtype)], dim=1)
    position = positions[..., -embeddings.shape[1] :]
    with last_position_only(decoder):
        hidden = decoder(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).last_hidden_state
    return hidden[:, -1], mask, cache


@contextmanager
def last_position_only(decoder: Any) -> Iterator[None]:
    """Spare the last layer's feed-forward part all positions but the last: nobody reads what it says about them.

    It is added to the hidden states of all positions; those before the last mean nothing afterwards.
    """
    part = getattr(decoder.layers[-1], "mlp", None) if hasattr(decoder, "layers") else None
    if part is None:
        yield
        return
    handle = part.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -1:],))
    try:
        yield
    finally:
        handle.remove()


def supports_prefix_cache(decoder: Any) -> bool:
    """Whether every layer keeps all keys and values, so that a past can be taken up again."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=decoder.config).layers)


def greedy(
    decoder: Any,
    head: torch.nn.Module,
    embeddings: torch.Tensor,
    attention_mask: torch.Tensor,
    positions: torch.Tensor,
    limits: Sequence[int],
    stops: frozenset[int],
    past: PrefixCache | None = None,
    *,
    remember: bool = False,
    penalty: tuple[float, Sequence[Sequence[int]]] | None = None,
) -> list[tuple[list[int], bool]]:
    """Continue each row with its most probable token until it stops or reaches its limit.

    Args:
        decoder: The language model without its head.
        head: Hidden states to logits.
        embeddings: (rows, tokens, hidden), left-padded.
        attention_mask: (rows, tokens), 0 at padding.
        positions: Position ids, (rows, tokens) or (axes, rows, tokens); a new token is one beyond a row's largest.
        limits: Most new tokens of each row, at least 1.
        stops: Token ids that end a row.
        past: What the rows have read already; used up, unless it is to
        remember: the whole prompts afterwards.
        penalty: A repetition penalty, as Hugging Face's ``generate`` has it, and the ids that each row has read.

    Returns:
        For each row its new ids without the final stop token, and whether it ended by one.
    """
    past = past or PrefixCache()
    hidden, mask, cache = read(decoder, embeddings, attention_mask, positions, past)
    if remember:
        past.layers, past.mask = [(layer.keys, layer.values) for layer in cache.layers], mask
    position = positions.amax(-1, keepdim=True).reshape(-1, len(limits), 1).amax(0) + 1
    said: list[list[int]] = [[] for _ in limits]
    ended = [False] * len(limits)
    active = list(range(len(limits)))
    while True:
        logits = head(hidden).float()
        if penalty:
            _penalise(logits, penalty[0], [{*penalty[1][row], *said[row]} for row in active])
        best = logits.argmax(-1)
        for row, token in zip(active, best.tolist(), strict=True):
            ended[row] = token in stops
            said[row] += [] if ended[row] else [token]
        going = [place for place, row in enumerate(active) if not ended[row] and len(said[row]) < limits[row]]
        if not going:
            return list(zip(said, ended, strict=True))
        if len(going) < len(active):
            kept = torch.tensor(going, device=best.device, dtype=torch.long)
            active = [active[place] for place in going]
            cache.batch_select_indices(kept)
            best, position, mask = best[kept], position[kept], mask[kept]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
        hidden = _read_one(decoder, best, mask, position, cache)
        position = position + 1


def _read_one(
    decoder: Any, tokens: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Any
) -> torch.Tensor:
    """The last hidden state of each row (rows, hidden) after one more token."""
    hidden: torch.Tensor = decoder(
        inputs_embeds=decoder.get_input_embeddings()(tokens).unsqueeze(1),
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
    return hidden


def _penalise(logits: torch.Tensor, penalty: float, told: Sequence[set[int]]) -> None:
    """Make tokens (of logits (rows, vocabulary), changed in place) less probable that stand in a row already."""
    for row, ids in zip(logits, told, strict=True):
        places = torch.tensor(sorted(ids), device=row.device)
        chosen = row[places]
        row[places] = torch.where(chosen < 0, chosen * penalty, chosen / penalty)
