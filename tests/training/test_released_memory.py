"""A process that trains on batches of varying length does not grow by memory that is free."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from helpers.paths import PYTHONPATH

TRAINING = """
import json, random
from pathlib import Path
import numpy, torch
from harness.config.schema import TrainingSettings
from harness.training import loop
from harness.training.hardware import release_freed_memory

WIDTH, STEPS = 64, loop.RELEASE_EVERY

class Lengths:
    steps, kept = STEPS, []

    def micro_batches(self, step, limit):
        rng = random.Random(step)
        # What a run keeps between its steps, such as pictures and encoded texts, lies between the freed tensors.
        self.kept += [numpy.ones(rng.randrange(1_000, 6_000), numpy.uint8) for _ in range(20)]
        yield {"x": torch.ones(rng.randrange(2_000, 30_000), WIDTH)}

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

def free_but_held(every):
    # MB that the process holds after its last step though they are free.
    loop.RELEASE_EVERY, sizes = every, []
    layers = (layer for _ in range(4) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU()))
    net = torch.nn.Sequential(*layers)
    named = dict(net.named_parameters())
    groups = [{"params": list(named.values()), "names": list(named), "lr": 1e-3}]
    loss = lambda batch: loop.StepLoss(net(batch["x"]).square().sum(), len(batch["x"]))
    options = {"device": torch.device("cpu"), "precision": "float32", "on_step": lambda step: sizes.append(held())}
    loop.fit(Lengths(), loss, groups, TrainingSettings(), **options)
    release_freed_memory()
    return sizes[-1] - held()

print(json.dumps({"never": free_but_held(1_000), "at the last step": free_but_held(STEPS)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries give memory back by themselves")
def test_freed_tensors_are_given_back_to_the_system():
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAINING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    assert held["never"] > 100, "control: nothing is kept here, so the test cannot fail"
    assert held["at the last step"] < 20
