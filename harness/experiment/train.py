"""Train one step of a cell: conversations, statistics, adapter, loop; what comes of it is stored with its record."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.experiment.cell import ADAPTERS, TRAINING
from harness.experiment.context import IntegrityError, RunContext
from harness.experiment.resources import CellResources
from harness.experiment.stages import CARRIED, Stage
from harness.storage.store import CacheKey, digest
from harness.training.hardware import ResourceMonitor

if TYPE_CHECKING:
    import torch

    from benchmarks.records import Conversation
    from harness.models.base import LanguageVisionModel
    from harness.training.loop import TrainingLog
    from harness.training.strategies.ddp import DDPStrategy
    from methods.base import InjectionMethod

Record = dict[str, Any]
"""The stored record of a training: status, reason, adapter's sha256, log, cost, figures; with several stages also the
sha256 of what the method hands on."""


def stored_training(context: RunContext, step: Stage) -> Record | None:
    """The record of a training that ended, well or diverged."""
    found = context.store.read_json(TRAINING, step.recipe(context.cache_inputs))
    return None if found is None else dict(found)


def train(context: RunContext, step: Stage) -> Record:
    """Train a step from its last checkpoint on, store what came of it, and leave the base as it was.

    Raises:
        OutOfMemoryError: One row is too much.
        UserError: The method asks for what is not there.
    """
    from harness.training.loop import DivergenceError

    recipe = step.recipe(context.cache_inputs)
    try:
        record = _fit(context, step, recipe)
    except DivergenceError as error:
        # The same training diverges again: the record spares the next run from trying.
        context.unload_model()
        record = {"status": "diverged", "reason": _told(step, error), "adapter": ""}

    def keep() -> Record:
        stored = context.store.write_json(TRAINING, recipe, record)
        context.store.checkpoint(TRAINING, recipe).discard()
        return dict(stored)

    return dict(context.process_group.broadcast_from_main(keep))


def _told(step: Stage, error: Exception) -> str:
    """The first line of an error, and the stage where there are several."""
    line = str(error).splitlines()[0]
    return line if step.of == 1 else f"stage {step.number} of {step.of}: {line}"


def _fit(context: RunContext, step: Stage, recipe: CacheKey) -> Record:
    from harness.training.conversation_batches import ConversationBatches, InjectionLoss
    from harness.training.loop import fit
    from harness.training.strategies.factory import training_strategy

    meter, process_group = ResourceMonitor(context.device), context.process_group
    settings, method = context.training_of(step.cell), step.cell.make()
    with process_group.synchronized(leader_first=True):
        model = context.model
        conversations, prepared = _begin(context, step, method, model)
        context.say(f"{step.title}: {len(conversations)} conversations to train on")
        prepared_in = meter.seconds
    shared = training_strategy(context.cache_inputs.sharding, process_group)
    groups = _put_in_place(context, step, method, model, prepared, shared)
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    seed_everything(step.seed + 1_000_003 * process_group.rank)  # each process draws its own dropout
    with context.trackers.losses(step.title, dataclasses.asdict(method.settings)) as on_step:
        log = fit(
            ConversationBatches(
                model, conversations, settings, step.seed, (process_group.rank, process_group.world_size)
            ),
            InjectionLoss(model, method),
            groups,
            settings,
            device=context.device,
            checkpoint=context.store.checkpoint(TRAINING, recipe),
            precision=context.cache_inputs.precision,
            on_step=on_step,
            title=step.title,
            sharing=shared,
        )
    with process_group.synchronized(), shared.whole():
        left = _left_behind(step, method, model)
        values = "".join(map(_digest, left.values())) if process_group.world_size > 1 else ""
    process_group.assert_equal(values, f"{step.title}, after its last step")
    with process_group.synchronized():
        if shared.invalidates_model:
            context.unload_model()
        else:
            method.detach(model)
            model.module.eval()
            context.verify_base_unchanged(step.title)
    return {
        "status": "ok",
        "reason": "",
        "conversations": len(conversations),
        "log": [[step.step, step.loss, step.learning_rate, step.grad_norm] for step in log.steps],
        "cost": {**_cost(log, prepared_in, meter.peak_bytes, trained), "processes": process_group.world_size},
        "diagnostics": method.diagnostics(prepared),
        **_stored(context, step, recipe, left),
    }


def _begin(
    context: RunContext, step: Stage, method: InjectionMethod, model: LanguageVisionModel
) -> tuple[list[Conversation], dict[str, torch.Tensor]]:
    """What to learn from, and the method's statistics of the untouched base."""
    resources = cell_resources(context, step)
    conversations = method.training_data(step.knowledge, resources)
    seed_everything(step.seed)
    return conversations, method.prepare(model, resources)


def _put_in_place(
    context: RunContext,
    step: Stage,
    method: InjectionMethod,
    model: LanguageVisionModel,
    prepared: dict[str, torch.Tensor],
    shared: DDPStrategy,
) -> list[dict[str, Any]]:
    """Attach the method, and leave each process its part of the weights; gives the parameter groups."""
    from harness.training.hook_checks import check_penalty_inputs, check_trainable

    process_group = context.process_group
    with process_group.synchronized():
        seed_everything(step.seed)  # again, for statistics from the store draw no random numbers
        method.attach(model, prepared)
        if step.earlier is not None:
            method.load_previous_stage(model, _left(context, step, ADAPTERS, step.earlier.adapter))
        check_trainable(list(method.parameter_groups(model)), step.title)
        values = _values(method.parameter_groups(model)) if process_group.world_size > 1 else ""
    process_group.assert_equal(values, f"{step.title}, before its first step")
    with process_group.synchronized():
        shared.shard(model)
        groups = list(method.parameter_groups(model))
        check_penalty_inputs(method, groups, shared.sharded_parameters, step.title)
    return groups


def _left_behind(
    step: Stage, method: InjectionMethod, model: LanguageVisionModel
) -> dict[str, dict[str, torch.Tensor]]:
    """The adapter and, where a stage follows, what is handed on to it; by the kind of entry that it becomes.

    Raises:
        UserError: It is something else than tensors by name, or not finite.
    """
    from harness.training.hook_checks import validate_tensors

    left = {ADAPTERS: validate_tensors(method.export(model), "export", step.title)}
    if not step.last:
        seed_everything(step.seed)  # a resumed training has drawn other numbers by now
        model.module.eval()
        left[CARRIED] = validate_tensors(method.export_stage_state(model), "export_stage_state", step.title)
    return left


def _stored(
    context: RunContext, step: Stage, recipe: CacheKey, left: Mapping[str, dict[str, torch.Tensor]]
) -> dict[str, str]:
    """Sha256 of what the leader stores, for the record; of nothing where nothing is handed on."""
    if not context.process_group.is_main_process:
        return {}
    store, stage_state = context.store, left.get(CARRIED)
    record = {"adapter": store.write_tensors(ADAPTERS, recipe, left[ADAPTERS])}
    if stage_state is not None:
        record["carried"] = store.write_tensors(CARRIED, recipe, stage_state) if stage_state else ""
    return record


def _values(groups: Iterable[Mapping[str, Any]]) -> str:
    """Sha256 of all that is trained."""
    pairs = (zip(group["names"], group["params"], strict=True) for group in groups)
    return _digest({name: value for pair in pairs for name, value in pair})


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 of tensors by name."""
    from harness.models.loading import tensors_digest

    return tensors_digest(tensors)


def _left(context: RunContext, step: Stage, kind: str, sha256: str) -> dict[str, torch.Tensor]:
    """What the stage before left in the store.

    Raises:
        Untrue: It is not there, or it is not what this stage's recipe says.
    """
    if step.earlier is None or not sha256:
        return {}
    found = context.store.read_tensors(kind, step.earlier.recipe)
    if found is None or context.store.content_digest(kind, step.earlier.recipe) != sha256:
        raise IntegrityError(
            "what the stage before left was lost",
            location=step.title,
            hint="run the command again; it is trained again",
        )
    return found


def _cost(log: TrainingLog, prepared_in: float, peak_bytes: int, trained: int) -> dict[str, float | int]:
    return {
        # Steps made before a kill are in the log, so a resumed training counts all of its lives.
        "training_seconds": prepared_in + sum(step.seconds for step in log.steps),
        "peak_memory_bytes": peak_bytes,
        "trainable_parameters": trained,
        "optimiser_steps": len(log.steps),
        "supervised_tokens": int(sum(step.tokens for step in log.steps)),
    }


def cell_resources(context: RunContext, step: Stage) -> CellResources:
    """What the method may ask for. Cached statistics depend on the base, the old data and the method's code."""
    cache_inputs, identity, seed = context.cache_inputs, step.cell.identity(), step.cell.seed
    key = {
        "base": cache_inputs.base,
        "old_data": digest([cache_inputs.old_data, seed]),
        "code": identity["code"],
        "device": cache_inputs.device,
        "precision": cache_inputs.precision,
    }
    stage_state = _left(context, step, CARRIED, step.earlier.stage_state) if step.earlier else {}
    old, inputs = context.sources.old, context.sources.inputs
    return CellResources(seed, old, context.store, key, (step.number, step.of), stage_state, inputs)


def seed_everything(seed: int) -> None:
    """Give every random generator a known state."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # methods of other authors may draw from it
    torch.manual_seed(seed)
