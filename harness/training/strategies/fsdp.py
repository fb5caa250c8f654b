"""FSDP: while they train, the processes share the weights of the decoder's layers.

What a method adds to the model stays whole in every process, and so does everything outside these layers: so whatever a
method reads of its own parameters is right. Answers are given by a model that is loaded again, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from harness.config.training import TrainingSettings
from harness.training.checkpoint import whole
from harness.training.strategies.ddp import DDPStrategy, Groups, all_reduce_grads

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel


class FSDPStrategy(DDPStrategy):
    """Weights, gradients and moments of the decoder's layers in parts, one for each process."""

    invalidates_model = synchronous = True

    def spread(self, model: LanguageVisionModel) -> None:
        """Leave each process its part of the decoder's layers."""
        mesh = init_device_mesh(model.device.type, (self.process_group.world_size,))
        decoder, base = model.decoder, set(model.base_parameters)
        layers: list[Any] = [*cast(Iterable[Any], decoder.layers)]
        shared = {weight for layer in layers for weight in layer.parameters() if weight in base}
        kept = set(decoder.parameters()) - shared
        self._units: list[Any] = [fully_shard(unit, mesh=mesh, ignored_params=kept) for unit in (*layers, decoder)]
        model.base_parameters = ()  # nothing may hold the whole weights any more
        for unit in self._units:
            # Sums, not means: what they are divided by is the step's number of tokens.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        self.sharded_parameters = frozenset(weight for weight in decoder.parameters() if _shared(weight))

    def begin(self, groups: Groups, settings: TrainingSettings) -> None:
        """Make the optimiser; what is shared and what is whole never stands in one group."""
        super().begin([part for group in groups for part in _parted(group)], settings)

    def norm(self) -> torch.Tensor:
        """The norm of the gradient: that of the parts is put together from all processes."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        kinds = [[one for one in gradients if _shared(one) is kind] for kind in (True, False)]
        norms = [whole(torch.nn.utils.get_total_norm(some)) for some in kinds if some]
        return torch.stack(norms).square().sum().sqrt()

    def clip(self, norm: torch.Tensor) -> None:
        """Shorten the gradient."""
        for kind in (True, False):
            some = [parameter for parameter in self._parameters if _shared(parameter) is kind]
            torch.nn.utils.clip_grads_with_norm_(some, self._clip, norm)

    def all_reduce_grads(self) -> None:
        """Add the gradients of what is whole; those of the layers come added up from the backward pass."""
        all_reduce_grads([parameter for parameter in self._parameters if not _shared(parameter)], self.process_group)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A block in which every process sees all weights as they are now."""
        for unit in self._units:
            unit.unshard()
        yield
        for unit in self._units:
            unit.reshard()


def _shared(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, DTensor)


def _parted(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a group that are shared and whole."""
    pairs = list(zip(group["names"], group["params"], strict=True))
    for kind in (True, False):
        chosen = [(name, parameter) for name, parameter in pairs if _shared(parameter) is kind]
        if chosen:
            names, parameters = zip(*chosen, strict=True)
            yield {**group, "names": list(names), "params": list(parameters)}
