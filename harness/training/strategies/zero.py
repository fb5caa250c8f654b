"""DeepSpeed's ZeRO: the processes share the optimiser's moments (stage 2), and the decoder's layers, too (stage 3).

What a method adds to the model stays whole in every process, and so does everything outside the decoder's layers: so
whatever a method reads of its own parameters is right. Answers are given by a model that is loaded again, whole.

DeepSpeed could hand out gradients while a backward pass still runs, but it trusts that all processes come by the same
parameters in the same order. A row without a picture passes by the projector; so gradients are handed out at the end
of a step, in a fixed order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from benchmarks.errors import UserError
from harness.config.training import TrainingSettings
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.training.checkpoint import check_fit, trained_parameters
from harness.training.strategies.ddp import DDPStrategy, Groups, can_fuse

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

BUCKET = 50_000_000
"""Gradients that are added up in one message."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter."""


class ZeroStrategy(DDPStrategy):
    """ZeRO-2: every process has all the weights, and its part of the moments.

    Args:
        crew: The processes that train together.
    """

    invalidates_model = True
    stage = 2

    def __init__(self, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        super().__init__(process_group)
        self._step, self._begun = ExitStack(), False
        """Open from a step's first backward pass until its gradients are handed out."""

    def spread(self, model: LanguageVisionModel) -> None:
        """Get DeepSpeed ready for this device; weights are spread with the optimiser.

        Raises:
            UserError: It is not installed.
        """
        self._device, self._deepspeed = model.device, deepspeed(model.device)

    def begin(self, groups: Groups, settings: TrainingSettings) -> None:
        """Make the optimiser, and leave each process its part."""
        own = [_trained(group) for group in groups]
        self._names = dict(trained_parameters(own))
        self._parameters, self._clip = list(self._names.values()), settings.clip_norm
        self.optimizer = torch.optim.AdamW(own, betas=settings.betas, eps=settings.epsilon, fused=can_fuse(own))
        self._engine, *_ = self._deepspeed.initialize(
            model=self._managed(), optimizer=self.optimizer, config=self._config()
        )
        if self.stage < 3:
            self._make_moments()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a micro-batch to what is there."""
        self._begin_step()
        self._engine.optimizer.clear_backward_seen_flag()
        self._engine.backward(loss)

    def gradient(self, tokens: float) -> float:
        """Add up the gradients of all processes, leave each its part, and clip it.

        Args:
            tokens: Supervised tokens of the step, over all processes.

        Returns:
            Its norm before clipping.
        """
        self._hand_out()
        parts = [part for parts in self._engine.optimizer.averaged_gradients.values() for part in parts]
        for part in parts:
            part.mul_(
                self.process_group.world_size / tokens
            )  # DeepSpeed has divided the sum by the number of processes
        (square,) = self.process_group.all_reduce_sum([float(sum(part.double().square().sum() for part in parts))])
        norm = math.sqrt(square)
        for part in parts:
            part.mul_(min(1.0, self._clip / (norm + 1e-6)))  # as torch's clip_grad_norm_
        return norm

    def step(self) -> None:
        """Follow the gradient, and forget it."""
        self._engine.step()

    def forget(self) -> None:
        """Forget the gradient."""
        for parameter in self._parameters:
            parameter.grad = None

    def take(self) -> dict[str, torch.Tensor]:
        """The trained parameters and the optimiser's moments, whole and on the CPU. Every process must ask.

        The leader gets them, the others nothing.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        tensors: dict[str, torch.Tensor] = {}

        def keep(key: str, tensor: torch.Tensor) -> None:
            if self.process_group.is_main_process:  # the others only help: memory for so many copies is not there
                tensors[key] = tensor.detach().to("cpu", copy=True)

        for name, parameter in self._names.items():
            keep(f"value/{name}", safe_get_full_fp32_param(parameter))
            keep(f"step/{name}", next(iter(self.optimizer.state.values()))["step"])
            for kind in MOMENTS:
                keep(f"{kind}/{name}", safe_get_full_optimizer_state(parameter, kind))
        return tensors

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Undo everything since ``take``.

        Raises:
            UserError: The tensors belong to another model or method.
        """
        check_fit({name: _shape(parameter) for name, parameter in self._names.items()}, tensors)
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "step":
                for state in self.optimizer.state.values():
                    state["step"].copy_(tensor)
            else:
                self._set(self._names[name], tensor.to(self._device), "" if kind == "value" else kind)
        self._put_in_place()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every process sees all weights as they are now. What trained them is gone by then."""
        self.optimizer.state.clear()
        self._engine.destroy()
        yield

    def _managed(self) -> torch.nn.Module:
        """What DeepSpeed is given."""
        return torch.nn.ParameterList(self._parameters)

    def _config(self) -> dict[str, Any]:
        bucket = min(BUCKET, sum(parameter.numel() for parameter in self._parameters))
        return {
            "train_micro_batch_size_per_gpu": 1,  # in truth the loop's business
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": False,
                "reduce_bucket_size": bucket,
                "memory_efficient_linear": False,  # it would take the place of torch's, for good
                "stage3_param_persistence_threshold": 0,  # small matrices, too, are in parts
            },
            "zero_allow_untested_optimizer": True,
        }

    def _begin_step(self) -> None:
        if not self._begun:
            self._step.enter_context(self._engine.coalesce_grad_reduction())
            self._begun = True

    def _hand_out(self) -> None:
        """Add up the gradients of all processes and leave each its part."""
        self._begin_step()
        for parameter in self._parameters:
            if parameter.grad is None:  # a row of texts alone says nothing about the projector
                _leave_zero(parameter)
        self._step.close()
        self._begun = False

    def _make_moments(self) -> None:
        """Make a step that goes nowhere, and forget that it was made: from then on there are moments to be read."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = 0.0
            for part in group["params"]:
                part.grad = torch.zeros_like(part)
        self.optimizer.step()  # DeepSpeed's first step looks for the moments of all groups before it comes to them
        self._hand_out()
        self._engine.step()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        for state in self.optimizer.state.values():
            state["step"].zero_()

    def _set(self, parameter: torch.nn.Parameter, value: torch.Tensor, kind: str) -> None:
        """Set a parameter, or a moment of it, from the whole value."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if kind:
            safe_set_full_optimizer_state(parameter, value, kind)
        else:
            safe_set_full_fp32_param(parameter, value)

    def _put_in_place(self) -> None:
        """Have the module hold what the optimiser's parts say."""
        self._engine.optimizer.update_lp_params()


class Zero3Strategy(ZeroStrategy):
    """ZeRO-3: the matrices of the decoder's layers are in parts, too, but for those that the method has added."""

    stage = 3
    synchronous = True

    def spread(self, model: LanguageVisionModel) -> None:
        """Choose what is shared.

        Raises:
            UserError: DeepSpeed is not installed.
        """
        super().spread(model)
        base, layers = set(model.base_parameters), cast(torch.nn.Module, model.decoder.layers)
        self._modules = [module for module in layers.modules() if _holds_a_matrix(module, base)]
        self.sharded_parameters = frozenset(weight for module in self._modules for weight in module.parameters())
        model.decoder.register_forward_pre_hook(_differentiable, with_kwargs=True)

    def begin(self, groups: Groups, settings: TrainingSettings) -> None:
        """Make the optimiser, and leave each process its part."""
        super().begin(groups, settings)
        # What has no module among those given is gathered after each step, and never let go in between.
        self._engine.optimizer.persistent_parameters.extend(self._outside)
        self._make_moments()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every process sees all weights as they are now. What trained them is gone by then."""
        sharded_parameters: list[Any] = [weight for module in self._modules for weight in module.parameters()]
        sharded_parameters[0].all_gather(sharded_parameters)
        with super().whole():
            yield

    def _managed(self) -> torch.nn.Module:
        self._outside = [weight for weight in self._parameters if weight not in self.sharded_parameters]
        managed = torch.nn.Module()
        managed.sharded_parameters, managed.whole = (
            torch.nn.ModuleList(self._modules),
            torch.nn.ParameterList(self._outside),
        )
        return managed

    def _set(self, parameter: Any, value: torch.Tensor, kind: str) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        size = parameter.ds_tensor.numel()
        padded = functional.pad(value.flatten(), (0, size * self.process_group.world_size - value.numel()))
        part = padded[size * self.process_group.rank : size * (self.process_group.rank + 1)]
        if kind:
            safe_set_local_optimizer_state(parameter, part, kind)
        else:
            safe_set_local_fp32_param(parameter, part)
            parameter.ds_tensor.data.copy_(part)

    def _put_in_place(self) -> None:
        outside: list[Any] = self._outside
        outside[0].partition(outside)
        outside[0].all_gather(outside)


def deepspeed(device: torch.device) -> Any:
    """The library, ready for a device.

    Raises:
        UserError: It is not installed.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # it would look for an accelerator, and take that
    try:
        import deepspeed as library
    except ImportError as error:
        raise UserError(
            "ZeRO needs DeepSpeed, which is not installed",
            location="accelerate launch",
            hint="pip install 'knowledge-injection-harness[deepspeed]'",
        ) from error
    library.init_distributed()
    return library


def _trained(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group without what is frozen."""
    pairs = zip(group["names"], group["params"], strict=True)
    kept = [(name, parameter) for name, parameter in pairs if parameter.requires_grad]
    return {**group, "names": [name for name, _ in kept], "params": [parameter for _, parameter in kept]}


def _holds_a_matrix(module: torch.nn.Module, base: Container[Any]) -> bool:
    """Whether a module is but a matrix of the base, perhaps with a bias."""
    own = list(module.parameters())
    return not list(module.children()) and any(w.dim() > 1 for w in own) and all(w in base for w in own)


def _leave_zero(parameter: torch.nn.Parameter) -> None:
    """Give a parameter the gradient 0, also where it is in parts: torch wants both to have the same shape."""
    kept, zero = parameter.data, parameter.data.new_zeros(())
    parameter.data = zero.expand(_shape(parameter))
    parameter.grad = torch.zeros(_shape(parameter), dtype=zero.dtype, device=zero.device)
    parameter.data = kept


def _shape(parameter: torch.nn.Parameter) -> torch.Size:
    """The shape of the whole parameter."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def _differentiable(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Have every backward pass go through the whole decoder, so that all processes gather the same weights."""
    read = kwargs["inputs_embeds"]
    if torch.is_grad_enabled() and not read.requires_grad:
        read.requires_grad_()
    return args, kwargs
