"""The checks of what methods change and measure in a model: its layers, its projector, the inputs of its decoder."""

from __future__ import annotations

import re

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from harness.conformance.errors import CheckFailed, NotApplicable
from harness.conformance.model_comparison import TOLERANCE, gap_of, kept_ids, require_same
from harness.conformance.model_samples import TALL, WIDE
from harness.conformance.model_scenarios import ModelScenarios
from harness.conformance.registry import model_check, require
from methods.components.lora_layers import TRAINED, attach_lora, detach_adapter, lora_ab, lora_layers
from methods.interfaces import AdapterSettings

SETTINGS = AdapterSettings(rank=2, alpha=4, dropout=0.0, projector_learning_rate=1e-3)
_NAMED = 3


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


@model_check(
    reason="Adapters on a part of the decoder learn less, and every method of the comparison with them.",
    hint="Match every linear layer of the decoder's layers, also those of experts and of linear attention.",
)
def check_targets(scenarios: ModelScenarios) -> None:
    """The pattern of adapted layers matches every linear layer of the decoder's layers and nothing else."""
    try:
        pattern = re.compile(scenarios.model.linear_targets)
    except UserError as error:
        raise CheckFailed(f"{error.message} ({error.location})") from error
    hit = {name for name, _ in scenarios.model.module.named_modules() if pattern.fullmatch(name)}
    plain = scenarios.plain
    if plain.structure is None:
        raise NotApplicable("the model's parts are not where transformers puts them")
    left_out = [*sorted(plain.linears - hit), *plain.structure.left_out]
    require(not left_out, f"adapters would leave out {_some(left_out)}")
    require(hit == plain.linears, f"adapters would change {_some(sorted(hit - plain.linears))}")


@model_check(
    reason="The projector is trained beside the adapters, with a learning rate of its own; encoders stay frozen.",
    hint="Name what lies between the vision tower and the language model, and what is below the encoders.",
)
def check_projector(scenarios: ModelScenarios) -> None:
    """The projector's weights matter where there is a picture; they are outside of the decoder."""
    model = scenarios.model
    weights = {name: each for name, each in model.module.named_parameters() if model.projector in name.split(".")}
    require(weights, f"no module is called {model.projector}")
    sample = scenarios.samples.get("one picture") or next(iter(scenarios.samples.values()))
    before = scenarios.logits(sample)
    inside = [
        name for name in weights if scenarios.plain.structure and name.startswith(scenarios.plain.structure.decoder)
    ]
    require(not inside, f"{model.projector} is a part of the decoder: {_some(inside)}")
    saved = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(1.5).add_(0.1)
        try:
            after = scenarios.logits(sample)
        finally:
            for name, weight in weights.items():
                weight.copy_(saved[name])
    require(gap_of(after, before) > 0, f"with other weights of {model.projector}, no logit changes")
    names = [name for name, _ in model.module.named_parameters() if model.towers & set(name.split("."))]
    require(any(model.projector not in name.split(".") for name in names), "no weight belongs to an encoder (towers)")


@model_check(
    reason="One base serves many methods, one after the other.",
    hint="Hold no reference to layers that a method replaces; look them up in the module at each call.",
)
def check_adapter(scenarios: ModelScenarios) -> None:
    """An adapter changes logits and text when it is attached, gets gradients in every layer, and leaves no trace."""
    model, names = scenarios.model, list(scenarios.samples.values())
    dialogues = list(scenarios.prompts.values())[:2]
    before, fingerprint = scenarios.logits(*names), model.fingerprint()
    scenarios.call("attach", lambda: attach_lora(model, SETTINGS))
    try:
        require(not model.vision_is_trained, "with an adapter attached, the encoder is said to be trained")
        require(gap_of(scenarios.logits(*names), before) <= 1e-5, "an adapter of zeros changes logits")
        logits, targets = scenarios.call("supervised", lambda: model.supervised(model.training_batch(names)))
        require(logits.requires_grad, "no gradient reaches the adapters: the logits do not depend on them")
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits, targets))
        still = [name for name, layer in lora_layers(model.module) if lora_ab(layer)[1].grad is None]
        require(not still, f"no gradient reaches the adapters of {_some(still)}")
        idle = [name for name, each in model.module.named_parameters() if each.requires_grad and TRAINED not in name]
        require(not idle, f"trained besides the adapter: {_some(idle)}")
        text = scenarios.answers(dialogues, 4)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _, layer in lora_layers(model.module):
                weight = lora_ab(layer)[1]
                weight.copy_(2 * torch.randn(weight.shape, generator=draw))
        require(gap_of(scenarios.logits(*names), before) > 0, "an attached adapter changes no logit")
        require(scenarios.answers(dialogues, 4) != text, "an attached adapter changes no answer")
    finally:
        detach_adapter(model)
        model.module.zero_grad(set_to_none=True)
    require(torch.equal(scenarios.logits(*names), before), "after the adapter was detached, logits differ")
    require(model.fingerprint() == fingerprint, "after the adapter was detached, a weight differs")


@model_check(
    reason="Some methods measure the inputs of the decoder's layers on prompts.",
    hint="Give first user turns without answers, padded on the right, as the model's forward takes them.",
)
def check_calibration(scenarios: ModelScenarios) -> None:
    """Prompts for calibration have the ids of the plain call, and the model's forward takes them."""
    names = [name for name in scenarios.samples if f"{name}, turn 1" in scenarios.plain.prompt_ids]
    some = [scenarios.samples[name] for name in names]
    if any(sample.turns[0].text.count(IMAGE) == 0 for sample in some) and len(some) == 1:
        raise NotApplicable("the model takes no pictures")
    batch = scenarios.call("prompt_batch", lambda: scenarios.model.prompt_batch(some))
    rows = [kept_ids(*pair) for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    require_same([scenarios.plain.prompt_ids[f"{name}, turn 1"] for name in names], rows, "calibration")
    require(bool(batch["attention_mask"][:, 0].all()), "prompts for calibration are padded on the left")
    with torch.no_grad():
        scenarios.call("forward", lambda: scenarios.model.module(**batch, use_cache=False))


@model_check(
    reason="Results are stored under the digest of the weights; a digest that misses a change serves stale ones.",
    hint="Do not change weights while answering, and do not override fingerprint without need.",
)
def check_fingerprint(scenarios: ModelScenarios) -> None:
    """Training batches and answers change no weight, and the fingerprint notices any change of one."""
    model = scenarios.model
    before, weights = model.fingerprint(), {name: each.clone() for name, each in model.module.state_dict().items()}
    scenarios.logits(*scenarios.samples.values())
    scenarios.answers(list(scenarios.prompts.values())[:2], 2)
    changed = [name for name, each in model.module.state_dict().items() if not torch.equal(each, weights[name])]
    require(not changed, f"computing changes {_some(changed)}")
    require(model.fingerprint() == before, "the fingerprint changes without a change of weights")
    name, weight = next(iter(model.module.named_parameters()))
    saved = weight.detach().clone()
    with torch.no_grad():
        weight.view(-1)[0] += 1.0
        after = model.fingerprint()
        weight.copy_(saved)
    require(after != before, f"the fingerprint does not notice that {name} was changed")


@model_check(
    reason="Some methods look for similar pictures by the features of the model's own tower.",
    hint="Average what the projector reads of each picture, one picture at a time.",
)
def check_picture_features(scenarios: ModelScenarios) -> None:
    """Each picture has a vector of its own, which does not depend on the other pictures."""
    if "one picture" not in scenarios.samples:
        raise NotApplicable("the model takes no pictures")
    model, pictures = scenarios.model, [WIDE, TALL]
    with torch.inference_mode():
        both = scenarios.call("picture_features", lambda: model.picture_features(pictures))
        alone = scenarios.call("picture_features", lambda: model.picture_features([TALL]))
    require(both.dim() == 2 and len(both) == len(pictures), f"two pictures give features of {tuple(both.shape)}")
    require(bool(torch.isfinite(both).all()), "a feature is not finite")
    require(gap_of(both[0], both[1]) > TOLERANCE, "two pictures have the same features")
    require(gap_of(both[1], alone[0]) <= TOLERANCE, "the features of a picture depend on the others")
