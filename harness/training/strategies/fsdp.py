"""FSDP: during training the processes share the weights of the decoder's layers.

A method's own parameters, and everything outside these layers, stay complete in every process, so a method reads the
right values from its own parameters. Questions are answered by a model that is loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from harness.config.schema import TrainingSettings
from harness.training.checkpoint import full_tensor
from harness.training.optimizers import Groups
from harness.training.strategies.ddp import TrainingStrategy, all_reduce_grads

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel


class FSDPStrategy(TrainingStrategy):
    """Weights, gradients and moments of the decoder's layers in shards, one for each process."""

    invalidates_model = True
    synchronous = True

    def shard(self, model: LanguageVisionModel) -> None:
        """Reduce the decoder's layers to this process's shard."""
        mesh = init_device_mesh(model.device.type, (self.process_group.world_size,))
        decoder, base = model.decoder, set(model.base_parameters)
        layers: list[Any] = [*cast(Iterable[Any], decoder.layers)]
        sharded = {weight for layer in layers for weight in layer.parameters() if weight in base}
        ignored = set(decoder.parameters()) - sharded
        self._units: list[Any] = [fully_shard(unit, mesh=mesh, ignored_params=ignored) for unit in (*layers, decoder)]
        model.base_parameters = ()  # nothing may hold the complete weights any more
        for unit in self._units:
            # Sums instead of means: they are divided by the step's number of tokens later.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        self.sharded_parameters = frozenset(weight for weight in decoder.parameters() if _is_sharded(weight))

    def build_optimizer(self, groups: Groups, settings: TrainingSettings) -> None:
        """Set ``optimizer``; sharded and complete parameters are never in one group."""
        super().build_optimizer([part for group in groups for part in _split(group)], settings)

    def grad_norm(self) -> torch.Tensor:
        """The norm of the gradient, shards of all processes included."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        kinds = [[gradient for gradient in gradients if _is_sharded(gradient) is kind] for kind in (True, False)]
        norms = [full_tensor(torch.nn.utils.get_total_norm(kind)) for kind in kinds if kind]
        return torch.stack(norms).square().sum().sqrt()

    def clip_grads(self, norm: torch.Tensor) -> None:
        """Scale the gradient down to the largest norm that is allowed."""
        for kind in (True, False):
            parameters = [parameter for parameter in self._parameters if _is_sharded(parameter) is kind]
            torch.nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)

    def all_reduce_grads(self) -> None:
        """Sum the gradients of complete parameters; the backward pass has summed those of the layers."""
        complete = [parameter for parameter in self._parameters if not _is_sharded(parameter)]
        all_reduce_grads(complete, self.process_group)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """A block, after training, in which every process can read all weights."""
        for unit in self._units:
            unit.unshard()
        yield
        for unit in self._units:
            unit.reshard()


def _is_sharded(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, DTensor)


def _split(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sharded and the complete parameters of a group, as groups."""
    pairs = list(zip(group["names"], group["params"], strict=True))
    for kind in (True, False):
        chosen = [(name, parameter) for name, parameter in pairs if _is_sharded(parameter) is kind]
        if chosen:
            names, parameters = zip(*chosen, strict=True)
            yield {**group, "names": list(names), "params": list(parameters)}
