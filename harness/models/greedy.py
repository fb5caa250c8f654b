"""Greedy decoding of a left-padded batch, simpler than ``generate``: finished rows leave the batch.

A prefix that several rows share is prefilled once, and earlier turns of a conversation are not prefilled again. As with
any cache of keys and values, all parts of a decoder except attention must handle each token independently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

CACHE_GROWTH = 32
"""Tokens by which a full cache is enlarged."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, (rows, heads, tokens, width)."""


class PreallocatedKVCache(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in a larger buffer: new tokens are appended without copying the old ones."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new tokens, width) keys and values; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = (key_states[:, :, :0], value_states[:, :, :0])
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not start or end > self._buffers[0].shape[-2]:
            keys, values = (buffer[:, :, :start] for buffer in self._buffers)
            self._buffers = (_enlarge(keys, key_states, end), _enlarge(values, value_states, end))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        end = self.get_seq_length()
        self._buffers = (self._buffers[0][indices], self._buffers[1][indices])
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)


def _enlarge(old: torch.Tensor, new: torch.Tensor, end: int) -> torch.Tensor:
    rows, heads, _, width = new.shape
    buffer = new.new_empty(rows, heads, end + CACHE_GROWTH, width)
    buffer[:, :, : old.shape[-2]] = old
    return buffer


@dataclass
class PrefixCache:
    """Keys and values for the beginning of each row, empty at first; a batch with these beginnings can reuse them."""

    layers: Layers = field(default_factory=list)
    mask: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """(rows, tokens), 0 at padding."""
    ids: list[list[int]] = field(default_factory=list)
    """The token ids of each row."""

    def select_rows(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        if self.layers:
            indices = torch.tensor(rows, device=self.mask.device)
            self.layers = [(keys[indices], values[indices]) for keys, values in self.layers]
            self.mask, self.ids = self.mask[indices], [self.ids[row] for row in rows]


def default_position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Position ids (rows, tokens): the index of each token in its row, 0 at padding on the left."""
    return mask.cumsum(-1).sub(1).clamp(min=0)


@lru_cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """What a decoder's ``forward`` calls its cache: transformers is renaming ``past_key_values`` to ``cache``."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _last_hidden(
    decoder: Any, embeddings: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
) -> torch.Tensor:
    """The last hidden state of each row (rows, hidden); extends the cache."""
    hidden: torch.Tensor = decoder(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        **{cache_argument(type(decoder).forward): cache},
    ).last_hidden_state
    return hidden[:, -1]


def prefill(
    decoder: Any, embeddings: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, prefix: PrefixCache
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Run the decoder over what follows each row's cached prefix.

    Args:
        decoder: The language model without its head.
        embeddings: (rows, tokens, hidden) of the complete rows, left-padded.
        mask: (rows, tokens), 0 at padding.
        positions: Position ids, (rows, tokens) or (axes, rows, tokens).
        prefix: The cached prefix of each row, shorter than the row; emptied, to release memory.

    Returns:
        The last hidden state of each row (rows, hidden), the mask (rows, all tokens) and the cache.
    """
    cache: Any = DynamicCache(config=decoder.config)
    preallocated: Any = PreallocatedKVCache
    cache.layers = [preallocated() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if prefix.layers:
        for layer in cache.layers:
            layer.update(*prefix.layers.pop(0))
        rest = mask.sum(-1) - prefix.mask.sum(-1)
        width = int(rest.max())
        columns = torch.arange(width, device=mask.device)
        embeddings = embeddings[:, -width:]
        mask = torch.cat([prefix.mask, (columns >= width - rest[:, None]).to(prefix.mask.dtype)], dim=1)
    with last_position_only(decoder):
        hidden = _last_hidden(decoder, embeddings, mask, positions[..., -embeddings.shape[1] :], cache)
    return hidden, mask, cache


@contextmanager
def last_position_only(decoder: Any) -> Iterator[None]:
    """Run the last layer's feed-forward part on the last position only, because only that is used.

    Its result is added to the hidden states of all positions, so those before the last are wrong.
    """
    mlp = getattr(_last_layer(decoder), "mlp", None) if hasattr(decoder, "layers") else None
    if mlp is None:
        yield
        return
    handle = mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -1:],))
    try:
        yield
    finally:
        handle.remove()


def _last_layer(decoder: Any) -> torch.nn.Module:
    """The layer that runs last: a method may have added one of the same kind to the last of the list, as its child."""
    last: torch.nn.Module = decoder.layers[-1]
    return next((child for child in last.children() if isinstance(last, type(child))), last)


def supports_prefix_cache(decoder: Any) -> bool:
    """Whether every layer keeps all keys and values, so that they can be reused for a longer row."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=decoder.config).layers)


def greedy_decode(
    decoder: Any,
    head: torch.nn.Module,
    embeddings: torch.Tensor,
    attention_mask: torch.Tensor,
    positions: torch.Tensor,
    limits: Sequence[int],
    stops: frozenset[int],
    prefix: PrefixCache | None = None,
    *,
    keep_prefix: bool = False,
    repetition_penalty: tuple[Sequence[float], Sequence[Sequence[int]]] | None = None,
) -> list[tuple[list[int], bool]]:
    """Continue each row with its most probable token until it stops or reaches its limit.

    Args:
        decoder: The language model without its head.
        head: Hidden states to logits.
        embeddings: (rows, tokens, hidden), left-padded.
        attention_mask: (rows, tokens), 0 at padding.
        positions: Position ids, (rows, tokens) or (axes, rows, tokens); new tokens continue from a row's largest.
        limits: Most new tokens of each row, at least 1.
        stops: Token ids that end a row.
        prefix: Cached prefix of each row; emptied, to release memory.
        keep_prefix: Store the complete prompts in ``prefix``.
        repetition_penalty: Each row's factor, as in Hugging Face's ``generate``, and the ids of its prompt.

    Returns:
        For each row its new ids without the final stop token, and whether it ended with one.
    """
    prefix = prefix or PrefixCache()
    hidden, mask, cache = prefill(decoder, embeddings, attention_mask, positions, prefix)
    if keep_prefix:
        prefix.layers, prefix.mask = [(layer.keys, layer.values) for layer in cache.layers], mask
    position = positions.amax(-1, keepdim=True).reshape(-1, len(limits), 1).amax(0) + 1
    generated: list[list[int]] = [[] for _ in limits]
    ended = [False] * len(limits)
    active = list(range(len(limits)))
    while True:
        logits = head(hidden).float()
        if repetition_penalty:
            factors, prompts = repetition_penalty
            used = [{*prompts[row], *generated[row]} for row in active]
            penalise_repetition(logits, [factors[row] for row in active], used)
        best = logits.argmax(-1)
        for row, token in zip(active, best.tolist(), strict=True):
            ended[row] = token in stops
            generated[row] += [] if ended[row] else [token]
        going = [index for index, row in enumerate(active) if not ended[row] and len(generated[row]) < limits[row]]
        if not going:
            return list(zip(generated, ended, strict=True))
        if len(going) < len(active):
            indices = torch.tensor(going, device=best.device, dtype=torch.long)
            active = [active[index] for index in going]
            cache.batch_select_indices(indices)
            best, position, mask = best[indices], position[indices], mask[indices]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
        hidden = _last_hidden(decoder, decoder.get_input_embeddings()(best).unsqueeze(1), mask, position, cache)
        position = position + 1


def penalise_repetition(logits: torch.Tensor, factors: Sequence[float], used: Sequence[set[int]]) -> None:
    """Lower the logits (rows, vocabulary), in place, of each row's used tokens by the row's factor."""
    for row, factor, ids in zip(logits, factors, used, strict=True):
        index = torch.tensor(sorted(ids), device=row.device)
        chosen = row[index]
        row[index] = torch.where(chosen < 0, chosen * factor, chosen / factor)
