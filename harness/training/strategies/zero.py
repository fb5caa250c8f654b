"""DeepSpeed's ZeRO: the processes share the optimiser's moments (stage 2), and the decoder's layers, too (stage 3).

A method's own parameters, and everything outside the decoder's layers, stay complete in every process, so a method
reads the right values from its own parameters. Questions are answered by a model that is loaded again.

DeepSpeed can reduce gradients during the backward pass, but relies on all processes reaching the same parameters in the
same order. A row without a picture skips the projector, so gradients are reduced after each step, in a fixed order.
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
from harness.config.schema import TrainingSettings
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.training.checkpoint import check_same_parameters, trained_parameters
from harness.training.optimizers import Groups, build_adamw
from harness.training.strategies.ddp import TrainingStrategy

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

BUCKET = 50_000_000
"""Gradients that are summed in one message."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter."""


class ZeroStrategy(TrainingStrategy):
    """ZeRO-2: every process has all the weights and its shard of the moments."""

    invalidates_model = True
    supports_parameter_changes = False  # each step copies the optimiser's own values over those in the module
    stage = 2

    def __init__(self, process_group: ProcessGroup = SINGLE_PROCESS) -> None:
        super().__init__(process_group)
        self._step = ExitStack()
        self._in_step = False
        """From a step's first backward pass until its gradients are reduced."""

    def shard(self, model: LanguageVisionModel) -> None:
        """Prepare DeepSpeed for this device; weights are sharded with the optimiser.

        Raises:
            UserError: It is not installed.
        """
        self._device, self._deepspeed = model.device, import_deepspeed(model.device)

    def build_optimizer(self, groups: Groups, settings: TrainingSettings) -> None:
        """Set ``optimizer``, and reduce its moments to this process's shard."""
        trainable = [_trainable(group) for group in groups]
        self._by_name = dict(trained_parameters(trainable))
        self._parameters, self._clip_norm = list(self._by_name.values()), settings.clip_norm
        self.optimizer = build_adamw(trainable, settings)
        self._engine, *_ = self._deepspeed.initialize(
            model=self._managed_module(), optimizer=self.optimizer, config=self._config()
        )
        if self.stage < 3:
            self._initialize_moments()

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradient of a micro-batch."""
        self._begin_step()
        self._engine.optimizer.clear_backward_seen_flag()
        self._engine.backward(loss)

    def reduce_and_clip(self, tokens: float) -> float:
        """Sum the gradients over all processes, reduce them to this process's shard, and clip it.

        Args:
            tokens: Supervised tokens of the step, over all processes.

        Returns:
            The gradient's norm before clipping.
        """
        self._reduce_gradients()
        shards = [shard for shards in self._engine.optimizer.averaged_gradients.values() for shard in shards]
        for shard in shards:
            # DeepSpeed has divided the sum by the number of processes.
            shard.mul_(self.process_group.world_size / tokens)
        (square,) = self.process_group.all_reduce_sum([float(sum(shard.double().square().sum() for shard in shards))])
        norm = math.sqrt(square)
        for shard in shards:
            shard.mul_(min(1.0, self._clip_norm / (norm + 1e-6)))  # as torch's clip_grad_norm_
        return norm

    def step(self) -> None:
        """Update the parameters and clear the gradient."""
        self._engine.step()

    def zero_grad(self) -> None:
        """Clear the gradient."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The trained parameters and the optimiser's moments, complete and on the CPU.

        Every process has to call this; only rank 0 gets them.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        tensors: dict[str, torch.Tensor] = {}

        def keep(key: str, tensor: torch.Tensor) -> None:
            if self.process_group.is_main_process:  # one machine may not have memory for a copy in each process
                tensors[key] = tensor.detach().to("cpu", copy=True)

        for name, parameter in self._by_name.items():
            keep(f"value/{name}", safe_get_full_fp32_param(parameter))
            keep(f"step/{name}", next(iter(self.optimizer.state.values()))["step"])
            for kind in MOMENTS:
                keep(f"{kind}/{name}", safe_get_full_optimizer_state(parameter, kind))
        return tensors

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore what ``state_dict`` gave.

        Raises:
            UserError: The tensors belong to another model or method.
        """
        check_same_parameters({name: _full_shape(parameter) for name, parameter in self._by_name.items()}, tensors)
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "step":
                for state in self.optimizer.state.values():
                    state["step"].copy_(tensor)
            else:
                self._set(self._by_name[name], tensor.to(self._device), "" if kind == "value" else kind)
        self._update_module()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A block, after training, in which every process can read all weights; the optimiser is gone by then."""
        self.optimizer.state.clear()
        self._engine.destroy()
        yield

    def _managed_module(self) -> torch.nn.Module:
        """What DeepSpeed manages."""
        return torch.nn.ParameterList(self._parameters)

    def _config(self) -> dict[str, Any]:
        bucket = min(BUCKET, sum(parameter.numel() for parameter in self._parameters))
        return {
            "train_micro_batch_size_per_gpu": 1,  # required; the loop decides
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": False,
                "reduce_bucket_size": bucket,
                "memory_efficient_linear": False,  # it would replace torch's, permanently
                "stage3_param_persistence_threshold": 0,  # shard small matrices, too
            },
            "zero_allow_untested_optimizer": True,
        }

    def _begin_step(self) -> None:
        if not self._in_step:
            self._step.enter_context(self._engine.coalesce_grad_reduction())
            self._in_step = True

    def _reduce_gradients(self) -> None:
        """Sum the gradients over all processes and reduce them to this process's shard."""
        self._begin_step()
        for parameter in self._parameters:
            if parameter.grad is None:  # rows without pictures do not reach the projector
                _set_zero_grad(parameter)
        self._step.close()
        self._in_step = False

    def _initialize_moments(self) -> None:
        """Run a step with learning rate 0, so that the optimiser has moments that can be read and set."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = 0.0
            for shard in group["params"]:
                shard.grad = torch.zeros_like(shard)
        self.optimizer.step()  # DeepSpeed's first step reads the moments of all groups before it has created them
        self._reduce_gradients()
        self._engine.step()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        for state in self.optimizer.state.values():
            state["step"].zero_()

    def _set(self, parameter: torch.nn.Parameter, value: torch.Tensor, kind: str) -> None:
        """Set a parameter, or one of its moments, from the complete value."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if kind:
            safe_set_full_optimizer_state(parameter, value, kind)
        else:
            safe_set_full_fp32_param(parameter, value)

    def _update_module(self) -> None:
        """Copy the optimiser's values into the module."""
        self._engine.optimizer.update_lp_params()


class Zero3Strategy(ZeroStrategy):
    """ZeRO-3: the matrices of the decoder's layers are sharded, too, except those that the method has added."""

    stage = 3
    synchronous = True

    def shard(self, model: LanguageVisionModel) -> None:
        """Choose what is sharded.

        Raises:
            UserError: DeepSpeed is not installed.
        """
        super().shard(model)
        base, layers = set(model.base_parameters), cast(torch.nn.Module, model.decoder.layers)
        self._modules = [module for module in layers.modules() if _is_base_matrix(module, base)]
        self.sharded_parameters = frozenset(weight for module in self._modules for weight in module.parameters())
        model.decoder.register_forward_pre_hook(_require_input_grad, with_kwargs=True)

    def build_optimizer(self, groups: Groups, settings: TrainingSettings) -> None:
        """Set ``optimizer``, and reduce weights and moments to this process's shard."""
        super().build_optimizer(groups, settings)
        # Parameters outside the managed modules are gathered after each step and never released in between.
        self._engine.optimizer.persistent_parameters.extend(self._unsharded)
        self._initialize_moments()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A block, after training, in which every process can read all weights; the optimiser is gone by then."""
        sharded: list[Any] = [weight for module in self._modules for weight in module.parameters()]
        sharded[0].all_gather(sharded)
        with super().gathered():
            yield

    def _managed_module(self) -> torch.nn.Module:
        self._unsharded = [weight for weight in self._parameters if weight not in self.sharded_parameters]
        managed = torch.nn.Module()
        managed.sharded = torch.nn.ModuleList(self._modules)
        managed.unsharded = torch.nn.ParameterList(self._unsharded)
        return managed

    def _set(self, parameter: Any, value: torch.Tensor, kind: str) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        size = parameter.ds_tensor.numel()
        padded = functional.pad(value.flatten(), (0, size * self.process_group.world_size - value.numel()))
        shard = padded[size * self.process_group.rank : size * (self.process_group.rank + 1)]
        if kind:
            safe_set_local_optimizer_state(parameter, shard, kind)
        else:
            safe_set_local_fp32_param(parameter, shard)
            parameter.ds_tensor.data.copy_(shard)

    def _update_module(self) -> None:
        unsharded: list[Any] = self._unsharded
        unsharded[0].partition(unsharded)
        unsharded[0].all_gather(unsharded)


def import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, prepared for a device.

    Raises:
        UserError: It is not installed.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # otherwise it uses any accelerator that it finds
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


def _trainable(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group without its frozen parameters."""
    pairs = zip(group["names"], group["params"], strict=True)
    trainable = [(name, parameter) for name, parameter in pairs if parameter.requires_grad]
    return {**group, "names": [name for name, _ in trainable], "params": [parameter for _, parameter in trainable]}


def _is_base_matrix(module: torch.nn.Module, base: Container[Any]) -> bool:
    """Whether a module is a single matrix of the base, perhaps with a bias."""
    weights = list(module.parameters())
    return not list(module.children()) and any(w.dim() > 1 for w in weights) and all(w in base for w in weights)


def _set_zero_grad(parameter: torch.nn.Parameter) -> None:
    """Set a zero gradient, also on a sharded parameter: torch requires both to have the same shape."""
    shard, zero = parameter.data, parameter.data.new_zeros(())
    parameter.data = zero.expand(_full_shape(parameter))
    parameter.grad = torch.zeros(_full_shape(parameter), dtype=zero.dtype, device=zero.device)
    parameter.data = shard


def _full_shape(parameter: torch.nn.Parameter) -> torch.Size:
    """The shape of the parameter before sharding."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def _require_input_grad(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Have every backward pass go through the whole decoder, so that all processes gather the same weights."""
    embeddings = kwargs["inputs_embeds"]
    if torch.is_grad_enabled() and not embeddings.requires_grad:
        embeddings.requires_grad_()
    return args, kwargs
