"""The smallest training loop that calls a method's hooks, and fake resources for one."""

from __future__ import annotations

import torch

from helpers.tiny import conversations, knowledge
from methods.base import InjectionMethod
from methods.registry import default_settings, get_method

RANK = 4


class FakeResources:
    """Pre-training samples are tiny random conversations, different for each purpose; requests are recorded."""

    def __init__(self, seed: int = 0, stage: int = 1, stage_state: dict[str, torch.Tensor] | None = None) -> None:
        self.seed, self.stage, self.stages = seed, stage, stage
        self.all_items = ()
        self.knowledge = knowledge(4)
        self.stage_state = stage_state or {}
        self.asked: list[tuple[int, str]] = []
        self.store: dict[str, dict[str, torch.Tensor]] = {}

    def pool_samples(self, count, purpose):
        self.asked.append((count, purpose))
        return [c for c in conversations(3 * count + 8, seed=len(purpose)) if len(c.pictures) == 1][:count]

    def cached(self, key, compute):
        name = repr(sorted(key.items()))
        if name not in self.store:
            self.store[name] = compute()
        return self.store[name]


def make(text: str, **changes) -> InjectionMethod:
    """A method or variant at a rank that fits the tiny model."""
    method, variant = get_method(text)
    small = {"rank": RANK, "alpha": 2.0 * RANK, "learning_rate": 1e-2, "projector_learning_rate": 1e-3}
    fields = method.Settings.__dataclass_fields__
    small |= {"calibration_samples": 24, "fisher_samples": 4, "experts": RANK, "pseudo_epochs": 2}
    small |= {"noise_layers": 1, "noise_epochs": 2}
    small |= {"copies": 1, "importance_samples": 4, "reweight_every": 2}
    if method.name == "sefe":  # tuned, because the entries of B A are larger in narrow layers
        small["coefficient"] = 25.0
    if "rank" not in fields:
        small["learning_rate"] = 1e-3
    chosen = {**small, **(default_settings(variant) if variant else {}), **changes}
    if "slices" in chosen:
        chosen["slices"] = min(chosen["slices"], RANK)
    return method(method.Settings(**{key: value for key, value in chosen.items() if key in fields}))


def attach(method, model, resources=None, seed=0):
    """Seed, prepare and attach, as a real run does."""
    torch.manual_seed(seed)
    prepared = method.prepare(model, resources or FakeResources(seed))
    torch.manual_seed(seed)
    method.attach(model, prepared)
    return prepared


def train(method, model, samples, steps=6, size=4, accumulate=1):
    """Train with AdamW on consecutive batches; returns the losses of the steps."""
    optimiser = torch.optim.AdamW(
        [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in method.parameter_groups(model)]
    )
    model.module.train()
    losses, state = [], {}
    for step in range(steps):
        chosen = [samples[(step * size + index) % len(samples)] for index in range(size)]
        parts = [chosen[start::accumulate] for start in range(accumulate)]
        batches = [model.training_batch(part) for part in parts]
        tokens = [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]
        total = 0.0
        for batch, count in zip(batches, tokens, strict=True):
            logits, targets = model.supervised(batch)
            loss = torch.nn.functional.cross_entropy(logits.float(), targets)
            penalty = method.penalty(model, batch, logits)
            if penalty is not None:
                loss = loss + penalty
            loss = loss * (count / sum(tokens))
            loss.backward()
            total += loss.item()
        optimiser.step()
        optimiser.zero_grad()
        if method.acts_after_step:
            with torch.no_grad():
                state = method.after_step(model, step, state)
        losses.append(total)
    model.module.eval()
    return losses


@torch.no_grad()
def logits_of(model, samples):
    """Logits at the supervised positions."""
    return model.supervised(model.training_batch(samples))[0].clone()


def weights_of(model):
    """A copy of every weight by name."""
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(one, other):
    """Bit for bit, names included."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
