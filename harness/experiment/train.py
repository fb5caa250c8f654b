"""Train one step of a cell: conversations, statistics, adapter, loop; what comes of it is stored with its record."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.experiment.cell import ADAPTERS, TRAINING
from harness.experiment.context import Untrue, Workshop
from harness.experiment.resources import CellResources
from harness.experiment.stages import CARRIED, Step
from harness.storage.store import Recipe, digest
from harness.training.hardware import Meter

if TYPE_CHECKING:
    import torch

    from benchmarks.records import Conversation
    from harness.models.base import LanguageVisionModel
    from harness.training.loop import TrainingLog
    from harness.training.strategies.ddp import Sharing
    from methods.base import InjectionMethod

Record = dict[str, Any]
"""The stored record of a training: status, reason, adapter's sha256, log, cost, figures; with several stages also the
sha256 of what the method hands on."""


def stored_training(workshop: Workshop, step: Step) -> Record | None:
    """The record of a training that ended, well or diverged."""
    found = workshop.store.read_json(TRAINING, step.recipe(workshop.ground))
    return None if found is None else dict(found)


def train(workshop: Workshop, step: Step) -> Record:
    """Train a step from its last checkpoint on, store what came of it, and leave the base as it was.

    Raises:
        OutOfMemory: One row is too much.
        UserError: The method asks for what is not there.
    """
    from harness.training.loop import Diverged

    recipe = step.recipe(workshop.ground)
    try:
        record = _fit(workshop, step, recipe)
    except Diverged as error:
        # The same training diverges again: the record spares the next run from trying.
        workshop.drop_model()
        record = {"status": "diverged", "reason": _told(step, error), "adapter": ""}

    def keep() -> Record:
        stored = workshop.store.write_json(TRAINING, recipe, record)
        workshop.store.checkpoint(TRAINING, recipe).discard()
        return dict(stored)

    return dict(workshop.crew.agreed(keep))


def _told(step: Step, error: Exception) -> str:
    """The first line of an error, and the stage where there are several."""
    line = str(error).splitlines()[0]
    return line if step.of == 1 else f"stage {step.number} of {step.of}: {line}"


def _fit(workshop: Workshop, step: Step, recipe: Recipe) -> Record:
    from harness.training.conversation_batches import InjectionObjective, InjectionSource
    from harness.training.loop import fit
    from harness.training.strategies.ddp import sharing

    meter, crew = Meter(workshop.device), workshop.crew
    settings, method = workshop.training_of(step.cell), step.cell.make()
    with crew.together(leader_first=True):
        model = workshop.model
        conversations, prepared = _begin(workshop, step, method, model)
        workshop.say(f"{step.title}: {len(conversations)} conversations to train on")
        prepared_in = meter.seconds
    shared = sharing(workshop.ground.sharding, crew)
    groups = _put_in_place(workshop, step, method, model, prepared, shared)
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    seed_everything(step.seed + 1_000_003 * crew.place)  # each process draws its own dropout
    with workshop.trackers.losses(step.title, dataclasses.asdict(method.settings)) as on_step:
        log = fit(
            InjectionSource(model, conversations, settings, step.seed, (crew.place, crew.count)),
            InjectionObjective(model, method),
            groups,
            settings,
            device=workshop.device,
            checkpoint=workshop.store.checkpoint(TRAINING, recipe),
            precision=workshop.ground.precision,
            on_step=on_step,
            title=step.title,
            sharing=shared,
        )
    with crew.together(), shared.whole():
        left = _left_behind(step, method, model)
        values = "".join(map(_digest, left.values())) if crew.count > 1 else ""
    crew.same(values, f"{step.title}, after its last step")
    with crew.together():
        if shared.spoils:
            workshop.drop_model()
        else:
            method.detach(model)
            model.module.eval()
            workshop.check_base(step.title)
    return {
        "status": "ok",
        "reason": "",
        "conversations": len(conversations),
        "log": [[step.step, step.loss, step.learning_rate, step.grad_norm] for step in log.steps],
        "cost": {**_cost(log, prepared_in, meter.peak_bytes, trained), "processes": crew.count},
        "figures": method.figures(prepared),
        **_stored(workshop, step, recipe, left),
    }


def _begin(
    workshop: Workshop, step: Step, method: InjectionMethod, model: LanguageVisionModel
) -> tuple[list[Conversation], dict[str, torch.Tensor]]:
    """What to learn from, and the method's statistics of the untouched base."""
    resources = cell_resources(workshop, step)
    conversations = method.training_data(step.knowledge, resources)
    seed_everything(step.seed)
    return conversations, method.prepare(model, resources)


def _put_in_place(
    workshop: Workshop,
    step: Step,
    method: InjectionMethod,
    model: LanguageVisionModel,
    prepared: dict[str, torch.Tensor],
    shared: Sharing,
) -> list[dict[str, Any]]:
    """Attach the method, and leave each process its part of the weights; gives the parameter groups."""
    from harness.training.hook_checks import readable, something_trains

    crew = workshop.crew
    with crew.together():
        seed_everything(step.seed)  # again, for statistics from the store draw no random numbers
        method.attach(model, prepared)
        if step.earlier is not None:
            method.go_on(model, _left(workshop, step, ADAPTERS, step.earlier.adapter))
        something_trains(list(method.parameter_groups(model)), step.title)
        values = _values(method.parameter_groups(model)) if crew.count > 1 else ""
    crew.same(values, f"{step.title}, before its first step")
    with crew.together():
        shared.spread(model)
        groups = list(method.parameter_groups(model))
        readable(method, groups, shared.parted, step.title)
    return groups


def _left_behind(step: Step, method: InjectionMethod, model: LanguageVisionModel) -> dict[str, dict[str, torch.Tensor]]:
    """The adapter and, where a stage follows, what is handed on to it; by the kind of entry that it becomes.

    Raises:
        UserError: It is something else than tensors by name, or not finite.
    """
    from harness.training.hook_checks import storable

    left = {ADAPTERS: storable(method.export(model), "export", step.title)}
    if not step.last:
        seed_everything(step.seed)  # a resumed training has drawn other numbers by now
        model.module.eval()
        left[CARRIED] = storable(method.after_training(model), "after_training", step.title)
    return left


def _stored(
    workshop: Workshop, step: Step, recipe: Recipe, left: Mapping[str, dict[str, torch.Tensor]]
) -> dict[str, str]:
    """Sha256 of what the leader stores, for the record; of nothing where nothing is handed on."""
    if not workshop.crew.leads:
        return {}
    store, carried = workshop.store, left.get(CARRIED)
    record = {"adapter": store.write_tensors(ADAPTERS, recipe, left[ADAPTERS])}
    if carried is not None:
        record["carried"] = store.write_tensors(CARRIED, recipe, carried) if carried else ""
    return record


def _values(groups: Iterable[Mapping[str, Any]]) -> str:
    """Sha256 of all that is trained."""
    pairs = (zip(group["names"], group["params"], strict=True) for group in groups)
    return _digest({name: value for pair in pairs for name, value in pair})


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 of tensors by name."""
    from harness.models.loading import tensors_digest

    return tensors_digest(tensors)


def _left(workshop: Workshop, step: Step, kind: str, sha256: str) -> dict[str, torch.Tensor]:
    """What the stage before left in the store.

    Raises:
        Untrue: It is not there, or it is not what this stage's recipe says.
    """
    if step.earlier is None or not sha256:
        return {}
    found = workshop.store.read_tensors(kind, step.earlier.recipe)
    if found is None or workshop.store.content_digest(kind, step.earlier.recipe) != sha256:
        raise Untrue(
            "what the stage before left was lost", where=step.title, mend="run the command again; it is trained again"
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


def cell_resources(workshop: Workshop, step: Step) -> CellResources:
    """What the method may ask for. Cached statistics depend on the base, the old data and the method's code."""
    ground, identity, seed = workshop.ground, step.cell.identity(), step.cell.seed
    context = {
        "base": ground.base,
        "old_data": digest([ground.old_data, seed]),
        "code": identity["code"],
        "device": ground.device,
        "precision": ground.precision,
    }
    carried = _left(workshop, step, CARRIED, step.earlier.carried) if step.earlier else {}
    old, inputs = workshop.sources.old, workshop.sources.inputs
    return CellResources(seed, old, workshop.store, context, (step.number, step.of), carried, inputs)


def seed_everything(seed: int) -> None:
    """Give every random generator a known state."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # methods of other authors may draw from it
    torch.manual_seed(seed)
