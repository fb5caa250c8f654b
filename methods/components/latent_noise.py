"""Noise on the inputs of the first MLPs that depends on these inputs, and that is learned from paraphrases: LaPael.

Each row of a batch has a seed of its own, drawn from torch's global generator, and its noise depends on that seed, the
layer and the row's real tokens alone: neither padding nor the other rows nor a recomputed forward pass changes it.
Source: LaPael, arXiv 2411.00686, and its code, krafton-ai/LaPael.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from benchmarks.errors import UserError
from methods.components.eval_mode import eval_no_grad
from methods.components.layerwise_forward import decoder_layers, layer_outputs
from methods.components.lora_layers import seeded_generator, target_layers
from methods.targets import KINDS, count_layers, place_of

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from benchmarks.records import Conversation
    from methods.components.paraphrases import Paraphrased
    from methods.interfaces import Batch, InjectableModel, Tensors

BETA = math.log(2)
"""Of the softplus, so that the multiplier of 0 is 1; the code has 0.693."""
MASK_TEMPERATURE = 0.1
"""Of the relaxed Bernoulli mask. Source: the code."""
EPSILON = 1e-7
"""Added within the logarithms of the mask. Source: the code."""
SMALLEST_DEVIATION = 0.1
"""Smaller standard deviations are treated as equal. Source: the code."""
DRAWS = 4
"""Draws of noise for a row, of which mean and deviation are taken. Source: the code."""
BATCH = 4
"""Items in a step of the noise's training. Source: the code."""
SEEDS = 2**62
"""Seeds of rows are below."""
DIVERGENCE = "divergence"
"""Name of the mean divergence of each epoch, beside the noise's weights."""


class NoiseLayer(torch.nn.Module):
    """The noise of one MLP: a multiplier of its input, where a mask passes it.

    Args:
        width: Size d of the MLP's input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        linear = partial(torch.nn.utils.skip_init, torch.nn.Linear)  # the caller gives the values; draw none here
        self.mean, self.inner, self.outer = linear(width, width), linear(width, width), linear(width, width)
        self.gate = linear(width, 1)

    def forward(
        self, hidden: torch.Tensor, normal: torch.Tensor, uniform: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """1 - m + z m and m, where z = softplus(f(W h + e)) and m is a relaxed Bernoulli draw with the logit g(h).

        Args:
            hidden: h (..., d).
            normal: e (..., d), standard normal.
            uniform: (..., 1), within 0 and 1.
        """
        hidden = hidden.to(self.mean.weight.dtype)
        factor = functional.softplus(self.outer(functional.relu(self.inner(self.mean(hidden) + normal))), beta=BETA)
        odds = torch.log(uniform + EPSILON) - torch.log(1 - uniform + EPSILON) + self.gate(hidden)
        mask = torch.sigmoid(odds / MASK_TEMPERATURE)
        return 1 - mask + factor * mask, mask


@dataclass(frozen=True)
class NoisePlace:
    """Where the noise of one decoder layer acts: the name of its MLP, the size of its input, and its decoder."""

    mlp: str
    width: int
    decoder: str


def noise_places(model: InjectableModel, count: int) -> list[NoisePlace]:
    """The MLPs of the first ``count`` decoder layers.

    Raises:
        UserError: There are fewer decoder layers, or one of them has no MLP.
    """
    layers = target_layers(model)
    check_count(count, layers)
    numbers = sorted({place_of(name)[0] for name in layers})[:count]
    found: dict[int, NoisePlace] = {}
    for name, linear in layers.items():
        number, part = place_of(name)
        if number in numbers and number not in found and any(word in part for word in KINDS["mlp"]):
            path = name.split(".")
            place = path.index(str(number))
            decoder = ".".join(path[: place - 1])
            found[number] = NoisePlace(".".join(path[: place + 2]), linear.in_features, decoder)
    for number in numbers:
        if number not in found:
            raise UserError(
                f"decoder layer {number} has no MLP whose input could be perturbed",
                location="setting noise_layers",
                hint="choose fewer layers, or another model",
            )
    return [found[number] for number in numbers]


def check_count(count: int, names: Iterable[str]) -> None:
    """Refuse to perturb more decoder layers than these linear layers are in.

    Raises:
        UserError: It says how many there are.
    """
    there = count_layers(names)
    if count > there:
        problem = f"the first {count} decoder layers cannot be perturbed: the model has {there}"
        raise UserError(problem, location="setting noise_layers", hint=f"choose at most {there}")


class LatentNoise:
    """The noise of several layers, active in training mode alone.

    Args:
        places: Where it acts.
        share: Share of the rows that are perturbed.
        generator: Of the rows' seeds [default: torch's global one, which checkpoints hold].
    """

    def __init__(self, places: Sequence[NoisePlace], share: float, generator: torch.Generator | None = None) -> None:
        self.layers = torch.nn.ModuleList(NoiseLayer(place.width) for place in places)
        self._places, self._share, self._generator = places, share, generator
        self._mask: torch.Tensor | None = None
        self._seeds: list[int] = []
        self._spans: list[tuple[int, int]] = []
        self.masks: dict[int, list[torch.Tensor]] = {}
        """Of the last forward pass: for each layer, the mask (tokens,) of each row's real tokens."""

    def load(self, tensors: Tensors) -> None:
        """Take weights as ``tensors`` gives them, and train them no further."""
        for place, layer in zip(self._places, self.layers, strict=True):
            layer.load_state_dict({name: tensors[f"{place.mlp}.{name}"] for name in layer.state_dict()})
        self.layers.requires_grad_(False)

    def tensors(self) -> Tensors:
        """Copies of the weights on the CPU, by names that begin with the MLP's."""
        return {
            f"{place.mlp}.{name}": weight.detach().to("cpu", copy=True)
            for place, layer in zip(self._places, self.layers, strict=True)
            for name, weight in layer.state_dict().items()
        }

    def attach(self, model: InjectableModel) -> list[RemovableHandle]:
        """Perturb the MLPs' inputs in each forward pass in training mode, until all handles are removed."""
        self.layers.to(model.device)
        module, decoder = model.module, model.module.get_submodule(self._places[0].decoder)
        handles = [module.register_forward_pre_hook(self._read_mask, with_kwargs=True)]
        handles.append(decoder.register_forward_pre_hook(self._start, with_kwargs=True))
        for number, place in enumerate(self._places):
            handles.append(module.get_submodule(place.mlp).register_forward_pre_hook(self._perturb(number)))
        return handles

    def _read_mask(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep which tokens are real; the decoder itself may be given a mask of another form."""
        self._mask = _token_mask(kwargs)

    def _start(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Draw the rows' seeds before the first layer, so that a layer that is computed again has the same."""
        if not module.training:
            return
        mask = _token_mask(kwargs)
        mask = self._mask if mask is None else mask
        given = (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args)
        rows, tokens = next(each for each in given if isinstance(each, torch.Tensor)).shape[:2]
        self._seeds = torch.randint(SEEDS, (rows,), generator=self._generator).tolist()
        self._mask = None
        if mask is None or mask.shape != (rows, tokens):
            self._spans = [(0, tokens)] * rows
            return
        starts, lengths = mask.int().argmax(1).tolist(), mask.int().sum(1).tolist()
        self._spans = [(start, start + length) for start, length in zip(starts, lengths, strict=True)]

    def _perturb(self, number: int) -> Callable[[torch.nn.Module, Any], Any]:
        def hook(module: torch.nn.Module, inputs: Any) -> Any:
            if not module.training:
                return None
            hidden = inputs[0]
            chosen = [seed < self._share * SEEDS for seed in self._seeds]
            if not any(chosen):
                return None
            normal = torch.zeros(hidden.shape, device=hidden.device)
            uniform = torch.full((*hidden.shape[:2], 1), 0.5, device=hidden.device)
            for row, (seed, (start, stop)) in enumerate(zip(self._seeds, self._spans, strict=True)):
                draw = torch.Generator(hidden.device).manual_seed(seed + number)
                normal[row, start:stop].normal_(generator=draw)
                uniform[row, start:stop].uniform_(generator=draw)
            factor, mask = self.layers[number](hidden, normal, uniform)
            self.masks[number] = [mask[row, start:stop, 0] for row, (start, stop) in enumerate(self._spans)]
            kept = torch.tensor(chosen, device=hidden.device)[:, None, None]
            return (hidden * torch.where(kept, factor, 1.0).to(hidden.dtype), *inputs[1:])

        return hook


def _token_mask(kwargs: dict[str, Any]) -> torch.Tensor | None:
    """(rows, tokens), 1 for real tokens, from the arguments of a forward pass; None if it has another form."""
    mask = kwargs.get("attention_mask")
    return mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None


def symmetric_divergence(
    mean: torch.Tensor, deviation: torch.Tensor, target_mean: torch.Tensor, target_deviation: torch.Tensor
) -> torch.Tensor:
    """(KL(p || q) + KL(q || p)) / 2 of normal distributions, one value for each entry.

    A deviation of p below 0.1 counts as 0.1; where that of q is below, it counts as equal to that of p.
    """
    p = deviation.clamp(min=SMALLEST_DEVIATION)
    q = torch.where(target_deviation < SMALLEST_DEVIATION, p.detach(), target_deviation)
    squared = (mean - target_mean).square()
    return ((p.square() + squared) / q.square() + (q.square() + squared) / p.square()) / 4 - 0.5


def fit_noise(
    model: InjectableModel, samples: Sequence[Paraphrased], count: int, epochs: int, rate: float, mask_share: float
) -> Tensors:
    """Learn noise under which the hidden states of a text are distributed as those of its paraphrases.

    Compared are the outputs of the second half of the decoder layers at the end of the answer. The loss is the sum of
    the divergences over these layers, and how far the number of tokens that the mask passes is from its share.

    Args:
        model: The untouched base, which stays as it is.
        samples: What is learned from.
        count: How many of the first layers are perturbed.
        epochs: Passes over the samples.
        rate: Peak learning rate of AdamW, which falls along a cosine.
        mask_share: Share of the tokens that the mask should pass.

    Returns:
        The noise's weights, and the mean ``divergence`` of each epoch.

    Raises:
        UserError: The training diverged.
    """
    places = noise_places(model, count)
    noise = LatentNoise(places, 1.0, seeded_generator("noise/rows"))
    for name, weight in noise.layers.named_parameters():
        bound = places[int(name.split(".")[0])].width ** -0.5
        torch.nn.init.uniform_(weight, -bound, bound, seeded_generator(f"noise/{name}"))
    layers = [layer for layer, _ in decoder_layers(model)]
    compared, training = layers[len(layers) // 2 :], model.module.training
    targets = [_distribution(model, each.paraphrases, compared) for each in samples]
    noise.layers.to(model.device)
    optimizer = torch.optim.AdamW(noise.layers.parameters(), lr=rate, weight_decay=0.0)
    steps = epochs * math.ceil(len(samples) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    divergences, order = [], random.Random(torch.initial_seed())
    handles = noise.attach(model)
    try:
        model.module.train()
        for _ in range(epochs):
            total = 0.0
            shuffled = order.sample(range(len(samples)), len(samples))
            for start in range(0, len(samples), BATCH):
                chosen = shuffled[start : start + BATCH]
                for number in chosen:
                    divergence, excess = _losses(model, noise, samples[number], targets[number], compared, mask_share)
                    torch.autograd.backward((divergence + excess) / len(chosen))
                    total += float(divergence.detach())
                norm = torch.nn.utils.clip_grad_norm_(noise.layers.parameters(), 1.0)
                if not torch.isfinite(norm):
                    raise UserError("the noise's training diverged", location="setting noise_rate", hint="lower it")
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            divergences.append(total / len(samples))
    finally:
        for handle in handles:
            handle.remove()
        model.module.train(training)
    return {**noise.tensors(), DIVERGENCE: torch.tensor(divergences)}


def _distribution(
    model: InjectableModel, paraphrases: Sequence[Conversation], layers: Sequence[torch.nn.Module]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (layers, d) of the untouched base's hidden states, on the CPU."""
    with eval_no_grad(model):
        states = _end_states(model, model.training_batch(paraphrases), layers)
    return states.mean(1).cpu(), states.std(1).cpu()


def _losses(
    model: InjectableModel,
    noise: LatentNoise,
    sample: Paraphrased,
    target: tuple[torch.Tensor, torch.Tensor],
    layers: Sequence[torch.nn.Module],
    mask_share: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The divergence of one sample, summed over layers and averaged over entries, and the masks' excess in tokens."""
    states = _end_states(model, model.training_batch([sample.original] * DRAWS), layers)
    mean, deviation = (part.to(states.device) for part in target)
    divergence = symmetric_divergence(states.mean(1), states.std(1), mean, deviation).mean(-1).sum()
    masks = [mask for of_layer in noise.masks.values() for mask in of_layer]
    excess = torch.stack([(mask.sum() - mask_share * len(mask)).abs() for mask in masks]).mean()
    return divergence, excess


def _end_states(model: InjectableModel, batch: Batch, layers: Sequence[torch.nn.Module]) -> torch.Tensor:
    """(layers, rows, d) float32: the layers' outputs where the token after the answer is predicted."""
    labels = batch["labels"]
    columns = torch.arange(labels.shape[1], device=labels.device)
    last = torch.where(labels != -100, columns, 0).amax(1)
    end = torch.where(columns == last[:, None], labels, -100)
    with layer_outputs(layers) as seen:
        model.supervised(batch.replace(labels=end))
    rows = torch.arange(len(labels), device=labels.device)
    return torch.stack([states[rows, last - 1] for states in seen]).float()
