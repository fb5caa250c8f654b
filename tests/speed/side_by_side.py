"""Shared by the speed scripts: a clock of wall and processor time, fresh models, and a line about the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from harness.models.llava import LlavaModel


class Clock:
    """Seconds of a block: ``wall``, and ``cpu`` of this process with all its threads."""

    wall = cpu = 0.0

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu


def with_empty_caches(model: LlavaModel) -> LlavaModel:
    """The same model with empty caches of texts and pictures."""
    return LlavaModel(model.module, model._tokenizer, model._image_processor, model._config_digest, model.device)


def interleaved(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float, Any]]:
    """Run all sides in turn, ``repeats`` times: median wall and processor seconds of each, and its last result.

    Interleaved, so that other load on the machine affects all of them.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    last: dict[str, Any] = {}
    for _ in range(repeats):
        for name, run in sides.items():
            with Clock() as clock:
                last[name] = run()
            wall[name].append(clock.wall)
            cpu[name].append(clock.cpu)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name]), last[name]) for name in sides}


def header(what: str) -> None:
    """Print what is compared, and on how many threads."""
    print(f"{what}; {torch.get_num_threads()} threads, torch {torch.__version__}; seconds are medians")
