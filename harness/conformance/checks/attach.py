"""Checks of the moment before the first step: what is attached, what will be trained."""

from __future__ import annotations

from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from methods.components.lora_layers import VISION


@check(
    "start-equals-base",
    reason="All methods begin at the same model, so that differences are what they learnt.",
    hint="Start B at zero, or take off again what the first values add.",
)
def start_equals_base(seen: Scenarios) -> None:
    """Attaching changes no logit (beyond rounding)."""
    begun = seen.begun
    gap = float((begun.start_logits - begun.base_logits).abs().max())
    require(gap <= 1e-4, f"attaching changes logits by up to {gap:.3g}")


@check(
    "attach-leaves-weights",
    reason="The base is shared by all methods and put back bit for bit, which rounding forbids once it is changed.",
    hint="Add what is learnt beside the base's weights instead of writing into them.",
)
def attach_leaves_weights(seen: Scenarios) -> None:
    """No weight of the base is written to."""
    moved = seen.begun.moved
    require(not moved, f"{len(moved)} weights of the base are changed, such as {moved[:1]}")


@check(
    "trains-something",
    reason="A row that trains nothing is the untouched base under another name.",
    hint="Set requires_grad in attach, and give these parameters in parameter_groups.",
)
def trains_something(seen: Scenarios) -> None:
    """At least one parameter is declared."""
    _ = seen.begun
    require(any(group.get("params") for group in seen.life.groups), "parameter_groups gives no parameter")


@check(
    "groups-exact",
    reason="What has gradients is what the optimiser moves, no more and no less; otherwise memory or learning is lost.",
    hint="Let parameter_groups walk over named_parameters and take those with requires_grad, each once.",
)
def groups_exact(seen: Scenarios) -> None:
    """The groups hold each parameter that requires gradients, once."""
    flagged = seen.begun.flagged
    given = [id(parameter) for group in seen.life.groups for parameter in group.get("params", ())]
    require(len(set(given)) == len(given), f"{len(given) - len(set(given))} parameters are given twice")
    left_out = [name for each, name in flagged.items() if each not in given]
    require(not left_out, f"{len(left_out)} parameters have requires_grad but no group, such as {left_out[:1]}")
    frozen = len(set(given) - flagged.keys())
    require(not frozen, f"{frozen} parameters are in a group but have no requires_grad, or are not in the model")


@check(
    "groups-complete",
    reason="The training core takes peak rate, weight decay and names from the groups; checkpoints go by the names.",
    hint="Give params, names (as in named_parameters, in the same order), lr > 0 and weight_decay in each group.",
)
def groups_complete(seen: Scenarios) -> None:
    """Each group has its keys, and each parameter its own name."""
    own = seen.begun.names
    for group in seen.life.groups:
        lacking = {"params", "names", "lr", "weight_decay"} - group.keys()
        require(not lacking, f"a group has no {', '.join(sorted(lacking))}")
        require(group["lr"] > 0, f"a group has the learning rate {group['lr']}")
        names = [own.get(id(parameter), "a parameter that is not in the model") for parameter in group["params"]]
        require(list(group["names"]) == names, f"a group calls {names[:1]} {list(group['names'])[:1]}")


@check(
    "vision-frozen",
    reason="The vision tower is frozen in every method of the field, and its features are cached.",
    hint="Narrow the pattern of what is adapted: q_proj is a name in the vision tower, too.",
)
def vision_frozen(seen: Scenarios) -> None:
    """No parameter of the vision tower is trained."""
    names, projector = seen.begun.names, seen.life.model.projector
    given = [names.get(id(each), "") for group in seen.life.groups for each in group.get("params", ())]
    found = [name for name in given if VISION & set(name.split(".")) and projector not in name]
    require(not found, f"{len(found)} parameters of the vision tower are trained, such as {found[:1]}")


@check(
    "trained-in-float32",
    reason="In half precision small updates round away: with bfloat16 most of the learning can be lost.",
    hint="Make what is trained float32 at least, also where the base is in half precision.",
)
def trained_in_float32(seen: Scenarios) -> None:
    """On a base in half precision, what is trained is wider."""
    life, _ = seen.half
    narrow = [name for name, parameter in life.learnt().items() if parameter.dtype.itemsize < 4]
    require(not narrow, f"{len(narrow)} trained parameters are in half precision, such as {narrow[:1]}")


@check(
    "half-precision-runs",
    reason="Large models are kept in half precision.",
    hint="Let no hook depend on the type of weights or activations; cast to float32 where it matters.",
)
def half_precision_runs(seen: Scenarios) -> None:
    """A step on a base in half precision begins at about the same loss."""
    seen.tried("half")
    crash = seen.crashes.get("half")
    require(crash is None, f"on a base in half precision {crash}")
    _, steps = seen.half
    found, wanted = steps[0].loss, seen.fitted.steps[0].loss
    require(abs(found - wanted) < 0.1 * wanted, f"the first loss is {found:.3f} in bfloat16, {wanted:.3f} in float32")


@check(
    "attach-again",
    reason="One base serves many cells, one after the other.",
    hint="Keep nothing on the model or on the class that a later attach would find.",
)
def attach_again(seen: Scenarios) -> None:
    """Attached once more after detach, the model starts as it did the first time."""
    gap = float((seen.detached.again - seen.begun.start_logits).abs().max())
    require(gap == 0, f"attached a second time, logits differ by up to {gap:.3g}")


@check(
    "process-untouched",
    reason="Other cells run in the same process.",
    hint="Leave the environment, the working directory, threads and torch's settings alone, or put them back.",
)
def process_untouched(seen: Scenarios) -> None:
    """The hooks change nothing beside the model."""
    touched = seen.begun.process
    require(not touched, f"it changes {', '.join(touched)}")
