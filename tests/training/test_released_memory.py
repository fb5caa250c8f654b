"""A process that trains on batches of varying length does not grow by memory that is free."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.training.loop import RELEASE_EVERY
from helpers.paths import PYTHONPATH

TRAINING = """
import json, random, sys
from pathlib import Path
import numpy, torch
from harness.config.schema import TrainingSettings
from harness.training import loop
from harness.training.hardware import release_freed_memory

loop.RELEASE_EVERY = int(sys.argv[1])
WIDTH = 64

class Lengths:
    steps, kept = int(sys.argv[2]), []

    def micro_batches(self, step, limit):
        rng = random.Random(step)
        # What a run keeps between its steps, such as pictures and encoded texts, lies between the freed tensors.
        self.kept += [numpy.ones(rng.randrange(1_000, 6_000), numpy.uint8) for _ in range(20)]
        yield {"x": torch.ones(rng.randrange(2_000, 30_000), WIDTH)}

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

net = torch.nn.Sequential(*(layer for _ in range(4) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU())))
named = dict(net.named_parameters())
groups = [{"params": list(named.values()), "names": list(named), "lr": 1e-3}]
loss = lambda batch: loop.StepLoss(net(batch["x"]).square().sum(), len(batch["x"]))
loop.fit(Lengths(), loss, groups, TrainingSettings(), device=torch.device("cpu"), precision="float32")
after = held()
release_freed_memory()
print(json.dumps(after - held()))
"""


def free_but_held(every):
    """MB that a process holds after its last step though they are free."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(every), str(RELEASE_EVERY)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries give memory back by themselves")
def test_freed_tensors_are_given_back_to_the_system():
    assert free_but_held(every=1_000) > 100, "control: nothing is kept here, so the test cannot fail"
    assert free_but_held(RELEASE_EVERY) < 20
