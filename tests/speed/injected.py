"""A method attached to the miniature as in a run, with its batches, for the speed scripts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.data.knowledge import load_knowledge
from harness.config.settings import ResolvedSettings, resolve
from harness.data.inputs import injection_file
from harness.data.pools import open_pools
from harness.experiment.resources import CellResources
from harness.experiment.rows import list_cells
from harness.models.llava import LlavaModel
from harness.storage.store import Store
from harness.training.checkpoint import seed_everything
from harness.training.conversation_batches import ConversationBatches
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
from methods.augmentation.knowledge_tree import published_conversation

CPU = torch.device("cpu")


class FirstSteps:
    """The first steps of a source."""

    def __init__(self, source: Any, steps: int) -> None:
        self._source, self.steps = source, min(steps, source.steps)

    def micro_batches(self, step: int, limit: int) -> Any:
        return self._source.micro_batches(step, limit)


class AttachedMethod:
    """One method with its own model.

    Args:
        name: The method, with its variant if it has one.
        preset: Where the settings come from.
        same_data: Train on the knowledge as published instead of the method's training data.
        second: Use the second of two injection stages, after a few steps of the first.
    """

    def __init__(self, name: str, preset: str = "mini", *, same_data: bool = False, second: bool = False) -> None:
        resolved: ResolvedSettings = resolve(preset)
        self.training = resolved.settings.training
        self.model = LlavaModel.load(resolved.settings.model, CPU, torch.float32)
        _, self._cell = list_cells([name], resolved)
        self._knowledge = load_knowledge(injection_file(resolved.settings))
        data = resolved.settings.data
        self._pools, self._same_data = open_pools(data.calibration, data.replay), same_data
        self._begin((1, 1 + second), {})
        if second:
            self.train(FirstSteps(self.source(), 2))
            earlier = self.method.export(self.model)
            stage_state = self.method.export_stage_state(self.model)
            self.method.detach(self.model)
            self._begin((2, 2), stage_state)
            self.method.load_previous_stage(self.model, earlier)
        self.groups = list(self.method.parameter_groups(self.model))

    def _begin(self, stage: tuple[int, int], stage_state: dict[str, torch.Tensor]) -> None:
        self.method = self._cell.make()
        with tempfile.TemporaryDirectory() as folder:
            store, knowledge = Store(Path(folder)), self._knowledge
            resources = CellResources(0, self._pools, store, {}, stage, stage_state, knowledge=knowledge)
            made = self.method.training_data(self._knowledge, resources)
            self.conversations = [published_conversation(item) for item in self._knowledge] if self._same_data else made
            seed_everything(0)
            self.prepared = self.method.prepare(self.model, resources)
        seed_everything(0)
        self.method.attach(self.model, self.prepared)
        self.groups = list(self.method.parameter_groups(self.model))

    def source(self) -> ConversationBatches:
        """Its batches, with empty caches."""
        self.model._vision_cache, self.model._vision_cache_weights = type(self.model._vision_cache)(), ""
        return ConversationBatches(self.model, self.conversations, self.training, 0)

    def train(self, source: Any, precision: str = "float32") -> Any:
        """Run all steps of the source."""
        objective = InjectionLoss(self.model, self.method)
        return fit(source, objective, self.groups, self.training, device=CPU, precision=precision)
