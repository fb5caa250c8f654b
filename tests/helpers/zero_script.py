"""Train tiny models, alone or with the other processes that were launched with this one.

    python zero_drill.py OUT KIND:ROW[:HOW] ...

KIND is none, zero2 or zero3. HOW is ``stopped``: the training stops after its third step, and goes on in a new model;
``halved``: the gradient is divided by twice the tokens; ``deaf``: both processes learn from the first one's rows;
``fails``: the second process fails in its third pass. The first process writes ``OUT/KIND:ROW[:HOW].safetensors`` (what
was learnt in both stages) and ``.json`` (the log, how far the parameters moved, and what went wrong).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.conformance.fakes import CPU, FakeResources, fresh_model
from harness.distributed.process_group import init_process_group
from harness.experiment.train import seed_everything
from harness.training.conversation_batches import ConversationBatches, InjectionLoss
from harness.training.hook_checks import check_penalty_inputs
from harness.training.loop import TrainingSettings, fit
from harness.training.strategies.factory import training_strategy
from harness.training.strategies.zero import ZeroStrategy
from helpers.tiny import conversation, knowledge
from methods.full_ft import FullFT
from methods.registry import registered

SMALL = {
    "rank": 4,
    "alpha": 8.0,
    "learning_rate": 1e-2,
    "projector_learning_rate": 1e-3,
    "fisher_samples": 4,
    "experts": 2,
}
SETTINGS = TrainingSettings(epochs=2, batch_size=5, micro_batch=2, warmup=0.0, clip_norm=1.0, save_every=0.0)
STOP = 3
"""Steps after which a training is stopped."""


class Springs(FullFT):
    """Full fine-tuning whose penalty reads what is trained."""

    name = "springs"
    summary = "a penalty over the base's own weights"

    def penalty(self, model, batch, logits):
        return sum(
            (weight.square().sum() for weight in model.module.parameters() if weight.requires_grad), 0.0 * logits.sum()
        )


class Stopped(Exception):
    """The training was stopped."""


class Folder:
    """A checkpoint on the disk, which all processes see."""

    def __init__(self, folder: Path) -> None:
        self._tensors, self._state = folder / "state.safetensors", folder / "state.json"

    def save(self, tensors, state):
        self._tensors.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, self._tensors)
        self._state.write_text(json.dumps(state))

    def load(self):
        return (load_file(self._tensors), json.loads(self._state.read_text())) if self._state.exists() else None

    def discard(self):
        self._state.unlink(missing_ok=True)


def samples(stage: int):
    """Eleven conversations; some have no picture, so that a process may meet none in a step."""
    return [conversation(100 * stage + i, words=2 + i % 4, pictures=int(i % 3 > 0)) for i in range(11)]


class Room:
    """What the processes do together."""

    def __init__(self, out: Path) -> None:
        self.out, self.process_group = out, init_process_group()

    def row(self, name: str) -> None:
        kind, row, how = (name + ":").split(":")[:3]
        learnt, log, moved, stage_state, earlier = {}, [], [], {}, None
        wrong = ""
        try:
            for stage in (1, 2):
                earlier, stage_state, steps, way = self.stage(kind, row, how, stage, stage_state, earlier)
                learnt |= {f"{stage}/{key}": tensor.contiguous() for key, tensor in earlier.items()}
                log += [dataclasses.asdict(step) for step in steps]
                moved.append(way)
        except UserError as error:
            wrong = str(error)
        if self.process_group.is_main_process:
            save_file(learnt, self.out / f"{name}.safetensors")
            (self.out / f"{name}.json").write_text(json.dumps({"log": log, "moved": moved, "wrong": wrong}))

    def stage(self, kind, row, how, stage, stage_state, earlier):
        stopped = how == "stopped"
        folder = Folder(self.out / "states" / f"{kind} {row} {stage}") if stopped else None
        for last in (STOP, None) if stopped else (None,):
            seed_everything(0)
            model, around = fresh_model(), FakeResources(0, {}, stage, stage_state)
            model.base_parameters = tuple(model.module.parameters())
            method = made(row)
            method.training_data(knowledge(4), around)
            prepared = method.prepare(model, around)
            seed_everything(0)
            method.attach(model, prepared)
            if earlier is not None:
                method.load_previous_stage(model, earlier)
            if how == "fails" and self.process_group.rank == 1:
                method.penalty = Failing()
            start = trained(method, model)
            shared = Halved(self.process_group) if how == "halved" else training_strategy(kind, self.process_group)
            shared.spread(model)
            check_penalty_inputs(method, list(method.parameter_groups(model)), shared.sharded_parameters, row)
            share = (0 if how == "deaf" else self.process_group.rank, self.process_group.world_size)
            try:
                log = learn(model, method, shared, stage, folder, last, share)
            except Stopped:
                continue
            with shared.whole():
                end = trained(method, model)
                way = sum(float((end[name] - start[name]).double().square().sum()) for name in start) ** 0.5
                exported = {key: tensor.detach().clone() for key, tensor in method.export(model).items()}
                model.module.eval()
                return exported, method.export_stage_state(model), log.steps, way
        raise AssertionError("stopped for good")


class Halved(ZeroStrategy):
    """ZeRO-2 that makes every gradient half as long."""

    def gradient(self, tokens):
        return super().gradient(2 * tokens)


class Failing:
    """A penalty that fails when it is asked for the third time."""

    asked = 0

    def __call__(self, model, batch, logits):
        self.asked += 1
        if self.asked == 3:
            raise ValueError("no luck here")
        return None


def trained(method, model):
    pairs = (zip(group["names"], group["params"], strict=True) for group in method.parameter_groups(model))
    return {name: weight.detach().clone() for pair in pairs for name, weight in pair}


def learn(model, method, shared, stage, folder, last, share):
    def watch(step):
        if last is not None and step.step + 1 == last:
            raise Stopped

    return fit(
        ConversationBatches(model, samples(stage), SETTINGS, stage, share),
        InjectionLoss(model, method),
        list(method.parameter_groups(model)),
        SETTINGS,
        device=CPU,
        precision="float32",
        checkpoint=folder,
        on_step=watch,
        training_strategy=shared,
    )


def made(row: str):
    kind = registered()[row]
    fields = {field.name for field in dataclasses.fields(kind.Settings)}
    return kind(kind.Settings(**{key: value for key, value in SMALL.items() if key in fields}))


if __name__ == "__main__":
    fresh_model()  # written while this process is alone: together, transformers has but one process write
    room = Room(Path(sys.argv[1]))
    for asked in sys.argv[2:]:
        room.row(asked)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
