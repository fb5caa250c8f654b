"""The state of a training, taken and put back bit for bit: parameters, optimiser, random numbers, log."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.errors import UserError

State = dict[str, Any]
"""Plain JSON values."""


class Checkpoint(Protocol):
    """Where one training keeps its state; whoever gives it sees to it that it is written whole or not at all."""

    def save(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Replace what was saved before."""

    def load(self) -> tuple[dict[str, torch.Tensor], State] | None:
        """What was saved last, or None."""

    def discard(self) -> None:
        """Forget it; called by the owner once the training's product is stored."""


def trained_parameters(groups: list[dict[str, Any]]) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """(name, parameter) over all groups, in order."""
    for group in groups:
        yield from zip(group["names"], group["params"], strict=True)


def take(optimizer: torch.optim.Optimizer, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Parameters and the optimiser's moments, on the CPU: ``value/<name>``, ``exp_avg/<name>``, ...

    A process that does not ``keep`` them only helps to put them together, and gets none.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trained_parameters(optimizer.param_groups):
        tensors[f"value/{name}"] = parameter
        tensors |= {f"{key}/{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
    taken = {}
    for key, tensor in tensors.items():
        value = whole(tensor.detach())
        if keep:
            taken[key] = value.to("cpu", copy=True).contiguous()
    return taken


def load_state_dict(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Undo everything since ``take``.

    Raises:
        UserError: The tensors belong to another model or method.
    """
    parameters = dict(trained_parameters(optimizer.param_groups))
    check_fit({name: parameter.shape for name, parameter in parameters.items()}, tensors)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_like(tensors[f"value/{name}"], parameter))
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind != "value":
            parameter = parameters[name]
            # The fused optimiser keeps its step counter beside the parameter, too.
            optimizer.state[parameter][kind] = _like(tensor.to(parameter.device, copy=True), parameter)


def check_fit(shapes: Mapping[str, torch.Size], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse what ``take`` gave of other parameters.

    Args:
        shapes: Of all trained parameters, by name.
        tensors: What ``take`` gave.

    Raises:
        UserError: The tensors belong to another model or method.
    """
    saved = {key.partition("/")[2] for key in tensors}
    misfits = sorted(saved ^ shapes.keys()) or sorted(
        name for name, shape in shapes.items() if tensors[f"value/{name}"].shape != shape
    )
    if misfits:
        raise UserError(
            f"it belongs to another training: {misfits[0]} does not fit",
            location="checkpoint",
            hint="delete the checkpoint, or give the settings that made it",
        )


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which each process holds a part, put together; every process must ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor, where it holds but a part of the parameter."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)


def random_state(device: torch.device) -> State:
    """The state of every random generator that training may draw from, as plain numbers."""
    version, keys, gauss = random.getstate()
    name, words, *rest = np.random.get_state()
    state: State = {
        "python": [version, list(keys), gauss],
        "numpy": [name, np.asarray(words).tolist(), *rest],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes().hex()
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put back what ``random_state`` gave."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(_bytes(state["torch"]))
    if device.type == "cuda":
        torch.cuda.set_rng_state(_bytes(state["cuda"]), device)


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
