"""Train one stage of a cell: data, statistics, adapter, training loop; the result is stored with its record."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.errors import first_line
from harness.experiment.cell import ADAPTERS, TRAINING
from harness.experiment.context import RunContext
from harness.experiment.resources import make_resources
from harness.experiment.stages import RECORD_FIELDS, STAGE_STATE, Record, Stage, load_previous
from harness.training.hardware import ResourceMonitor, compute_precision

if TYPE_CHECKING:
    import torch

    from benchmarks.records import Conversation
    from harness.training.loop import TrainingLog
    from harness.training.strategies.ddp import TrainingStrategy
    from methods.base import InjectionMethod

logger = logging.getLogger(__name__)


def train_stage(context: RunContext, stage: Stage) -> Stage:
    """Train a stage from its last checkpoint on, store the result, and restore the base.

    Returns:
        The stage with the record of its training.

    Raises:
        OutOfMemoryError: A single row does not fit into memory.
        UserError: A hook returned something unusable, or needs something that is not available.
    """
    from harness.training.checkpoint import seed_everything
    from harness.training.conversation_batches import ConversationBatches
    from harness.training.gradient_checkpointing import gradient_checkpointing
    from harness.training.injection_loss import InjectionLoss
    from harness.training.loop import DivergenceError, fit
    from harness.training.step_hook import check_step_hook, make_step_hook
    from harness.training.strategies.factory import training_strategy

    group, monitor = context.process_group, ResourceMonitor(context.device)
    settings, method = context.training_of(stage.cell), stage.cell.make()
    if not method.trains:
        return _attach_without_training(context, stage, method)
    strategy = training_strategy(context.cache_inputs.sharding, group)
    with group.synchronized(main_process_first=True):
        check_step_hook(method, strategy, stage.title)
        conversations, prepared, draws = _prepare(context, stage, method)
        logger.info("%s: %d conversations to train on", stage.title, len(conversations))
        prepared_in = monitor.seconds
    parameter_groups = _attach(context, stage, method, prepared, strategy)
    trained = sum(parameter.numel() for each in parameter_groups for parameter in each["params"])
    seed_everything(stage.seed + 1_000_003 * group.rank)  # dropout differs between processes
    try:
        with (
            context.trackers.losses(stage.title, dataclasses.asdict(method.settings)) as on_step,
            gradient_checkpointing(context.model.module, settings.gradient_checkpointing),
        ):
            log = fit(
                ConversationBatches(context.model, conversations, settings, stage.seed, (group.rank, group.world_size)),
                InjectionLoss(context.model, method),
                parameter_groups,
                settings,
                device=context.device,
                checkpoint=context.store.checkpoint(TRAINING, stage.training_key(context.cache_inputs)),
                precision=compute_precision(context.cache_inputs.device, context.cache_inputs.precision),
                on_step=on_step,
                title=stage.title,
                strategy=strategy,
                after_step=make_step_hook(context.model, method),
            )
    except DivergenceError as error:
        return _store_diverged(context, stage, error, draws)
    outputs = _export(context, stage, method, strategy)
    record = {
        **_record_of(conversations, log, settings.epochs),
        "draws": draws,
        "cost": {**_cost(log, prepared_in, monitor.peak_bytes, trained), "processes": group.world_size},
        "diagnostics": method.diagnostics(prepared),
    }
    return _store(context, stage, record, outputs)


def _store_diverged(context: RunContext, stage: Stage, error: Exception, draws: Any) -> Stage:
    """Store that the training diverged: it would again, and the record spares the next run from trying."""
    context.unload_model()
    prefix = "" if stage.count == 1 else f"{stage.place}: "
    diverged = {"status": "diverged", "reason": prefix + first_line(error), "adapter": "", "draws": draws}
    return _store(context, stage, diverged, {})


def _attach_without_training(context: RunContext, stage: Stage, method: InjectionMethod) -> Stage:
    """Store what ``attach`` alone makes of the base, for a method that trains nothing."""
    from harness.training.checkpoint import seed_everything
    from harness.training.strategies.factory import training_strategy

    group, model = context.process_group, context.model
    with group.synchronized(main_process_first=True):
        resources = make_resources(context, stage)
        seed_everything(stage.seed)
        prepared = method.prepare(model, resources)
    with group.synchronized():
        method.attach(model, prepared)
        model.module.eval()
    outputs = _export(context, stage, method, training_strategy("none", group))
    record = {
        "status": "ok",
        "reason": "",
        "conversations": 0,
        "draws": resources.draws,
        "log": [],
        "diagnostics": method.diagnostics(prepared),
    }
    return _store(context, stage, record, outputs)


def _prepare(
    context: RunContext, stage: Stage, method: InjectionMethod
) -> tuple[list[Conversation], dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The training data, the method's statistics of the untouched base, and what both drew from the pools."""
    from harness.training.checkpoint import seed_everything
    from harness.training.gradient_checkpointing import gradient_checkpointing

    model, resources = context.model, make_resources(context, stage)
    conversations = method.training_data(stage.knowledge, resources)
    seed_everything(stage.seed)
    with gradient_checkpointing(model.module, context.training_of(stage.cell).gradient_checkpointing):
        prepared = method.prepare(model, resources)  # a pseudo-task is trained there
    return conversations, prepared, resources.draws


def _attach(
    context: RunContext,
    stage: Stage,
    method: InjectionMethod,
    prepared: dict[str, torch.Tensor],
    strategy: TrainingStrategy,
) -> list[dict[str, Any]]:
    """Attach the method and shard the model; returns the parameter groups."""
    from harness.models.loading import tensors_digest
    from harness.training.checkpoint import seed_everything, trained_parameters
    from harness.training.hook_checks import check_penalty_inputs, check_trainable
    from harness.training.step_hook import check_step_hook_inputs

    group, model = context.process_group, context.model
    with group.synchronized():
        seed_everything(stage.seed)  # again, because statistics from the store draw no random numbers
        method.attach(model, prepared)
        if stage.previous is not None:
            method.load_previous_stage(model, load_previous(context, stage, ADAPTERS))
        parameter_groups = list(method.parameter_groups(model))
        check_trainable(parameter_groups, stage.title)
        values = tensors_digest(dict(trained_parameters(parameter_groups))) if group.world_size > 1 else ""
    group.assert_equal(values, f"{stage.title}, before its first step")
    with group.synchronized():
        strategy.shard(model)
        parameter_groups = list(method.parameter_groups(model))
        check_penalty_inputs(method, parameter_groups, strategy.sharded_parameters, stage.title)
        check_step_hook_inputs(method, parameter_groups, strategy, stage.title)
    return parameter_groups


def _export(
    context: RunContext, stage: Stage, method: InjectionMethod, strategy: TrainingStrategy
) -> dict[str, dict[str, torch.Tensor]]:
    """Export the adapter and, before another stage, the stage state, by kind of entry; then restore the base."""
    from harness.models.loading import tensors_digest
    from harness.training.checkpoint import seed_everything
    from harness.training.hook_checks import validate_tensors

    group, model = context.process_group, context.model
    with group.synchronized(), strategy.gathered():
        outputs = {ADAPTERS: validate_tensors(method.export(model), "export", stage.title)}
        if not stage.is_last:
            seed_everything(stage.seed)  # a resumed training has drawn other numbers by now
            model.module.eval()
            stage_state = method.export_stage_state(model)
            outputs[STAGE_STATE] = validate_tensors(stage_state, "export_stage_state", stage.title)
        values = "".join(map(tensors_digest, outputs.values())) if group.world_size > 1 else ""
    group.assert_equal(values, f"{stage.title}, after its last step")
    with group.synchronized():
        if strategy.invalidates_model:
            context.unload_model()
        else:
            method.detach(model)
            model.module.eval()
            context.verify_base_unchanged(stage.title)
    return outputs


def _store(context: RunContext, stage: Stage, record: Record, outputs: Mapping[str, dict[str, torch.Tensor]]) -> Stage:
    """Store the outputs and the record of a training, in the main process; returns the stage with its record."""
    store, key = context.store, stage.training_key(context.cache_inputs)

    def write() -> Record:
        hashes = {
            RECORD_FIELDS[kind]: store.write_tensors(kind, key, tensors) if tensors or kind == ADAPTERS else ""
            for kind, tensors in outputs.items()
        }
        stored: Record = store.write_json(TRAINING, key, {**record, **hashes})
        store.checkpoint(TRAINING, key).discard()
        return stored

    return dataclasses.replace(stage, record=context.process_group.broadcast_from_main(write))


def _record_of(conversations: Sequence[Conversation], log: TrainingLog, epochs: int) -> Record:
    """What was learned from, and how it went."""
    return {
        "status": "ok",
        "reason": "",
        "conversations": len(conversations),
        "epochs": epochs,
        "branches": dict(sorted(Counter(conversation.branch for conversation in conversations).items())),
        "log": [[step.step, step.loss, step.learning_rate, step.grad_norm] for step in log.steps],
    }


def _cost(log: TrainingLog, prepared_in: float, peak_bytes: int, trained: int) -> dict[str, float | int]:
    return {
        # The log of a resumed training includes the steps before the interruption.
        "training_seconds": prepared_in + sum(step.seconds for step in log.steps),
        "peak_memory_bytes": peak_bytes,
        "trainable_parameters": trained,
        "optimiser_steps": len(log.steps),
        "supervised_tokens": int(sum(step.tokens for step in log.steps)),
    }
