"""Subspaces of inputs, one for each task: how many dimensions each gets, which, and how far they overlap later.

Sources: ThanoRA's abstract, arXiv 2505.18640, the figure in its repository (the entropy of singular values, by task and
layer, decides the ranks) and its reviews on OpenReview. The formulas are ours, but for the size of the shared part. The
effective rank is that of Roy and Vetterli, "The effective rank: A measure of effective dimensionality", 2007.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Conversation
from methods.components.base_weights import stored_factor
from methods.components.covariance import InputCovariance, covariances
from methods.components.krylov import symmetrized_copy
from methods.components.lora_layers import lora_ab, lora_layers, target_layers
from methods.components.null_space import top_eigenvectors
from methods.components.weight_difference import ROW_NORM

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


ROWS = ".rows/"
"""In the name of a number of rows, after the layer and before the task."""


def spectral_entropy(covariance: torch.Tensor) -> float:
    """-sum p log p in nats, p the eigenvalues of C (d, d) over their sum; its exponential is the effective rank.

    log k if k directions hold equal energy, whatever their scale, and 0 if one direction holds it all.
    """
    values = torch.linalg.eigvalsh(symmetrized_copy(covariance)).clamp_min(0)
    shares = values / values.sum()
    return -float(torch.xlogy(shares, shares).sum())


def shared_rows(rank: int, tasks: int) -> int:
    """floor(r / (T + 1)), the rows of the cooperative subspace that belongs to no task."""
    return rank // (tasks + 1)


def share_out(entropies: Sequence[float], dimensions: int, temperature: float) -> list[int]:
    """Whole numbers of at least 1 that sum to ``dimensions``, in proportion to exp(entropy / temperature).

    After the first, each dimension goes where the quotient of weight and 2 n + 1 is largest, n being what a task has:
    the rounding of Sainte-Lague. Of equal ones the first comes first.

    Args:
        entropies: Of the tasks, in nats; there must not be more tasks than dimensions.
        dimensions: To share out.
        temperature: 1 for effective ranks; the higher, the more equal the numbers.
    """
    largest = max(entropies)
    weights = [math.exp((entropy - largest) / temperature) for entropy in entropies]
    counts = [1] * len(weights)
    for _ in range(dimensions - len(weights)):
        quotients = [weight / (2 * count + 1) for weight, count in zip(weights, counts, strict=True)]
        counts[quotients.index(max(quotients))] += 1
    return counts


def task_directions(moments: Sequence[torch.Tensor], counts: Sequence[int], order: Sequence[int]) -> torch.Tensor:
    """Orthonormal rows (sum of counts, d), those of each task in a block, in the order of the tasks.

    Each task in turn takes the leading eigenvectors of its covariance within the complement of what was taken before.

    Args:
        moments: C (d, d) of each task.
        counts: Number of directions of each task; their sum is at most d.
        order: The tasks in the order in which they choose.
    """
    size = moments[0].shape[0]
    taken = moments[0].new_zeros(size, 0, dtype=torch.float64)
    blocks: dict[int, torch.Tensor] = {}
    for task in order:
        exact = symmetrized_copy(moments[task])
        energy, products = exact.diagonal().sum(), exact @ taken
        # P C P - tr(C) Q Q^T with P = 1 - Q Q^T: what was taken comes last, even after directions without energy.
        inner = taken.T @ products - energy * torch.eye(taken.shape[1], dtype=exact.dtype, device=exact.device)
        exact -= taken @ products.T + products @ taken.T - taken @ inner @ taken.T
        blocks[task] = top_eigenvectors(exact, counts[task])
        taken = torch.cat([taken, blocks[task]], dim=1)
    return torch.cat([blocks[task] for task in range(len(moments))], dim=1).T


def task_start(
    model: InjectableModel, prompts: Mapping[str, Sequence[Conversation]], rank: int, temperature: float, targets: str
) -> Tensors:
    """The rows of A that belong to tasks, in each targeted layer.

    The task of the lowest entropy chooses first: it has the fewest directions to fall back on.

    Args:
        model: The untouched model.
        prompts: Of each task; only the first user turns are read.
        rank: r of every layer, at least the number of tasks.
        temperature: As in ``share_out``.
        targets: The layers, as the setting of this name.

    Returns:
        ``<layer>.A`` (rows of all tasks, d_in), in blocks in the order of the tasks' names, as long as LoRA's rows on
        average, in float32 or wider on the CPU; ``<layer>.rows/<task>`` the number of each task's, int64.

    Raises:
        UserError: An activation is not finite.
    """
    layers, names, tensors = target_layers(model, targets), sorted(prompts), {}
    dimensions = rank - shared_rows(rank, len(names))
    first, *others = (covariances(model, prompts[name], names=frozenset(layers)) for name in names)
    for part in first:
        parts = [part, *(next(other) for other in others)]
        rows, counts = _layer_start(parts, layers[part.layers[0]].weight.device, dimensions, temperature)
        for layer in part.layers:
            tensors[f"{layer}.A"] = stored_factor(rows, layers[layer].weight)
            for name, count in zip(names, counts, strict=True):
                tensors[f"{layer}{ROWS}{name}"] = torch.tensor(count)
        del part, parts  # before the next ones are computed
    return tensors


def _layer_start(
    parts: Sequence[InputCovariance], device: torch.device, dimensions: int, temperature: float
) -> tuple[torch.Tensor, list[int]]:
    """The rows of one input's tasks, and the number of each."""
    moments = [part.covariance.to(device) for part in parts]
    entropies = [spectral_entropy(each) for each in moments]
    counts = share_out(entropies, dimensions, temperature)
    order = sorted(range(len(parts)), key=entropies.__getitem__)
    return ROW_NORM * task_directions(moments, counts, order), counts


def block_overlap(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean over pairs of blocks of max(r_i, r_j) |A_i A_j^T|^2 / (|A_i|^2 |A_j|^2), in Frobenius norms.

    It depends on no block's scale. For blocks with orthogonal rows of equal length it is the mean squared cosine of the
    principal angles: 0 for orthogonal subspaces, and 1 if one contains the other.

    Args:
        blocks: A_i (r_i, d) of at least two tasks, none of them zero.
    """
    with torch.autocast(blocks[0].device.type, enabled=False):
        norms = [block.square().sum() for block in blocks]
        pairs = [
            max(len(one), len(other)) * (one @ other.T).square().sum() / (norms[i] * norms[j])
            for (i, one), (j, other) in combinations(enumerate(blocks), 2)
        ]
        return torch.stack(pairs).mean()


def rows_of_tasks(tensors: Tensors) -> Tensors:
    """Those of the tensors that are numbers of rows, by layer and then in the order of the tasks' names."""
    return {name: tensors[name] for name in sorted(tensors) if ROWS in name}


def total_overlap(model: InjectableModel, rows: Tensors) -> torch.Tensor:
    """The overlap of the tasks' blocks of A, which are its last rows, summed over the adapted layers.

    Args:
        model: With LoRA attached.
        rows: From ``rows_of_tasks``, for every adapted layer.
    """
    counts: dict[str, list[int]] = {}
    for name, number in rows.items():
        counts.setdefault(name.partition(ROWS)[0], []).append(int(number))
    factors = {name: lora_ab(layer)[0] for name, layer in lora_layers(model.module)}
    blocks = (torch.split(a[-sum(counts[name]) :], counts[name]) for name, a in factors.items())
    return torch.stack([block_overlap(each) for each in blocks]).sum()


def set_rows(model: InjectableModel, start: Tensors) -> None:
    """Copy ``<layer>.A`` to the last rows of A, where there is one."""
    for name, layer in lora_layers(model.module):
        if f"{name}.A" in start:
            rows = start[f"{name}.A"]
            lora_ab(layer)[0].data[-len(rows) :].copy_(rows)
