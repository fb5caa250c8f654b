"""Checks of the model before the first step: what is attached, and what will be trained."""

from __future__ import annotations

from harness.conformance.errors import NotApplicable
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from methods.components.lora_layers import target_layers
from methods.interfaces import TargetedSettings
from methods.targets import choose


@check(
    reason="All methods start from the same model, so that they differ only in what they learn.",
    hint="Initialise B with zeros, or subtract what the initial values add.",
    training=True,
)
def check_attach_keeps_logits(scenarios: Scenarios) -> None:
    """Attaching changes no logit beyond rounding."""
    state = scenarios.attach_state
    gap = float((state.start_logits - state.base_logits).abs().max())
    require(gap <= 1e-4, f"attaching changes logits by up to {gap:.3g}")


@check(
    reason="A row that trains nothing answers as attach leaves it; unchanged, it is the base under another name.",
    hint="Let attach write what it computed into the adapter, or remove trains = False.",
)
def check_attach_changes_logits(scenarios: Scenarios) -> None:
    """If nothing is trained and the questions are asked as they are, attaching changes the logits."""
    if scenarios.subject.method.trains:
        raise NotApplicable("it is trained")
    if scenarios.lifecycle.method.overrides("ask"):
        raise NotApplicable("it asks the questions in another way")
    state = scenarios.attach_state
    gap = float((state.start_logits - state.base_logits).abs().max())
    require(gap > 0, "attaching changes no logit, and nothing is trained")


@check(
    reason="All methods share the base and restore it bit for bit; to undo a change would leave rounding errors.",
    hint="Add what is learned next to the base's weights instead of writing into them.",
    training=True,
)
def check_attach_keeps_weights(scenarios: Scenarios) -> None:
    """Attaching changes no weight of the base."""
    changed = scenarios.attach_state.changed_weights
    require(not changed, f"{len(changed)} weights of the base are changed, such as {changed[:1]}")


@check(
    reason="A row that trains nothing is the base under another name.",
    hint="Set requires_grad in attach, and return these parameters from parameter_groups.",
    training=True,
)
def check_parameter_groups_not_empty(scenarios: Scenarios) -> None:
    """The parameter groups contain a parameter."""
    _ = scenarios.attach_state
    groups = scenarios.lifecycle.groups
    require(any(group.get("params") for group in groups), "parameter_groups gives no parameter")


@check(
    reason="The optimiser must train exactly the parameters with gradients; else memory or learning is lost.",
    hint="In parameter_groups, iterate over named_parameters and take each parameter with requires_grad once.",
    training=True,
)
def check_parameter_groups_complete(scenarios: Scenarios) -> None:
    """The groups contain each parameter that requires gradients, once."""
    trainable = scenarios.attach_state.trainable_names
    given = [id(parameter) for group in scenarios.lifecycle.groups for parameter in group.get("params", ())]
    require(len(set(given)) == len(given), f"{len(given) - len(set(given))} parameters are given twice")
    missing = [name for parameter, name in trainable.items() if parameter not in given]
    require(not missing, f"{len(missing)} parameters have requires_grad but no group, such as {missing[:1]}")
    frozen = len(set(given) - trainable.keys())
    require(not frozen, f"{frozen} parameters are in a group but have no requires_grad, or are not in the model")


@check(
    reason="The training loop reads peak rate, weight decay and names from the groups; checkpoints use the names.",
    hint="Give each group params, names (as in named_parameters, in the same order), lr > 0 and weight_decay.",
    training=True,
)
def check_parameter_group_keys(scenarios: Scenarios) -> None:
    """Each group has all keys, and each parameter its name."""
    names_by_id = scenarios.attach_state.parameter_names
    for group in scenarios.lifecycle.groups:
        missing = {"params", "names", "lr", "weight_decay"} - group.keys()
        require(not missing, f"a group has no {', '.join(sorted(missing))}")
        require(group["lr"] > 0, f"a group has the learning rate {group['lr']}")
        names = [
            names_by_id.get(id(parameter), "a parameter that is not in the model") for parameter in group["params"]
        ]
        require(list(group["names"]) == names, f"a group calls {names[:1]} {list(group['names'])[:1]}")


@check(
    reason="The vision tower is frozen in all published methods, and its features are cached.",
    hint="Narrow the pattern of adapted layers: the vision tower has a q_proj, too.",
    training=True,
)
def check_vision_tower_frozen(scenarios: Scenarios) -> None:
    """No parameter of the vision tower is trained."""
    names_by_id, lifecycle = scenarios.attach_state.parameter_names, scenarios.lifecycle
    given = [names_by_id.get(id(each), "") for group in lifecycle.groups for each in group.get("params", ())]
    towers, projector = lifecycle.model.towers, lifecycle.model.projector
    names = [name for name in given if towers & set(name.split(".")) and projector not in name]
    require(not names, f"{len(names)} parameters of the vision tower are trained, such as {names[:1]}")


@check(
    reason="Who asks which layers matter must know that no others learn, and that these do.",
    hint="Pass self.settings to attach_lora, and self.settings.targets to target_layers where statistics are computed.",
    training=True,
)
def check_targets_kept(scenarios: Scenarios) -> None:
    """With ``targets`` narrowed to the last decoder layer, its linear layers are trained and no others."""
    if not isinstance(scenarios.lifecycle.method.settings, TargetedSettings):
        raise NotApplicable("it has no setting targets")
    run = scenarios.narrowed_run
    layers = tuple(target_layers(run.model))
    wanted, names = set(choose(layers, "last-1")), run.trained_parameters()
    trained = {layer for layer in layers if any(name.startswith(f"{layer}.") for name in names)}
    outside = sorted(trained - wanted)
    require(not outside, f"{len(outside)} other layers are trained, such as {outside[:1]}")
    missing = sorted(wanted - trained)
    require(not missing, f"{len(missing)} of the {len(wanted)} layers are not trained, such as {missing[:1]}")


@check(
    reason="In half precision, small updates are rounded away; in bfloat16 most of the learning can be lost.",
    hint="Make trained parameters float32 even if the base is in half precision.",
    training=True,
)
def check_trained_parameters_float32(scenarios: Scenarios) -> None:
    """On a base in half precision, the trained parameters have a wider type."""
    lifecycle, _ = scenarios.half_precision
    parameters = lifecycle.trained_parameters()
    narrow = [name for name, parameter in parameters.items() if parameter.dtype.itemsize < 4]
    require(not narrow, f"{len(narrow)} trained parameters are in half precision, such as {narrow[:1]}")


@check(
    reason="Large models are loaded in half precision.",
    hint="Do not assume a type of weights or activations in a hook; cast to float32 where it matters.",
)
def check_half_precision(scenarios: Scenarios) -> None:
    """A step on a base in half precision starts at about the same loss."""
    scenarios.attempt("half_precision")
    crash = scenarios.crashes.get("half_precision")
    require(crash is None, f"on a base in half precision {crash}")
    _, steps = scenarios.half_precision
    if not steps:  # nothing is trained
        return
    half, full = steps[0].loss, scenarios.train_state.steps[0].loss
    require(abs(half - full) < 0.1 * full, f"the first loss is {half:.3f} in bfloat16, {full:.3f} in float32")


@check(
    reason="One base serves many cells, one after the other.",
    hint="Keep no state on the model or the class that a later attach would find.",
)
def check_attach_after_detach(scenarios: Scenarios) -> None:
    """Attached again after ``detach``, the model starts as it did the first time."""
    gap = float((scenarios.detach_state.logits_attached_again - scenarios.attach_state.start_logits).abs().max())
    require(gap == 0, f"attached a second time, logits differ by up to {gap:.3g}")


@check(
    reason="Other cells run in the same process.",
    hint="Do not change the environment, the working directory, threads or torch's settings, or restore them.",
)
def check_process_state(scenarios: Scenarios) -> None:
    """The hooks change nothing in the process but the model."""
    changes = scenarios.attach_state.process_changes
    require(not changes, f"it changes {', '.join(changes)}")
