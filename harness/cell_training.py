"""Train one cell: conversations, statistics, adapter, loop; the adapter and the record of its making are stored."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from harness.cells import ADAPTERS, TRAINING, Cell
from harness.machine import Meter
from harness.resources import CellResources
from harness.store import Recipe, digest
from harness.workshop import Workshop

if TYPE_CHECKING:
    from harness.training import TrainingLog

Record = dict[str, Any]
"""The stored record of a training: status, reason, adapter's sha256, log, cost, figures."""


def stored_training(workshop: Workshop, cell: Cell) -> Record | None:
    """The record of a training that ended, well or diverged."""
    found = workshop.store.read_json(TRAINING, cell.training_recipe(workshop.ground))
    return None if found is None else dict(found)


def train(workshop: Workshop, cell: Cell) -> Record:
    """Train a cell from its last checkpoint on, store what came of it, and leave the base as it was.

    Raises:
        OutOfMemory: One row is too much.
        UserError: The method asks for what is not there.
    """
    from harness.training import Diverged

    recipe = cell.training_recipe(workshop.ground)
    checkpoint = workshop.store.checkpoint(TRAINING, recipe)
    try:
        record = _fit(workshop, cell, recipe)
    except Diverged as error:
        # The same training diverges again: the record spares the next run from trying.
        workshop.drop_model()
        record = {"status": "diverged", "reason": str(error).splitlines()[0], "adapter": ""}
    stored = workshop.store.write_json(TRAINING, recipe, record)
    checkpoint.discard()
    return dict(stored)


def _fit(workshop: Workshop, cell: Cell, recipe: Recipe) -> Record:
    from harness.injection import InjectionObjective, InjectionSource
    from harness.training import fit

    meter = Meter(workshop.device)
    model, settings, method = workshop.model, workshop.settings.training, cell.make()
    resources = cell_resources(workshop, cell)
    conversations = method.training_data(workshop.sources.knowledge, resources)
    workshop.say(f"{cell.title}: {len(conversations)} conversations to train on")
    seed_everything(cell.seed)
    prepared = method.prepare(model, resources)
    prepared_in = meter.seconds
    seed_everything(cell.seed)  # again, for statistics from the store draw no random numbers
    method.attach(model, prepared)
    groups = list(method.parameter_groups(model))
    log = fit(
        InjectionSource(model, conversations, settings, cell.seed),
        InjectionObjective(model, method),
        groups,
        settings,
        device=workshop.device,
        checkpoint=workshop.store.checkpoint(TRAINING, recipe),
        precision=workshop.ground.precision,
        title=cell.title,
    )
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    tensors = method.export(model)
    method.detach(model)
    model.module.eval()
    workshop.check_base(cell.title)
    return {
        "status": "ok",
        "reason": "",
        "adapter": workshop.store.write_tensors(ADAPTERS, recipe, tensors),
        "conversations": len(conversations),
        "log": [[step.step, step.loss, step.learning_rate, step.grad_norm] for step in log.steps],
        "cost": _cost(log, prepared_in, meter.peak_bytes, trained),
        "figures": method.figures(prepared),
    }


def _cost(log: TrainingLog, prepared_in: float, peak_bytes: int, trained: int) -> dict[str, float | int]:
    return {
        # Steps made before a kill are in the log, so a resumed training counts all of its lives.
        "training_seconds": prepared_in + sum(step.seconds for step in log.steps),
        "peak_memory_bytes": peak_bytes,
        "trainable_parameters": trained,
        "optimiser_steps": len(log.steps),
        "supervised_tokens": int(sum(step.tokens for step in log.steps)),
    }


def cell_resources(workshop: Workshop, cell: Cell) -> CellResources:
    """What the cell's method may ask for. Cached statistics depend on the base, the old data and the method's code."""
    ground, identity = workshop.ground, cell.identity()
    context = {
        "base": ground.base,
        "old_data": digest([ground.old_data, cell.seed]),
        "code": identity["code"],
        "device": ground.device,
        "precision": ground.precision,
    }
    return CellResources(cell.seed, workshop.sources.old, workshop.store, context)


def seed_everything(seed: int) -> None:
    """Give every random generator a known state."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # methods of other authors may draw from it
    torch.manual_seed(seed)
