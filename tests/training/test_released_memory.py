"""Memory that a training frees: later steps use it again, and what they do not use goes back to the system."""

from __future__ import annotations

import json
import os
import platform
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

FAULTS = """
import resource, statistics
import torch
from harness.config.schema import TrainingSettings
from harness.training import loop

class Equal:
    steps = loop.RELEASE_EVERY - 1

    def micro_batches(self, step, limit):
        yield {"x": torch.ones(32_000, 64)}  # 8 MB in each layer

net = torch.nn.Sequential(*(layer for _ in range(4) for layer in (torch.nn.Linear(64, 64), torch.nn.GELU())))
named, faults = dict(net.named_parameters()), []
groups = [{"params": list(named.values()), "names": list(named), "lr": 1e-3}]
loss = lambda batch: loop.StepLoss(net(batch["x"]).square().sum(), len(batch["x"]))
count = lambda step: faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
loop.fit(Equal(), loss, groups, TrainingSettings(), device=torch.device("cpu"), precision="float32", on_step=count)
print(statistics.median(later - earlier for earlier, later in zip(faults, faults[1:])))
"""


def mapped_pages(**environment):
    """Pages of 4 kB that the system maps in a step of a training: the median, since the heap still grows in some."""
    own = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    own |= {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=own, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries manage memory in other ways")
def test_a_step_uses_the_memory_of_the_step_before():
    # Control: a threshold of the environment stays, and with this one every tensor is mapped anew.
    assert mapped_pages(MALLOC_MMAP_THRESHOLD_="131072") > 10_000
    assert mapped_pages() < 100


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries give memory back by themselves")
def test_freed_tensors_are_given_back_to_the_system():
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAINING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    assert held["never"] > 100, "control: nothing is kept here, so the test cannot fail"
    assert held["at the last step"] < 20
