"""The real vLLM on a CPU: the same answers as the built-in engine, a broken adapter, a killed process."""

from __future__ import annotations

import importlib.util
import os
import signal

import pytest
import torch

from harness.commands.compare import compare
from harness.config.settings import Request, resolve
from harness.models.batched_generation import GeneratorEnded
from harness.models.llava import LlavaModel
from harness.serving import prompts
from harness.serving.adapter import served_adapter
from harness.serving.engine import ServedEngine
from harness.serving.generator import VllmGenerator
from harness.serving.parity import compare_engines
from harness.serving.spec import engine_spec
from helpers import small_runs
from helpers.missing_libraries import replace_missing_libraries
from helpers.plain_loop import attach, make
from helpers.tiny import questions, write_tiny_model
from helpers.tiny_architectures import ARCHITECTURES, write
from methods.components.lora_layers import lora_ab, lora_layers, saved_modules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (the extra vllm)"),
]
SERVED = ("qwen2-vl", "llava-siglip")
"""Architectures of the generic family that vLLM serves, whatever the pictures (docs/models.md has the others)."""
LONGEST = 700
"""Tokens, more than the window of 512 that the tiny model has."""
HEAD = 32
"""The narrowest attention head that vLLM has on a CPU."""


@pytest.mark.parametrize("preset", ["mini", "mini-qwen"])
def test_a_comparison_has_the_same_answers_by_both_engines(preset, tmp_path):
    def run(out, *sets):
        shared = ["training.epochs=1", 'benchmarks=["mini-EVOKE", "mini-MME", "mini-MMDU", "mini-MMMU"]', *sets]
        return compare(Request(("kore", "lora"), resolve(preset, shared, {"limit": 8}), tmp_path / out))

    ours, theirs = run("built-in"), run("vllm", "answering.engine=vllm")
    assert {cell.label: cell.answering.reason for cell in theirs.run.cells} == dict.fromkeys(
        ("vanilla", "kore", "lora"), ""
    )
    assert all(cell.answering.engine.startswith("vllm ") for cell in theirs.run.cells)
    for mine, other in zip(ours.outputs, theirs.outputs, strict=True):
        assert {name: each.answers for name, each in mine.answers.items()} == {
            name: each.answers for name, each in other.answers.items()
        }
    numbers = [
        {cell.label: {name: score.metrics for name, score in cell.scores.items()} for cell in result.run.cells}
        for result in (ours, theirs)
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.usefixtures("short_answers")
def test_every_architecture_has_the_same_answers_by_both_engines(name, tmp_path):
    """Those that vLLM cannot serve fall back, and say why; some of them do so for other pictures only."""
    replace_missing_libraries()
    preset = small_runs.write_preset(tmp_path, write(name, tmp_path / "model", one_head=True), items=4, old="mini")

    def run(out, *sets):
        return compare(Request(("lora",), resolve(str(preset), sets, {}), tmp_path / out))

    ours, theirs = run("built-in"), run("vllm", "answering.engine=vllm")
    for cell in theirs.run.cells:
        served = cell.answering.engine.startswith("vllm ")
        assert served == (cell.answering.reason == "")
        assert served or name not in SERVED
    for mine, other in zip(ours.outputs, theirs.outputs, strict=True):
        assert mine.answers["mini-EVOKE"].answers == other.answers["mini-EVOKE"].answers


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A random model with a trained adapter and projector, and the engine that serves it."""
    folder = write_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=2 * HEAD)
    model = LlavaModel.load(folder, torch.device("cpu"), torch.float32)
    attach(make("lora"), model)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, layer in lora_layers(model.module):
            for factor in lora_ab(layer):
                factor.copy_(torch.randn(factor.shape, generator=draw) / 5)
        for wrapper in saved_modules(model.module).values():
            for weight in wrapper.modules_to_save["default"].parameters():
                weight.add_(torch.randn(weight.shape, generator=draw) / 10)
    model.module.eval()
    scratch = tmp_path_factory.mktemp("scratch")
    spec = engine_spec(model, folder, 8, LONGEST, served_adapter(model), scratch)
    with ServedEngine(spec, scratch / "vllm.log") as engine:
        yield model, engine


def test_the_right_adapter_passes_and_one_without_its_projector_does_not(adapted, monkeypatch):
    model, engine = adapted
    asked = [(None, questions(24, seed=2))]
    found = compare_engines(model, VllmGenerator(model, engine), asked, 8, exact=True)
    assert found.problem == ""
    assert (found.asked, found.differing) == (24, 0)
    embeddings = prompts._embeddings

    def without_projector(*arguments):
        for wrapper in saved_modules(model.module).values():
            wrapper.enable_adapters(False)
        try:
            return embeddings(*arguments)
        finally:
            for wrapper in saved_modules(model.module).values():
                wrapper.enable_adapters(True)

    monkeypatch.setattr(prompts, "_embeddings", without_projector)
    assert "differ" in compare_engines(model, VllmGenerator(model, engine), asked, 8, exact=True).problem


def test_an_adapter_that_is_not_the_attached_one_does_not_pass(adapted):
    model, engine = adapted
    layers = [lora_ab(layer)[1] for _, layer in lora_layers(model.module)]
    try:
        for b in layers:
            b.data.mul_(1.5)
        found = compare_engines(model, VllmGenerator(model, engine), [(None, questions(8, seed=2))], 8, exact=True)
    finally:
        for b in layers:
            b.data.div_(1.5)
    assert "log-probabilities differ" in found.problem


def test_a_prompt_beyond_the_window_is_answered_alike_and_one_beyond_what_was_asked_for_refused(adapted):
    model, engine = adapted
    generator = VllmGenerator(model, engine)
    short, long = (["Is this a cat?"], []), (["Is this a cat? " * 400], [])
    beyond = ["Is this a cat? " * 120], []
    assert 512 < model.prompt_length(*beyond) < LONGEST - 4
    both = model.generate(model.generation_batch([beyond]), 4)
    assert generator([beyond], model.vision_cache(), [""], [4], [None]) == both
    with pytest.raises(RuntimeError, match="vLLM: "):
        generator([short, long], model.vision_cache(), ["", ""], [4, 4], [None, None])
    assert generator([short], model.vision_cache(), [""], [4], [None]) == model.generate(
        model.generation_batch([short]), 4
    )


def test_a_killed_process_is_a_clear_error_and_leaves_nothing(adapted):
    """The last test: it ends the engine of the others."""
    model, engine = adapted
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(GeneratorEnded, match="has ended"):
        VllmGenerator(model, engine)([(["Is this a cat?"], [])], model.vision_cache(), [""], [4], [None])
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(engine.pid, 0)
