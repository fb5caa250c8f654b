"""A mixture of low-rank experts inside PEFT's LoRA layer, and the losses of its routing.

The A of all experts form one matrix, and so do their B: y = W0 x + s B_cat (g(x) * A_cat x) costs two matrix products
whatever the number of experts, where a loop would cost two small ones for each expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional

from methods.components.lora_layers import TRAINED, load_tensors, lora_layers, seeded_uniform_
from methods.components.recorded_pass import RecordedPass

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

ROUTER = ".router.weight"
"""End of the exported name of a layer's router."""
_EPSILON = 1e-6
"""Keeps the normalisation of an expert's output differentiable, since the output is 0 at the start."""


class Experts(RecordedPass, torch.nn.Linear):
    """Replaces a layer's A (experts x r_e, d_in): projects, then weights the r_e coordinates of each expert.

    A pass records the projections (rows, tokens, experts, r_e) and the probabilities (..., experts).

    Args:
        lora_a: The layer's A, whose weight is used.
        experts: Number of experts; divides the rank.
        top_k: Experts that a token is sent to; 0 sends it to all of them.
        name: Name of the adapted layer; together with the seed it determines the router's initial values.
    """

    def __init__(self, lora_a: torch.nn.Linear, experts: int, top_k: int, name: str) -> None:
        super().__init__(lora_a.in_features, lora_a.out_features, bias=False, device="meta")
        self.weight = lora_a.weight
        self.experts, self.top_k = experts, top_k
        self.router = torch.nn.Parameter(self.weight.new_empty(experts, lora_a.in_features))
        seeded_uniform_(self.router, f"{name}/router")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d_in) -> (..., experts x r_e)."""
        projected = super().forward(x)
        projected = projected.view(*x.shape[:-1], self.experts, -1)
        with torch.autocast(x.device.type, enabled=False):  # in half precision a router misroutes tokens
            probabilities = functional.linear(x.to(self.router.dtype), self.router).softmax(-1)
        self.record_pass(projected, probabilities)
        weighted: torch.Tensor = projected * gates(probabilities, self.top_k).unsqueeze(-1)
        return weighted.flatten(-2)


def gates(probabilities: torch.Tensor, top_k: int) -> torch.Tensor:
    """Weights of the experts (..., experts): the probabilities, or the ``top_k`` largest, scaled to sum to 1."""
    if not top_k:
        return probabilities
    kept = probabilities * _chosen(probabilities, top_k)
    return kept / kept.sum(-1, keepdim=True)


def add_experts(model: InjectableModel, experts: int, top_k: int, record: bool) -> None:
    """Split the rank of each attached adapter into experts and add a router."""
    for name, layer in lora_layers(model.module):
        module = Experts(cast("torch.nn.Linear", layer.lora_A[TRAINED]), experts, top_k, name)
        module.record = record
        layer.lora_A[TRAINED] = module


def get_experts(model: InjectableModel) -> dict[str, Experts]:
    """The experts by name of the adapted layer."""
    return {name: cast("Experts", layer.lora_A[TRAINED]) for name, layer in lora_layers(model.module)}


def export_routers(model: InjectableModel) -> Tensors:
    """Copies on the CPU, ``<layer>.router.weight`` (experts, d_in)."""
    return {name: router.detach().cpu().clone() for name, router in _routers(model).items()}


def load_routers(model: InjectableModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy what ``export_routers`` gave into the attached routers.

    Raises:
        UserError: A router is missing, unknown or of another shape.
    """
    load_tensors(_routers(model), tensors, "routers")


def _routers(model: InjectableModel) -> dict[str, torch.Tensor]:
    return {f"{name}{ROUTER}": experts.router for name, experts in get_experts(model).items()}


def load_balance_loss(probabilities: torch.Tensor, mask: torch.Tensor, top_k: int) -> torch.Tensor:
    """Load balance of each row, E sum_e f_e P_e: 1 if all experts are used alike, E if one takes all tokens (top-1).

    f_e is the share of the row's dispatches that go to expert e, P_e its mean probability; only P has a gradient.

    Args:
        probabilities: (rows, tokens, experts).
        mask: (rows, tokens), 0 for padding, which is ignored.
        top_k: Experts that a token is sent to.

    Returns:
        (rows,).
    """
    unpadded = mask.unsqueeze(-1).to(probabilities.dtype)
    count = unpadded.sum(1)
    dispatched = (_chosen(probabilities, top_k) * unpadded).sum(1) / (count * top_k)
    return probabilities.shape[-1] * (dispatched * (probabilities * unpadded).sum(1) / count).sum(-1)


def contrastive_loss(
    projected: torch.Tensor, b: torch.Tensor, mask: torch.Tensor, temperature: float, samples: int
) -> torch.Tensor:
    """InfoNCE over expert outputs B_e A_e x of each row: outputs of the same expert attract, others repel each other.

    The inner products of outputs are those of their projections under B^T B, so that no output is formed.

    Args:
        projected: A_e x (rows, tokens, experts, r_e).
        b: B of all experts (d_out, experts x r_e).
        mask: (rows, tokens), 0 for padding, which is ignored.
        temperature: Divides the cosines.
        samples: Number of evenly spaced tokens to use from a row.

    Returns:
        (rows,).
    """
    experts, rank = projected.shape[2:]
    places = evenly_spaced_tokens(mask, samples)[..., None, None].expand(-1, -1, experts, rank)
    sampled = projected.gather(1, places)
    gram = (b.T @ b).view(experts, rank, experts, rank)
    mapped = torch.einsum("bner,erfq->bnefq", sampled, gram)
    inner = torch.einsum("bnefq,bmfq->bnemf", mapped, sampled).flatten(3).flatten(1, 2)
    norms = (inner.diagonal(dim1=1, dim2=2) + _EPSILON).clamp_min(_EPSILON).sqrt()
    logits = inner / (norms[:, :, None] * norms[:, None, :]) / temperature
    expert = torch.arange(experts, device=b.device).repeat(samples)
    itself = torch.eye(len(expert), dtype=torch.bool, device=b.device)
    positives = (expert[:, None] == expert[None, :]) & ~itself
    log_probabilities = logits.masked_fill(itself, -torch.inf).log_softmax(-1)
    return -log_probabilities[:, positives].mean(-1)


def evenly_spaced_tokens(mask: torch.Tensor, samples: int) -> torch.Tensor:
    """Positions (rows, samples) of unpadded tokens in each row, given the mask (rows, tokens)."""
    order = mask.int().argsort(dim=1, descending=True, stable=True)
    steps = torch.arange(samples, device=mask.device) * 2 + 1
    return order.gather(1, mask.sum(1, keepdim=True).long() * steps // (2 * samples))


def _chosen(probabilities: torch.Tensor, top_k: int) -> torch.Tensor:
    """1 for the ``top_k`` most likely experts, 0 for the others."""
    return torch.zeros_like(probabilities).scatter(-1, probabilities.topk(top_k, -1).indices, 1.0)
