"""How well a base can be taught by text: measured on held-out invented items, before and during stage 4."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.mini.invented.items import InventedItem, InventedWorld
from benchmarks.mini.tasks.scene_factory import SceneFactory
from harness.config.schema import TrainingSettings
from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import EncodedSample, InstructionEncoder, collate, pixel_values
from harness.miniature.extraction import encode_turn
from harness.miniature.losses import AnswerLoss, layer_states
from harness.models.base import Batch
from harness.storage.files import atomic_write
from harness.training.loop import LoggedStep, fit

logger = logging.getLogger(__name__)

HELD_OUT = 983_000
"""Seed of the stream of invented items that are only for measuring."""
ITEMS, EPOCHS, ROWS, RATE = 48, 8, 8, 1e-3
"""Of the short fine-tuning on articles: items, epochs, rows of a step, learning rate."""
ASKED = ("capital", "name")
"""The fields to ask for, as in EVOKE; of news their own field."""


@dataclass(frozen=True)
class Teachability:
    """Percentages."""

    extraction_same: float
    """Facts that only an article states, asked about the same drawing and answered exactly."""
    extraction_other: float
    """The same, asked about another artist's drawing."""
    style_transfer: float
    """Items whose other drawing is nearest to their own first one among all items, by the mean of the features."""


class _Articles:
    """The articles of some items, in a new order in each epoch."""

    def __init__(self, rows: Sequence[EncodedSample], pad: int) -> None:
        self._rows, self._pad = rows, pad
        self.steps = EPOCHS * len(rows) // ROWS

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        order = list(range(len(self._rows)))
        epoch, place = divmod(step * ROWS, len(order))
        random.Random(epoch).shuffle(order)
        yield collate([self._rows[i] for i in order[place : place + ROWS]], self._pad)


class TeachabilityMeasurement:
    """The same measurement for any state of a model.

    Args:
        factory: The old world.
        encoder: Turns samples into token ids.
    """

    def __init__(self, factory: SceneFactory, encoder: InstructionEncoder) -> None:
        self._factory, self._encoder = factory, encoder

    @cached_property
    def items(self) -> list[InventedItem]:
        """The held-out items."""
        world = InventedWorld(self._factory, HELD_OUT)
        return [world.item(index) for index in range(ITEMS)]

    def __call__(self, architecture: MiniArchitecture) -> Teachability:
        """Measure; the model is not changed, and no random number is drawn."""
        random_numbers = torch.get_rng_state()
        taught = copy.copy(architecture)
        taught.model = copy.deepcopy(architecture.model)
        style = self._style_transfer(taught)
        decoder = [
            (name, parameter)
            for name, parameter in taught.model.named_parameters()
            if not taught.in_tower(name) and not name.startswith(taught.projector)
        ]
        groups = [{"params": [one for _, one in decoder], "names": [name for name, _ in decoder], "lr": RATE}]
        rows = [encode_turn(self._encoder, item.prompt, item.article, item.pictures[0]) for item in self.items]
        settings = TrainingSettings(micro_batch=ROWS)
        fit(
            _Articles(rows, self._encoder.pad),
            AnswerLoss(taught),
            groups,
            settings,
            device=torch.device("cpu"),
            title="taught",
        )
        same, other = (self._answered(taught, picture) for picture in (0, 1))
        torch.set_rng_state(random_numbers)
        return Teachability(same, other, style)

    @torch.no_grad()
    def _style_transfer(self, architecture: MiniArchitecture) -> float:
        first, second = (
            functional.normalize(
                architecture.image_features(pixel_values([item.pictures[i] for item in self.items])).mean(1), dim=-1
            )
            for i in (0, 1)
        )
        nearest = (second @ first.T).argmax(-1)
        return 100 * float((nearest == torch.arange(len(nearest))).float().mean())

    @torch.no_grad()
    def _answered(self, architecture: MiniArchitecture, picture: int) -> float:
        """Percentage of questions whose answer is the most likely token at each place."""
        rng = random.Random(HELD_OUT)
        rows = []
        for item in self.items:
            fields = [field for field, _ in item.facts[:1]] if item.family == "news" else ASKED
            for field, value in item.facts:
                if field in fields:
                    asked = item.question(rng, field)
                    rows.append(encode_turn(self._encoder, asked, value, item.pictures[picture]))
        right = 0
        for row in rows:
            batch = collate([row], self._encoder.pad)
            states, _ = layer_states(architecture, batch)
            said = architecture.model.lm_head(states[-1][:, :-1]).argmax(-1)
            wrong = (said != batch["input_ids"][:, 1:]) & (batch["weights"][:, 1:] > 0)
            right += not bool(wrong.any())
        return 100 * right / len(rows)


class Measurements:
    """Measurements during a training, kept in a file, so that those before an interruption are not lost.

    Args:
        measure: Measures a model.
        architecture: The model that is trained.
        path: The JSON file: step -> values.
    """

    def __init__(self, measure: TeachabilityMeasurement, architecture: MiniArchitecture, path: Path) -> None:
        self._measure, self._architecture, self._path = measure, architecture, path
        self.taken: dict[str, dict[str, float]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def after(self, every: int, steps: int) -> Callable[[LoggedStep], None]:
        """A callback for ``fit`` that measures after each ``every``-th step and after the last of ``steps``."""

        def measure(logged: LoggedStep) -> None:
            if (logged.step + 1) % every == 0 or logged.step + 1 == steps:
                self.take(logged.step + 1)

        return measure

    def take(self, step: int) -> None:
        """Measure after ``step`` steps, unless the file has that already, and log the values."""
        if str(step) in self.taken:
            return
        values = dataclasses.asdict(self._measure(self._architecture))
        self.taken[str(step)] = {name: round(value, 1) for name, value in values.items()}
        atomic_write(self._path, json.dumps(self.taken, indent=1) + "\n")
        logger.info("after %d steps: %s", step, self.taken[str(step)])
