"""Broken methods, continued: training, penalty, export, isolation, stages."""

from __future__ import annotations

import dataclasses
import random

from helpers.broken_methods import Sound, Tower, breaks
from methods.base import AdapterSettings, Coefficient, setting


class Hooked(Sound):
    """Registers a forward hook on a module while the adapter is attached."""

    module_name = "layers.0"
    _handle = None

    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._register(model)

    def restore(self, model, tensors):
        super().restore(model, tensors)
        self._register(model)

    def detach(self, model):
        super().detach(model)
        if self._handle is not None:
            self._handle.remove()

    def _register(self, model):
        self._b = self._parameters(model)[0]
        suffix = f"language_model.{self.module_name}"
        (module,) = [each for name, each in model.module.named_modules() if name.endswith(suffix)]
        self._handle = module.register_forward_hook(self._hook)


# Training.


@breaks("check_loss_decreases")
class Unlearns(Sound):
    def penalty(self, model, batch, logits):
        from torch.nn.functional import cross_entropy

        targets = batch["labels"][:, 1:]
        return -2 * cross_entropy(logits, targets[targets != -100])


@breaks("check_frozen_weights_unchanged")
class Creeps(Tower):
    _handle = None

    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._handle = model.module.model.language_model.register_forward_pre_hook(self._creep)

    def detach(self, model):
        super().detach(model)
        if self._handle is not None:
            self._handle.remove()

    def _creep(self, module, inputs):
        if module.training:
            self._norm.data.add_(1)


@breaks("check_trained_parameters_change")
class DeadWeight(Sound):
    def attach(self, model, prepared):
        import torch

        super().attach(model, prepared)
        model.module.register_parameter("idle", torch.nn.Parameter(torch.ones(1)))

    def detach(self, model):
        if hasattr(model.module, "idle"):
            del model.module.idle
        super().detach(model)


@breaks("check_same_seed")
class Dice(Sound):
    def attach(self, model, prepared):
        import torch

        super().attach(model, prepared)
        dice = torch.Generator().manual_seed(random.SystemRandom().randrange(2**31))
        for parameter in self._parameters(model, "lora_A"):
            parameter.data.normal_(generator=dice)


@breaks("check_loss_sum_and_tokens")
class Means(Sound):
    def loss(self, model, batch, logits, targets):
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets)


@breaks("check_loss_adds_up")
class EmptyMeans(Sound):
    # Not a number without a token: only an uneven share of several processes would show it in a training.
    def loss(self, model, batch, logits, targets):
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets) * len(targets), len(targets)


@breaks("check_loss_keeps_model")
class LossSwitches(Sound):
    def loss(self, model, batch, logits, targets):
        model.module.eval()
        return super().loss(model, batch, logits, targets)


@breaks("check_gradient_accumulation")
class Sums(Sound):
    def penalty(self, model, batch, logits):
        return 1e-3 * logits.square().sum()


@breaks("check_gradient_checkpointing")
class CountsPasses(Hooked):
    module_name = "layers.0.self_attn.q_proj"

    def attach(self, model, prepared):
        self._passes = []
        super().attach(model, prepared)

    def restore(self, model, tensors):
        self._passes = []
        super().restore(model, tensors)

    def penalty(self, model, batch, logits):
        count = len(self._passes)
        self._passes.clear()
        return 0.1 * count * self._size(model)

    def _hook(self, module, inputs, output):
        if module.training:
            self._passes.append(1)


@breaks("check_padding_amount")
class CountsColumns(Sound):
    def penalty(self, model, batch, logits):
        return 0.1 * -(-batch["input_ids"].shape[1] // 100) * self._size(model)


@breaks("check_padding_side")
class FirstColumn(Sound):
    def penalty(self, model, batch, logits):
        return 0.1 * batch["attention_mask"][:, 0].float().mean() * self._size(model)


@breaks("check_batch_invariance")
class Mixes(Hooked):
    def _hook(self, module, inputs, output):
        return None if module.training else output + self._b.abs().mean() * (output.mean(0, keepdim=True) - output)


@breaks("check_resume")
class Anchored(Sound):
    _first = None

    def penalty(self, model, batch, logits):
        b = self._parameters(model)[0]
        if self._first is None and b.abs().sum() > 0:
            self._first = b.detach().clone()
        return 10 * (b - (b.detach() if self._first is None else self._first)).square().sum()


@breaks("check_memory_constant")
class Hoards(Sound):
    def penalty(self, model, batch, logits):
        self._seen = [*getattr(self, "_seen", ()), logits.detach()]


# Penalty.


@breaks("check_penalty_scalar")
class OneNumber(Sound):
    def penalty(self, model, batch, logits):
        return 0.1 * self._size(model).reshape(1)


@breaks("check_penalty_finite")
class NotANumber(Sound):
    def penalty(self, model, batch, logits):
        return self._size(model) / self._size(model)


@breaks("check_penalty_keeps_model")
class Switches(Sound):
    def penalty(self, model, batch, logits):
        model.module.eval()


@dataclasses.dataclass(frozen=True)
class Strength(AdapterSettings):
    strength: float = setting(0.1, "how much", source="ours")


@breaks("check_coefficient_zero_is_lora")
class NeverOff(Sound):
    Settings = Strength
    coefficient = Coefficient("strength", (0.01, 0.1, 1.0))

    def penalty(self, model, batch, logits):
        return (self.settings.strength + 1) * self._size(model)


# After a step.


@breaks("check_step_state_tensors")
class KeepsAlias(Sound):
    def after_step(self, model, step, state):
        return {"last": self._parameters(model)[0].detach()}


@breaks("check_step_hook_keeps_model")
class StepSwitches(Sound):
    def after_step(self, model, step, state):
        model.module.eval()
        return state


@breaks("check_step_hook_deterministic")
class Shakes(Sound):
    def after_step(self, model, step, state):
        import torch

        for parameter in self._parameters(model):
            parameter.mul_(1 + 1e-3 * torch.rand(()))
        return state


# Export.


@breaks("check_export_tensors")
class Notes(Sound):
    def export(self, model):
        return {**super().export(model), "steps": 4}


@breaks("check_export_copies")
class Lends(Sound):
    def export(self, model):
        from methods.components.lora_layers import lora_ab, lora_layers

        live = {f"{name}.lora_B.weight": lora_ab(layer)[1].detach() for name, layer in lora_layers(model.module)}
        return {**super().export(model), **live}


@breaks("check_export_idempotent")
class Wears(Sound):
    def export(self, model):
        exported = super().export(model)
        for parameter in self._parameters(model):
            parameter.data.mul_(1.01)
        return exported


@breaks("check_restore_reproduces_logits")
class Misscales(Sound):
    def restore(self, model, tensors):
        from methods.components.lora_layers import lora_layers

        super().restore(model, tensors)
        for _, layer in lora_layers(model.module):
            layer.scaling["default"] *= 1.1


@breaks("check_scaled_update")
class Halves(Sound):
    def scale_update(self, model, exported, factor):
        return super().scale_update(model, exported, factor / 2)


@breaks("check_restore_export_round_trip")
class Forgets(Sound):
    _trained = False

    def attach(self, model, prepared):
        self._trained = True
        super().attach(model, prepared)

    def load_previous_stage(self, model, earlier):
        super().load_previous_stage(model, {name: tensor for name, tensor in earlier.items() if name != "note"})

    def export(self, model):
        import torch

        return {**super().export(model), **({"note": torch.ones(1)} if self._trained else {})}

    def restore(self, model, tensors):
        super().restore(model, {name: tensor for name, tensor in tensors.items() if name != "note"})


@breaks("check_restore_rejects_unknown_tensor")
class Lenient(Sound):
    def restore(self, model, tensors):
        super().restore(model, {name: tensor for name, tensor in tensors.items() if "another" not in name})


@breaks("check_detach_after_restore")
class LeavesHook(Sound):
    def restore(self, model, tensors):
        super().restore(model, tensors)
        model.module.register_forward_hook(lambda *_: None)


@breaks("check_detach_after_training")
class LeavesHookToo(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        model.module.register_forward_hook(lambda *_: None)


@breaks("check_detach_twice")
class OnlyOnce(Sound):
    _gone = False

    def detach(self, model):
        if self._gone:
            raise RuntimeError("there is nothing to detach")
        self._gone = True
        super().detach(model)


@breaks("check_mergeable")
class Bends(Hooked):
    module_name = "layers.0.mlp.up_proj"

    def _hook(self, module, inputs, output):
        return output + 10 * self._b.abs().mean() * output.tanh()


# Asking.


class Asks(Sound):
    trains = False

    def ask(self, question, resources):
        return dataclasses.replace(question, turns=(f"Hint. {question.turns[0]}", *question.turns[1:]))


@breaks("check_ask_keeps_question")
class Lengthens(Asks):
    def ask(self, question, resources):
        return dataclasses.replace(super().ask(question, resources), max_new_tokens=10 * question.max_new_tokens)


@breaks("check_ask_deterministic")
class Counts(Asks):
    _count = 0

    def ask(self, question, resources):
        self._count += 1
        return dataclasses.replace(question, turns=(f"{self._count}. {question.turns[0]}", *question.turns[1:]))


@breaks("check_ask_changes_question")
class AsksTheSame(Asks):
    def ask(self, question, resources):
        return question


# Isolation.


@breaks("check_adapters_swap")
class Lingers(Sound):
    def restore(self, model, tensors):
        super().restore(model, tensors)
        last, now = vars(model.module).get("_last"), self._parameters(model)[0]
        vars(model.module)["_last"] = now.detach().clone()
        if last is not None:
            now.data.add_(last)


@breaks("check_instances_independent")
class Shares(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        type(self).shared = self._parameters(model, "lora_A")

    def penalty(self, model, batch, logits):
        return 1e-3 * sum(parameter.square().sum() for parameter in self.shared)


@breaks("check_no_hook_raises")
class Fails(Sound):
    def export_stage_state(self, model):
        raise ValueError("no")


# Stages.


@breaks("check_load_previous_stage")
class StartsOver(Sound):
    def load_previous_stage(self, model, earlier):
        self._earlier = earlier


@breaks("check_restore_second_stage")
class Rescales(Sound):
    def load_previous_stage(self, model, earlier):
        from methods.components.lora_layers import lora_layers

        super().load_previous_stage(model, earlier)
        for parameter in self._parameters(model):
            parameter.data.div_(2)
        for _, layer in lora_layers(model.module):
            layer.scaling["default"] *= 2


@breaks("check_export_stage_state_keeps_model")
class Erases(Sound):
    def export_stage_state(self, model):
        for parameter in self._parameters(model):
            parameter.data.zero_()
        return {}


@breaks("check_stage_state_tensors")
class HandsOnANumber(Sound):
    def export_stage_state(self, model):
        return {"stages": 3}
