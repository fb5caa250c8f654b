"""Run by several processes: each prints how much of a sharded model it holds."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path

import torch

from harness.config.settings import resolve
from harness.distributed.process_group import init_process_group
from harness.experiment.rows import list_cells
from harness.models.registry import load_model
from harness.training.strategies.factory import training_strategy


def held_values(kind: str, folder: Path, method: str) -> dict[str, int]:
    """Values in this process's memory: of the decoder's layers, of the rest, and of the layers before sharding."""
    process_group = init_process_group()
    model = load_model(folder, torch.device("cpu"), torch.float32)
    list_cells([method], resolve("mini"))[1].make().attach(model, {})
    base = {id(weight) for weight in model.base_parameters}
    own = [name for name, weight in model.module.named_parameters() if ".layers." in name and id(weight) in base]
    own = [name for name in own if "language_model" in name]
    unsharded = [weakref.ref(weight) for name, weight in model.module.named_parameters() if name in own]
    training_strategy(kind, process_group).shard(model)
    gc.collect()
    sizes = {name: _local(weight).numel() for name, weight in model.module.named_parameters()}
    layers = sum(sizes[name] for name in own)
    kept = sum(weight().numel() for weight in unsharded if weight() is not None)
    return {"layers": layers, "rest": sum(sizes.values()) - layers, "kept": kept}


def _local(weight: torch.Tensor) -> torch.Tensor:
    return weight.to_local() if hasattr(weight, "to_local") else weight  # type: ignore[no-any-return]


if __name__ == "__main__":
    print(json.dumps(held_values(sys.argv[1], Path(sys.argv[2]), sys.argv[3])), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
