"""Edits of MLP down projections in closed form, after values that are found by gradient steps: MEMIT.

An MLP is read as a memory: its down projection W (d, f) maps a key k (f,), its input, to a value. The key of a picture
is read at the last token before the question, which has seen the whole picture and nothing of the question. First, a
vector is found that makes the wanted answers likely when it is added there to the output of the last edited layer. Then
the layers are changed one after the other, so that the keys of all pictures together lead there.
Source: MEMIT, arXiv 2210.07229, and its code, kmeng01/memit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Turn
from methods.components.covariance import covariances
from methods.components.eval_mode import eval_mode, eval_no_grad
from methods.components.layerwise_forward import decoder_layers, layer_outputs
from methods.components.weight_svd import covariance_weighting
from methods.targets import KINDS, count_layers, place_of

if TYPE_CHECKING:
    from methods.interfaces import Batch, InjectableModel, Tensors

ROWS = 16
"""Conversations in a forward pass, unless a single picture has more."""
REACHED = "reached"
"""Name of the share of the wanted change that the edited weights make."""
Request = tuple[Conversation, ...]
"""Conversations about one picture, whose answers are to be given."""


@dataclass(frozen=True)
class ValueOptions:
    """How values are found.

    Attributes:
        steps: Steps of Adam.
        rate: Its learning rate.
        limit: Largest norm of what is added, as a multiple of the output's norm.
        decay: Weight of that norm over the square of the output's.
        essence: Weight of the divergence from what the base predicts after the key's token.
    """

    steps: int
    rate: float
    limit: float
    decay: float
    essence: float


@dataclass(frozen=True)
class EditedLayer:
    """A decoder layer, its down projection, and the projection's name."""

    layer: torch.nn.Module
    name: str
    projection: torch.nn.Linear


def check_edited(depth: int, count: int, names: Iterable[str]) -> None:
    """Refuse to edit decoder layers that there are not, or the last one.

    Raises:
        UserError: It says how many there are.
    """
    there = count_layers(names)
    if not count <= depth < there:
        raise UserError(
            f"the last {count} of the first {depth} decoder layers cannot be edited: the model has {there}, and those "
            "after the edited ones read what is written",
            location="setting depth and layers",
            hint=f"choose a depth of at most {there - 1}, and no more layers than that",
        )


def edited_layers(model: InjectableModel, depth: int, count: int) -> list[EditedLayer]:
    """The last ``count`` of the first ``depth`` decoder layers, with the last linear layer of each MLP.

    Raises:
        UserError: There are fewer layers, or one has no single MLP that ends in a linear layer.
    """
    layers = decoder_layers(model)
    check_edited(depth, count, (name for _, linears in layers for name in linears))
    found = []
    for number, (layer, linears) in enumerate(layers[depth - count : depth], depth - count):
        parts = {name: each for name, each in linears.items() if any(w in place_of(name)[1] for w in KINDS["mlp"])}
        last = next(reversed(parts), "")
        if not 2 <= len(parts) <= 3 or parts[last].out_features != next(iter(parts.values())).in_features:
            raise UserError(
                f"decoder layer {number} has no single MLP that ends in a linear layer",
                location="setting depth and layers",
                hint="choose other layers; a mixture of experts cannot be edited",
            )
        found.append(EditedLayer(layer, last, parts[last]))
    return found


def measured_layers(
    model: InjectableModel, depth: int, count: int, prompts: Sequence[Conversation]
) -> tuple[list[EditedLayer], dict[str, torch.Tensor]]:
    """The layers to edit, and C of each by the name of its projection: the mean of k k^T over the prompts' tokens.

    Raises:
        UserError: A layer cannot be edited, or there are no prompts.
    """
    layers = edited_layers(model, depth, count)
    names = {place.name for place in layers}
    return layers, {part.layers[0]: part.covariance for part in covariances(model, prompts, names=names)}


def requests_of(conversations: Sequence[Conversation]) -> list[Request]:
    """Group those that begin with their only picture by that picture.

    Raises:
        UserError: There is none.
    """
    groups: dict[str, list[Conversation]] = {}
    for sample in conversations:
        if len(sample.pictures) == 1 and sample.turns[0].text.startswith(IMAGE):
            groups.setdefault(sample.pictures[0].sha256, []).append(sample)
    if not groups:
        raise UserError(
            "no conversation begins with its only picture, at which a key could be read",
            location="setting requests",
            hint="name training data about the items' pictures, such as evoke or kore-vqa",
        )
    return [tuple(group) for group in groups.values()]


def key_position(model: InjectableModel, sample: Conversation) -> int:
    """The column of the last token before the question: the last that it shares with two other questions."""
    answer = Turn("assistant", "A")
    probes = [dataclasses.replace(sample, turns=(Turn("user", f"{IMAGE}\n{word}"), answer)) for word in ("Yes", "No")]
    ids = model.training_batch([*probes, sample])["input_ids"]
    return int((ids == ids[0]).all(0).long().argmin()) - 1


def closed_form_update(
    residuals: torch.Tensor, keys: torch.Tensor, covariance: torch.Tensor, weight: float
) -> torch.Tensor:
    """R K^T (w C + K K^T)^-1 in float64: of all D the one with the smallest |D K - R|^2 + w tr(D C D^T).

    Args:
        residuals: R (d, n), what D should add for each key.
        keys: K (f, n).
        covariance: C (f, f), of the keys that should keep their values.
        weight: w.
    """
    keys, residuals = keys.double(), residuals.double()
    adjusted: torch.Tensor = torch.linalg.solve(weight * covariance.double() + keys @ keys.T, keys)
    return residuals @ adjusted.T


def edit(
    model: InjectableModel,
    requests: Sequence[Request],
    layers: Sequence[EditedLayer],
    moments: Mapping[str, torch.Tensor],
    weight: float,
    options: ValueOptions,
) -> Tensors:
    """Change the weights of these layers so that the requests' answers are given.

    Args:
        model: Its weights are changed in place, in their type.
        requests: What is to be answered.
        layers: In the decoder's order; each takes an equal share of what is left to do.
        moments: C of each layer's keys, by the name of the projection.
        weight: Of C beside the keys.
        options: How values are found.

    Returns:
        ``<layer>.weight`` of each, on the CPU, and the share of the wanted change that is ``reached``.
    """
    positions: dict[tuple[int, int], int] = {}
    for request in requests:
        size = request[0].pictures[0].size
        if size not in positions:
            positions[size] = key_position(model, request[0])
    columns = [positions[request[0].pictures[0].size] for request in requests]
    wanted = torch.cat([_values(model, part, layers[-1].layer, options) for part in _parts(requests, columns)])
    start = torch.empty(0)
    for number, place in enumerate(layers):
        keys, states = _keys_and_states(model, requests, columns, place.projection, layers[-1].layer)
        start = states if number == 0 else start
        left = (wanted - states).T / (len(layers) - number)
        covariance = covariance_weighting(moments[place.name], keys.device)
        matrix = place.projection.weight
        update = closed_form_update(left, keys.T, covariance, weight)
        matrix.data.copy_((matrix.double() + update).to(matrix.dtype))
    _, states = _keys_and_states(model, requests, columns, layers[-1].projection, layers[-1].layer)
    reached = 1 - (wanted - states).norm() / (wanted - start).norm().clamp(min=1e-12)
    edited = {f"{place.name}.weight": place.projection.weight.detach().to("cpu", copy=True) for place in layers}
    return {**edited, REACHED: reached.float().cpu()}


@dataclass(frozen=True)
class _Part:
    """Requests of one forward pass: their conversations, and of each the number of its request and its key's column."""

    samples: tuple[Conversation, ...]
    owners: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.owners[-1] + 1


def _parts(requests: Sequence[Request], columns: Sequence[int]) -> Iterator[_Part]:
    held: list[tuple[Request, int]] = []
    for request, column in zip(requests, columns, strict=True):
        if held and sum(len(each) for each, _ in held) + len(request) > ROWS:
            yield _part(held)
            held = []
        held.append((request, column))
    if held:
        yield _part(held)


def _part(held: Sequence[tuple[Request, int]]) -> _Part:
    rows = [(sample, owner, column) for owner, (request, column) in enumerate(held) for sample in request]
    samples, owners, columns = zip(*rows, strict=True)
    return _Part(samples, owners, columns)


def _values(model: InjectableModel, part: _Part, layer: torch.nn.Module, options: ValueOptions) -> torch.Tensor:
    """(requests, d) float32: outputs of the layer at the keys' tokens, with which the answers are likely."""
    batch = model.training_batch(part.samples)
    owners, columns = (torch.tensor(each, device=model.device) for each in (part.owners, part.columns))
    batch = _with_key_labels(batch, columns)
    row, column = (batch["labels"][:, 1:] != -100).nonzero(as_tuple=True)
    at_key = column == columns[row]
    answers, rows_of = ~at_key, torch.bincount(owners, minlength=part.count).float()
    tokens = torch.bincount(row[answers], minlength=len(owners)).clamp(min=1).float()
    with eval_mode(model):
        with torch.no_grad(), layer_outputs([layer]) as seen:
            logits, targets = model.supervised(batch)
        starts = seen[0][torch.arange(len(owners), device=model.device), columns].float()
        base = functional.log_softmax(logits[at_key], -1)
        start = torch.stack([starts[owners == owner][0] for owner in range(part.count)])
        added, norms = torch.zeros_like(start).requires_grad_(True), start.norm(dim=1)
        optimizer = torch.optim.Adam([added], lr=options.rate)
        for _ in range(options.steps):
            with torch.enable_grad(), _states_added(layer, columns, added[owners]):
                logits, _ = model.supervised(batch)
                losses = functional.cross_entropy(logits[answers], targets[answers], reduction="none")
                of_rows = torch.zeros_like(tokens).index_add(0, row[answers], losses) / tokens
                now = functional.log_softmax(logits[at_key], -1)
                drift = functional.kl_div(now, base, reduction="none", log_target=True).sum(-1)
                loss = ((of_rows + options.essence * drift) / rows_of[owners]).sum()
                loss = loss + (options.decay * added.norm(dim=1) / norms.square()).sum()
            (added.grad,) = torch.autograd.grad(loss, [added])
            optimizer.step()
            with torch.no_grad():
                added *= (options.limit * norms / added.norm(dim=1).clamp(min=1e-12)).clamp(max=1)[:, None]
    return start + added.detach()


def _with_key_labels(batch: Batch, columns: torch.Tensor) -> Batch:
    """The batch with the token after each key's as a label too, so that what is predicted there is seen."""
    labels = batch["labels"].clone()
    if len(labels) != len(columns):
        raise UserError(
            "the model makes several rows of a conversation",
            location="setting requests",
            hint="name data with one question and answer in each conversation",
        )
    rows = torch.arange(len(labels), device=labels.device)
    labels[rows, columns + 1] = batch["input_ids"][rows, columns + 1]
    return batch.replace(labels=labels)


def _keys_and_states(
    model: InjectableModel,
    requests: Sequence[Request],
    columns: Sequence[int],
    projection: torch.nn.Linear,
    layer: torch.nn.Module,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(requests, f) inputs of the projection and (requests, d) outputs of the layer at the keys' tokens, float32."""
    firsts, keys, states = [request[:1] for request in requests], [], []
    for part in _parts(firsts, columns):
        inputs: list[torch.Tensor] = []
        handle = projection.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0]))
        try:
            with eval_no_grad(model), layer_outputs([layer]) as outputs:
                model.supervised(model.training_batch(part.samples))
        finally:
            handle.remove()
        rows = torch.arange(len(part.samples), device=model.device)
        at = torch.tensor(part.columns, device=model.device)
        keys.append(inputs[0][rows, at].float())
        states.append(outputs[0][rows, at].float())
    return torch.cat(keys), torch.cat(states)


@contextmanager
def _states_added(layer: torch.nn.Module, columns: torch.Tensor, added: torch.Tensor) -> Iterator[None]:
    """Add vectors (rows, d) to the layer's output, each at one column of its row."""
    rows = torch.arange(len(columns), device=columns.device)

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = torch.index_put(hidden, (rows, columns), added.to(hidden.dtype), accumulate=True)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
