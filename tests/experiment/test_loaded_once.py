"""The base is loaded once for all cells of a run, and what a cell leaves on the disk is its adapter alone."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file

import harness.models.registry
from harness.commands import compare as conductor
from harness.config.settings import Request, resolve
from helpers import small_runs
from methods import base

METHODS = ("lora", "replay", "kore")
ADAPTER = re.compile(r".*\.(lora_[AB]\.weight|(linear_[12])\.(weight|bias))")


class Vandal(base.InjectionMethod):
    """Leaves a mark on the base, which must be loaded anew."""

    def detach(self, model):
        super().detach(model)
        with torch.no_grad():
            next(iter(model.module.parameters())).view(-1)[0] += 1


@pytest.fixture
def loads(monkeypatch):
    """The folders that a model was loaded from, in their order."""
    seen = []
    honest = harness.models.registry.load_model

    def noted(folder, *arguments, **options):
        seen.append(folder)
        return honest(folder, *arguments, **options)

    monkeypatch.setattr(harness.models.registry, "load_model", noted)
    return seen


def run(folder, tiny_folder, methods):
    preset = small_runs.write_preset(folder / "bench", tiny_folder, items=4, old="mini")
    few = ["training.epochs=1"]
    outcome = conductor.compare(Request(methods, resolve(str(preset), few, {}), folder / "run"))
    return {product.cell.name: product.status for product in outcome.outputs}


def test_one_base_serves_all_methods_and_only_adapters_are_stored(short_answers, loads, tmp_path, tiny_folder):
    statuses = run(tmp_path, tiny_folder, METHODS)
    assert statuses == dict.fromkeys(("vanilla", *METHODS), "ok")
    assert len(loads) == 1
    stored = [load_file(path) for path in (tmp_path / "run" / "store" / "adapters").glob("*.safetensors")]
    assert len(stored) == len(METHODS)
    assert all(ADAPTER.fullmatch(name) for tensors in stored for name in tensors)


def test_control_a_base_that_was_changed_is_loaded_again(short_answers, loads, tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))
    base.METHODS["vandal"] = type("Named", (Vandal,), {"name": "vandal", "__module__": Vandal.__module__})
    statuses = run(tmp_path, tiny_folder, ("vandal", "lora"))
    assert statuses == {"vanilla": "ok", "vandal": "failed", "lora": "ok"}
    assert len(loads) == 2
