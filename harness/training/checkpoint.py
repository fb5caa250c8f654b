"""The state of a training, saved and restored bit for bit: parameters, optimiser, random numbers, log."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.errors import UserError

NUMBER = "number:"
"""What the names of plain numbers in an optimiser's state begin with, in a checkpoint."""
State = dict[str, Any]
"""Plain JSON values."""


class Checkpoint(Protocol):
    """Where one training keeps its state; an implementation writes it completely or not at all."""

    def save(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Replace what was saved before."""

    def load(self) -> tuple[dict[str, torch.Tensor], State] | None:
        """What was saved last, or None."""

    def discard(self) -> None:
        """Delete it; called by the owner once the training's result is stored."""


def trained_parameters(groups: list[dict[str, Any]]) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """(name, parameter) over all groups, in order."""
    for group in groups:
        yield from zip(group["names"], group["params"], strict=True)


def state_dict(optimizer: torch.optim.Optimizer, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Parameters and the optimiser's moments, on the CPU: ``value/<name>``, ``exp_avg/<name>``, ...

    A plain number, such as the step that bitsandbytes counts, becomes a tensor ``number:step/<name>``.

    Every process has to call this; one without ``keep`` only helps to gather sharded tensors and gets nothing.
    """
    sources: dict[str, torch.Tensor] = {}
    for name, parameter in trained_parameters(optimizer.param_groups):
        sources[f"value/{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                sources[f"{key}/{name}"] = value
            else:
                sources[f"{NUMBER}{key}/{name}"] = torch.tensor(value)
    tensors = {}
    for key, source in sources.items():
        tensor = full_tensor(source.detach())
        if keep:
            tensors[key] = tensor.to("cpu", copy=True).contiguous()
    return tensors


def load_state_dict(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what ``state_dict`` gave.

    Raises:
        UserError: The tensors belong to another model or method.
    """
    parameters = dict(trained_parameters(optimizer.param_groups))
    check_same_parameters({name: parameter.shape for name, parameter in parameters.items()}, tensors)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_sharded_like(tensors[f"value/{name}"], parameter))
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        if kind.startswith(NUMBER):
            optimizer.state[parameter][kind.removeprefix(NUMBER)] = tensor.item()
        elif kind != "value":
            # The fused optimiser keeps its step counter on the parameter's device, too.
            optimizer.state[parameter][kind] = _sharded_like(tensor.to(parameter.device, copy=True), parameter)


def check_same_parameters(shapes: Mapping[str, torch.Size], tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that a saved state is of these parameters.

    Args:
        shapes: Of all trained parameters, by name.
        tensors: As from ``state_dict``.

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
            hint="delete the checkpoint, or use the settings that it was made with",
        )


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded over the processes; every process has to call this."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _sharded_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This process's shard of a tensor, if it only holds a shard of the parameter."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)


def seed_everything(seed: int) -> None:
    """Seed every random number generator."""
    random.seed(seed)
    np.random.seed(seed)  # methods of other authors may use it
    torch.manual_seed(seed)


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
    """Restore what ``random_state`` gave."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    if device.type == "cuda":
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]), device)


def _bytes_tensor(hexadecimal: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(hexadecimal), dtype=torch.uint8)
