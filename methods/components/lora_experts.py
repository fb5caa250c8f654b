"""A mixture of low-rank experts behind PEFT's own layer, and what its routing is asked to be like.

The A of all experts are one matrix, and so are their B: y = W0 x + s B_cat (g(x) * A_cat x) costs two matrix products
whatever the number of experts, where a loop over them would cost twice as many small ones each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional

from benchmarks.errors import UserError
from methods.components.lora_layers import TRAINED, lora_layers, seeded_uniform_

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

ROUTER = ".router.weight"
"""Ends the exported name of a layer's router."""
_EPSILON = 1e-6
"""Keeps the direction of an expert's output, which is 0 at the start, differentiable."""


class Experts(torch.nn.Linear):
    """Takes the place of a layer's A (experts x r_e, d_in): projects, then weighs each expert's r_e coordinates.

    Args:
        down: The layer's A, whose weight goes on being used.
        experts: How many; divides the rank.
        top_k: Experts that a token is sent to; 0 sends it to all of them.
        name: Of the adapted layer; with the seed it decides the router's first values.
    """

    def __init__(self, down: torch.nn.Linear, experts: int, top_k: int, name: str) -> None:
        super().__init__(down.in_features, down.out_features, bias=False, device="meta")
        self.weight = down.weight
        self.experts, self.top_k = experts, top_k
        self.router = torch.nn.Parameter(self.weight.new_empty(experts, down.in_features))
        seeded_uniform_(self.router, f"{name}/router")
        self.keeps = False
        """Whether a forward pass with gradients leaves behind what the penalty needs."""
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d_in) -> (..., experts x r_e)."""
        projected = super().forward(x)
        projected = projected.view(*x.shape[:-1], self.experts, -1)
        with torch.autocast(x.device.type, enabled=False):  # a router in half precision sends tokens astray
            probabilities = functional.linear(x.to(self.router.dtype), self.router).softmax(-1)
        if self.keeps and torch.is_grad_enabled():
            self._seen = projected, probabilities
        weighed: torch.Tensor = projected * gates(probabilities, self.top_k).unsqueeze(-1)
        return weighed.flatten(-2)

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Projections (rows, tokens, experts, r_e) and probabilities (rows, tokens, experts) of the last pass, once.

        Raises:
            RuntimeError: There was none since the last call.
        """
        seen, self._seen = self._seen, None
        if seen is None:
            raise RuntimeError("the penalty follows a forward pass with gradients")
        return seen


def gates(probabilities: torch.Tensor, top_k: int) -> torch.Tensor:
    """Weights of the experts (..., experts): the probabilities, or the largest ``top_k`` of them scaled to sum to 1."""
    if not top_k:
        return probabilities
    kept = probabilities * _chosen(probabilities, top_k)
    return kept / kept.sum(-1, keepdim=True)


def add_experts(model: InjectableModel, experts: int, top_k: int, keeps: bool) -> None:
    """Split the rank of each attached adapter into experts with a router."""
    for name, layer in lora_layers(model.module):
        down = cast("torch.nn.Linear", layer.lora_A[TRAINED])
        layer.lora_A[TRAINED] = made = Experts(down, experts, top_k, name)
        made.keeps = keeps


def experts_of(model: InjectableModel) -> dict[str, Experts]:
    """By name of the adapted layer."""
    return {name: cast("Experts", layer.lora_A[TRAINED]) for name, layer in lora_layers(model.module)}


def export_routers(model: InjectableModel) -> Tensors:
    """Copies on the CPU, ``<layer>.router.weight`` (experts, d_in)."""
    return {f"{name}{ROUTER}": part.router.detach().cpu().clone() for name, part in experts_of(model).items()}


def load_routers(model: InjectableModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy what ``export_routers`` gave into the attached routers.

    Raises:
        UserError: A router is missing, unknown or of another shape.
    """
    live = {f"{name}{ROUTER}": part.router for name, part in experts_of(model).items()}
    wrong = sorted(live.keys() ^ tensors.keys())
    wrong += sorted(name for name in live.keys() & tensors.keys() if live[name].shape != tensors[name].shape)
    if wrong:
        raise UserError(
            f"{len(wrong)} routers are missing, unknown or of another shape, the first is {wrong[0]}",
            location="adapter",
            hint="use it with the model and the settings that it was trained with",
        )
    with torch.no_grad():
        for name, router in live.items():
            router.copy_(tensors[name])


def balance(probabilities: torch.Tensor, mask: torch.Tensor, top_k: int) -> torch.Tensor:
    """Load balance of each row, E sum_e f_e P_e: 1 where all experts share alike, E where one takes all (top-1).

    f_e is the share of the row's dispatches that go to expert e, P_e its mean probability; only P has a gradient.

    Args:
        probabilities: (rows, tokens, experts).
        mask: (rows, tokens); padding, where it is 0, counts for nothing.
        top_k: Experts that a token is sent to.

    Returns:
        (rows,).
    """
    real = mask.unsqueeze(-1).to(probabilities.dtype)
    count = real.sum(1)
    dispatched = (_chosen(probabilities, top_k) * real).sum(1) / (count * top_k)
    return probabilities.shape[-1] * (dispatched * (probabilities * real).sum(1) / count).sum(-1)


def contrast(
    projected: torch.Tensor, up: torch.Tensor, mask: torch.Tensor, temperature: float, samples: int
) -> torch.Tensor:
    """InfoNCE over expert outputs B_e A_e x of each row: those of one expert attract, those of two repel each other.

    The inner products of outputs are those of their projections under B^T B, so no output is ever formed.

    Args:
        projected: A_e x (rows, tokens, experts, r_e).
        up: B of all experts (d_out, experts x r_e).
        mask: (rows, tokens); padding is never looked at.
        temperature: Divides the cosines.
        samples: Tokens looked at in a row, evenly spaced.

    Returns:
        (rows,).
    """
    experts, rank = projected.shape[2:]
    places = evenly_spaced(mask, samples)[..., None, None].expand(-1, -1, experts, rank)
    some = projected.gather(1, places)
    gram = (up.T @ up).view(experts, rank, experts, rank)
    stage_state = torch.einsum("bner,erfq->bnefq", some, gram)
    inner = torch.einsum("bnefq,bmfq->bnemf", stage_state, some).flatten(3).flatten(1, 2)
    norms = (inner.diagonal(dim1=1, dim2=2) + _EPSILON).clamp_min(_EPSILON).sqrt()
    logits = inner / (norms[:, :, None] * norms[:, None, :]) / temperature
    expert = torch.arange(experts, device=up.device).repeat(samples)
    itself = torch.eye(len(expert), dtype=torch.bool, device=up.device)
    friends = (expert[:, None] == expert[None, :]) & ~itself
    likely = logits.masked_fill(itself, -torch.inf).log_softmax(-1)
    return -likely[:, friends].mean(-1)


def evenly_spaced(mask: torch.Tensor, samples: int) -> torch.Tensor:
    """Places (rows, samples) among the tokens of each row (rows, tokens) that are no padding."""
    order = mask.int().argsort(dim=1, descending=True, stable=True)
    steps = torch.arange(samples, device=mask.device) * 2 + 1
    return order.gather(1, mask.sum(1, keepdim=True).long() * steps // (2 * samples))


def _chosen(probabilities: torch.Tensor, top_k: int) -> torch.Tensor:
    """1 for the ``top_k`` likeliest experts, 0 for the others."""
    return torch.zeros_like(probabilities).scatter(-1, probabilities.topk(top_k, -1).indices, 1.0)
