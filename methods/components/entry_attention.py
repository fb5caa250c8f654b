"""Attention from the tokens of one decoder layer to entries that were encoded beforehand.

It stands beside the layer's own attention and reads the same input. What a token retrieves goes through the layer's
frozen output projection and is added to what its own attention gives. No class of transformers is changed: a hook adds
it.
Sources: KBLaM, arXiv 2410.10450, and its code, microsoft/KBLaM; SR-KI, arXiv 2511.06446.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from benchmarks.errors import UserError
from methods.components.base_weights import weight_dtype
from methods.components.lora_layers import detach_adapter, load_tensors, projector_state, target_layers
from methods.components.recorded_pass import RecordedPass
from methods.components.trained_projector import attach_projector, export_projector
from methods.targets import LinearShapes, place_of

if TYPE_CHECKING:
    from methods.components.entry_settings import EntrySettings
    from methods.interfaces import InjectableModel, Tensors

ENTRIES = "entries"
"""What the entries are called in the attention that they stand beside."""
PROJECTIONS = ("o_proj", "out_proj")
"""Output projections of attentions, as the models of transformers call them."""
CENTRES = ("query_centre", "key_centre", "value_centre")
"""The means that are subtracted from the states of tokens, keys and values."""
LAYER = "layer"
"""Name of the number of the decoder layer, from 1, beside the entries that a stage passes on."""
SMALLEST = 1e-3
"""States that are nearer to the centre than this share of its length are equal to it but for rounding."""
EPSILON = 1e-12
"""Lengths below are treated as this, so that the gradient of a state at the centre is 0."""
_UNDO = "_injection_entries"
"""Attribute of the model's module: the attention's name and the handle of its hook."""


@dataclass(frozen=True)
class AttentionPlace:
    """The attention of a decoder layer.

    Attributes:
        layer: Number of the decoder layer, from 1.
        attention: The attention's name in the model.
        projection: The name of its output projection within it.
    """

    layer: int
    attention: str
    projection: str


def attention_places(names: Iterable[str]) -> dict[int, AttentionPlace]:
    """The attentions that entries can stand beside, by the number of their decoder layer.

    Args:
        names: Of the decoder's linear layers.

    Raises:
        UserError: There is none.
    """
    linears = list(names)
    numbers = {number: place for place, number in enumerate(sorted({place_of(name)[0] for name in linears}), 1)}
    found = {}
    for name in linears:
        attention, _, leaf = name.rpartition(".")
        if leaf in PROJECTIONS:
            layer = numbers[place_of(name)[0]]
            found[layer] = AttentionPlace(layer, attention, leaf)
    if not found:
        raise UserError(
            f"no decoder layer has an output projection called {' or '.join(PROJECTIONS)}",
            location="attention",
            hint="use another model, or another method",
        )
    return dict(sorted(found.items()))


def candidates(names: Iterable[str], layer: int) -> list[AttentionPlace]:
    """The attention of this decoder layer; those of all layers for 0.

    Raises:
        UserError: The layer does not exist, or has no attention that entries can stand beside.
    """
    linears = list(names)
    places = attention_places(linears)
    if layer == 0:
        return list(places.values())
    if layer not in places:
        raise UserError(
            f"there is no attention in decoder layer {layer}",
            location="setting layer",
            hint=f"choose from {', '.join(map(str, places))}, or 0",
        )
    return [places[layer]]


def widths(layers: LinearShapes, layer: int) -> tuple[int, int]:
    """The width of the hidden states and that of the output projection's input, the largest of the candidates."""
    shapes = dict(zip(layers.names, layers, strict=True))
    named = (shapes[f"{place.attention}.{place.projection}"] for place in candidates(layers.names, layer))
    output, width = max(named)
    return width, output


def centre_of(states: torch.Tensor) -> torch.Tensor:
    """The mean (d,) of states (n, d); 0 for a single one, which would be nothing but its own mean."""
    return states.mean(0) if len(states) > 1 else torch.zeros_like(states[0])


def directions(states: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """The states (..., d) seen from a centre (d,), at length 1; 0 where they are the centre but for rounding."""
    seen = states - centre
    length = seen.norm(dim=-1, keepdim=True)
    least = SMALLEST * centre.norm()
    return torch.where(length > least, seen / length.clamp_min(EPSILON), torch.zeros_like(seen))


def log_weights(scores: torch.Tensor, nothing: torch.Tensor, top_k: int = 0) -> torch.Tensor:
    """Logarithms of the weights of entries: the softmax over all of them and over attending to nothing.

    Args:
        scores: (..., entries).
        nothing: (1,), the score of attending to nothing.
        top_k: Entries of the largest scores that a token attends to; 0 for all.

    Returns:
        (..., entries).
    """
    if 0 < top_k < scores.shape[-1]:
        kept = scores.topk(top_k, dim=-1)
        scores = torch.full_like(scores, -torch.inf).scatter(-1, kept.indices, kept.values)
    return scores - torch.logaddexp(scores.logsumexp(-1, keepdim=True), nothing)


def retrieval_losses(scores: torch.Tensor, nothing: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """-log of the weight that each token gives to its own entries together: cross-entropy, if there is one of them.

    Args:
        scores: (tokens, entries).
        nothing: (1,), the score of attending to nothing.
        own: (tokens, entries) bool, at least one for each token.

    Returns:
        (tokens,).
    """
    return -log_weights(scores, nothing).masked_fill(~own, -torch.inf).logsumexp(-1)


class EntryAttention(RecordedPass, torch.nn.Module):
    """What tokens retrieve: V sum_i w_i v_i, where w is the softmax of (M h) k_i over the entries i, and nothing.

    h, k_i and v_i are directions from three centres. The score of nothing is b + log n, so that the number of entries n
    does not decide how much is attended to them. M starts as 1 / t, V and b as 0: at first nothing is retrieved.
    A pass records M h (rows, tokens, width) and the score of nothing (1,).

    Args:
        sizes: Number of entries, width of hidden states, and width of the output projection's input.
        temperature: t.
        top_k: Entries that a token attends to in eval mode.
        like: Has the type and the device of everything.
    """

    keys: torch.Tensor
    values: torch.Tensor
    query_centre: torch.Tensor

    def __init__(self, sizes: tuple[int, int, int], temperature: float, top_k: int, like: torch.Tensor) -> None:
        super().__init__()
        count, width, output = sizes
        self.query = torch.nn.Parameter(torch.eye(width, dtype=like.dtype, device=like.device) / temperature)
        self.value = torch.nn.Parameter(like.new_zeros(output, width))
        self.nothing = torch.nn.Parameter(like.new_zeros(1))
        for name in ("keys", "values"):
            self.register_buffer(name, like.new_zeros(count, width))
        for name in CENTRES:
            self.register_buffer(name, like.new_zeros(width))
        self.register_buffer("names", torch.zeros(count, dtype=torch.int64, device=like.device))
        self.top_k = top_k

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., output)."""
        with torch.autocast(hidden.device.type, enabled=False):  # half precision cannot tell many entries apart
            states = directions(hidden.to(self.query.dtype), self.query_centre)
            query = functional.linear(states, self.query)
            nothing = self.nothing + math.log(len(self.keys))
            self.record_pass(query, nothing)
            weights = log_weights(query @ self.keys.T, nothing, 0 if self.training else self.top_k).exp()
            return functional.linear(weights @ self.values, self.value)


def supervised_retrieval(
    model: InjectableModel, labels: torch.Tensor, own: Sequence[Sequence[int]]
) -> torch.Tensor | None:
    """The retrieval losses at the tokens before each supervised one, divided by the number of all supervised tokens.

    Args:
        model: After a forward pass with entries that record.
        labels: (rows, tokens), -100 where nothing is supervised.
        own: For each row the numbers of its own entries; a row without any has no retrieval loss.

    Returns:
        A scalar; None if no row with entries is supervised.
    """
    entries = get_entries(model)
    query, nothing = entries.pop_recorded()
    is_own = torch.zeros(len(own), len(entries.keys), dtype=torch.bool)
    for row, numbers in enumerate(own):
        is_own[row, list(numbers)] = True
    is_own = is_own.to(labels.device)
    supervised = labels[:, 1:] != -100
    rows, columns = (supervised & is_own.any(1, keepdim=True)).nonzero(as_tuple=True)
    if not len(rows):
        return None
    with torch.autocast(labels.device.type, enabled=False):
        losses = retrieval_losses(query[rows, columns] @ entries.keys.T, nothing, is_own[rows])
    return losses.sum() / supervised.sum()


def has_entries(module: torch.nn.Module) -> bool:
    """Whether entries are attached to a model's module."""
    return _UNDO in vars(module)


def get_entries(model: InjectableModel) -> EntryAttention:
    """The attached entries."""
    return cast("EntryAttention", model.module.get_submodule(f"{vars(model.module)[_UNDO][0]}.{ENTRIES}"))


def attach_prepared(model: InjectableModel, prepared: Tensors, settings: EntrySettings) -> EntryAttention:
    """Put entries beside the attention of their layer, to be trained.

    Args:
        model: The untouched base.
        prepared: The buffers of ``EntryAttention`` by name, and the ``layer``.
        settings: Of the method.

    Raises:
        UserError: Entries are attached already.
    """
    (place,) = candidates(target_layers(model), int(prepared[LAYER]))
    entries = _attach(model, place, len(prepared["keys"]), settings, trained=True)
    for name, buffer in entries.named_buffers():
        buffer.copy_(prepared[name])
    return entries


def _attach(
    model: InjectableModel, place: AttentionPlace, count: int, settings: EntrySettings, *, trained: bool
) -> EntryAttention:
    """Put so many entries beside an attention, all of them 0, and a trained copy in the projector's place."""
    module = model.module
    if _UNDO in vars(module):
        raise UserError("entries are attached already", location="attach", hint="detach them first")
    if settings.projector_learning_rate > 0:
        attach_projector(model)
    attention = module.get_submodule(place.attention)
    linear = cast("torch.nn.Linear", attention.get_submodule(place.projection))
    wide = torch.promote_types(weight_dtype(linear), torch.float32)
    entries = EntryAttention(
        (count, linear.out_features, linear.in_features),
        settings.temperature,
        settings.top_k,
        like=torch.empty(0, dtype=wide, device=linear.weight.device),
    )
    attention.add_module(ENTRIES, entries.requires_grad_(trained).train(attention.training))
    handle = attention.register_forward_hook(_adder(entries, place.projection), with_kwargs=True)
    vars(module)[_UNDO] = (place.attention, handle)
    return entries


def attention_input(args: tuple[Any, ...], options: Mapping[str, Any]) -> torch.Tensor:
    """The hidden states that an attention was called with, by name in most models and by place in others."""
    hidden: torch.Tensor = options["hidden_states"] if "hidden_states" in options else args[0]
    return hidden


def _adder(entries: EntryAttention, projection: str) -> Any:
    """A forward hook of an attention that adds what its tokens retrieve, through its own output projection."""

    def add(attention: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
        first, *others = output if isinstance(output, tuple) else (output,)
        linear = cast("torch.nn.Linear", attention.get_submodule(projection))
        added = linear(entries(attention_input(args, options)).to(first.dtype))
        if linear.bias is not None:  # the attention has added it
            added = added - linear.bias
        return (first + added, *others) if isinstance(output, tuple) else first + added

    return add


def remove_entries(model: InjectableModel) -> None:
    """Leave the base as it was without entries. Calling it twice is harmless."""
    detach_adapter(model)
    undo = vars(model.module).pop(_UNDO, None)
    if undo is not None:
        undo[1].remove()
        delattr(model.module.get_submodule(undo[0]), ENTRIES)


def export_entries(model: InjectableModel) -> Tensors:
    """The entries, what was trained, and the projector, on the CPU, by names in the model.

    Everything but the projector keeps its type, since scores of many entries must stay apart.
    """
    own = {name: each.detach().to("cpu", copy=True).contiguous() for name, each in _state(model).items()}
    return {**export_projector(model), **own}


def load_trained(model: InjectableModel, tensors: Tensors) -> None:
    """Copy what was trained, of what ``export_entries`` returned, beside entries that may be more.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    live = _state(model)
    buffers = {name for name, each in live.items() if not isinstance(each, torch.nn.Parameter)}
    state = {name: each for name, each in live.items() if name not in buffers} | projector_state(model.module)
    load_tensors(state, {name: each for name, each in tensors.items() if name not in buffers})


def restore_entries(model: InjectableModel, tensors: Tensors, settings: EntrySettings) -> None:
    """Attach what ``export_entries`` returned.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    places = {f"{place.attention}.{ENTRIES}.": place for place in attention_places(target_layers(model)).values()}
    start = next((start for start in places if f"{start}keys" in tensors), "")
    if not start:
        raise UserError(
            "it has no entries for an attention of this model",
            location="adapter",
            hint="use it with the model and the method that it was trained with",
        )
    count = len(tensors[f"{start}keys"])
    _attach(model, places[start], count, settings, trained=False)
    load_tensors({**_state(model), **projector_state(model.module)}, tensors)


def stage_entries(model: InjectableModel) -> Tensors:
    """Copies of the entries on the CPU, and the number of their decoder layer, for the next stage."""
    places = attention_places(target_layers(model)).values()
    layer = next(place.layer for place in places if place.attention == vars(model.module)[_UNDO][0])
    buffers = get_entries(model).named_buffers()
    return {LAYER: torch.tensor(layer)} | {name: each.to("cpu", copy=True) for name, each in buffers}


def scale_values(tensors: Tensors, factor: float) -> Tensors:
    """What ``export_entries`` returned, without the projector and with V times a factor."""
    own = {name: tensor for name, tensor in tensors.items() if f".{ENTRIES}." in name}
    return {name: tensor * factor if name.endswith(".value") else tensor.clone() for name, tensor in own.items()}


def _state(model: InjectableModel) -> dict[str, torch.Tensor]:
    """Live tensors of the entries, by their names in the model."""
    entries, path = get_entries(model), f"{vars(model.module)[_UNDO][0]}.{ENTRIES}"
    tensors: Iterable[tuple[str, torch.Tensor]] = (*entries.named_parameters(), *entries.named_buffers())
    return {f"{path}.{name}": tensor for name, tensor in tensors}
