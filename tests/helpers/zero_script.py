"""Train tiny models, alone or with the other processes that were launched with this one.

    python zero_script.py OUT KIND:ROW[:HOW] ...

KIND is none, zero2 or zero3. HOW is ``stopped``: the training stops after its third step and continues in a new model;
``halved``: the gradient is divided by twice the tokens; ``same-rows``: both processes train on the first one's rows;
``fails``: the second process fails in its third pass. Rank 0 writes ``OUT/KIND:ROW[:HOW].safetensors`` (the exports of
both stages) and ``.json`` (the log, how far the parameters moved, and the error).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.config.schema import TrainingSettings
from harness.conformance.fakes import CPU, FakeResources, fresh_model
from harness.distributed.process_group import init_process_group
from harness.training.checkpoint import seed_everything
from harness.training.conversation_batches import ConversationBatches
from harness.training.hook_checks import check_penalty_inputs
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
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


class QuadraticPenalty(FullFT):
    """Full fine-tuning with a penalty over the trained parameters."""

    name = "quadratic"
    summary = "a penalty over the base's own weights"

    def penalty(self, model, batch, logits):
        return sum(
            (weight.square().sum() for weight in model.module.parameters() if weight.requires_grad), 0.0 * logits.sum()
        )


class Stopped(Exception):
    """Interrupts a training."""


class Folder:
    """A checkpoint on disk, which all processes read."""

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
    """Eleven conversations, some without a picture, so that a process may have no picture in a step."""
    return [conversation(100 * stage + i, words=2 + i % 4, pictures=int(i % 3 > 0)) for i in range(11)]


class Trainer:
    """Trains rows in all processes together."""

    def __init__(self, out: Path) -> None:
        self.out, self.process_group = out, init_process_group()

    def row(self, name: str) -> None:
        kind, row, how = (name + ":").split(":")[:3]
        exported, log, moved, stage_state, earlier = {}, [], [], {}, None
        wrong = ""
        try:
            for stage in (1, 2):
                earlier, stage_state, steps, distance = self.stage(kind, row, how, stage, stage_state, earlier)
                exported |= {f"{stage}/{key}": tensor.contiguous() for key, tensor in earlier.items()}
                log += [dataclasses.asdict(step) for step in steps]
                moved.append(distance)
        except UserError as error:
            wrong = str(error)
        if self.process_group.is_main_process:
            save_file(exported, self.out / f"{name}.safetensors")
            (self.out / f"{name}.json").write_text(json.dumps({"log": log, "moved": moved, "wrong": wrong}))

    def stage(self, kind, row, how, stage, stage_state, earlier):
        stopped = how == "stopped"
        folder = Folder(self.out / "states" / f"{kind} {row} {stage}") if stopped else None
        for last in (STOP, None) if stopped else (None,):
            seed_everything(0)
            model, resources = fresh_model(), FakeResources(0, {}, stage, stage_state)
            model.base_parameters = tuple(model.module.parameters())
            method = make_method(row)
            method.training_data(knowledge(4), resources)
            prepared = method.prepare(model, resources)
            seed_everything(0)
            method.attach(model, prepared)
            if earlier is not None:
                method.load_previous_stage(model, earlier)
            if how == "fails" and self.process_group.rank == 1:
                method.penalty = Failing()
            start = trained(method, model)
            strategy = Halved(self.process_group) if how == "halved" else training_strategy(kind, self.process_group)
            strategy.shard(model)
            check_penalty_inputs(method, list(method.parameter_groups(model)), strategy.sharded_parameters, row)
            share = (0 if how == "same-rows" else self.process_group.rank, self.process_group.world_size)
            try:
                log = fit_stage(model, method, strategy, stage, folder, last, share)
            except Stopped:
                continue
            with strategy.gathered():
                end = trained(method, model)
                distance = sum(float((end[name] - start[name]).double().square().sum()) for name in start) ** 0.5
                exported = {key: tensor.detach().clone() for key, tensor in method.export(model).items()}
                model.module.eval()
                return exported, method.export_stage_state(model), log.steps, distance
        raise AssertionError("stopped twice")


class Halved(ZeroStrategy):
    """ZeRO-2 that halves every gradient."""

    def reduce_and_clip(self, tokens):
        return super().reduce_and_clip(2 * tokens)


class Failing:
    """A penalty that fails at the third call."""

    calls = 0

    def __call__(self, model, batch, logits):
        self.calls += 1
        if self.calls == 3:
            raise ValueError("no luck here")
        return None


def trained(method, model):
    pairs = (zip(group["names"], group["params"], strict=True) for group in method.parameter_groups(model))
    return {name: weight.detach().clone() for pair in pairs for name, weight in pair}


def fit_stage(model, method, strategy, stage, folder, last, share):
    def stop(step):
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
        on_step=stop,
        strategy=strategy,
    )


def make_method(row: str):
    method = registered()[row]
    fields = {field.name for field in dataclasses.fields(method.Settings)}
    return method(method.Settings(**{key: value for key, value in SMALL.items() if key in fields}))


if __name__ == "__main__":
    fresh_model()  # written before the process group exists: in a group, transformers lets only one process write
    trainer = Trainer(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        trainer.row(name)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
