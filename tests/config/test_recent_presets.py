"""The presets of models that the KORE paper does not have: each setting is that of the source that its file names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.aggregate import TWELVE
from benchmarks.registry import get_benchmark
from harness.config.method_settings import method_settings
from harness.config.schema import PictureSettings
from harness.config.settings import resolve
from harness.data.requirements import MODELS
from harness.models.registry import target_shapes
from harness.presets import FOLDER
from helpers.shapes import write_shapes

VLMEVALKIT = Path(str(importlib.util.find_spec("vlmeval").submodule_search_locations[0]))
"""Its files are read as text, because importing it takes seconds."""
# Learning rate, weight decay and warmup of the recipes that the files name; new tokens of most benchmarks.
RECENT = {
    "qwen2.5-vl-3b": (1e-4, 0.0, 0.1, None),
    "qwen3-vl-4b": (1e-4, 0.0, 0.1, 4096),
    "internvl3.5-4b": (4e-5, 0.01, 0.03, 4096),
    "gemma-3-4b": (2e-4, 0.0, 0.03, 4096),
}
LAYERS = {"qwen2.5-vl-3b": 36, "qwen3-vl-4b": 36, "internvl3.5-4b": 36, "gemma-3-4b": 34}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home with nothing in it."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("name", RECENT)
def test_the_recipe_is_that_of_the_named_source(name):
    resolved = resolve(name, ["kore.data=evoke"])
    settings = resolved.settings
    rate, decay, warmup, tokens = RECENT[name]
    for method in ("lora", "replay", "ewc", "lwf", "o-lora", "sefe"):
        values = method_settings(resolved, method).values
        assert (values.learning_rate, values.weight_decay, values.rank, values.alpha) == (rate, decay, 128, 256)
        assert values.projector_learning_rate == 0
    assert (settings.training.warmup, settings.training.epochs, settings.training.batch_size) == (warmup, 6, 192)
    assert settings.training.batch_size % settings.training.micro_batch == 0
    assert settings.benchmarks == ("EVOKE", *TWELVE)
    assert (settings.protocol, settings.data.published, settings.precision) == ("vlmevalkit", True, "bfloat16")
    limit = settings.answering.new_tokens
    assert [limit("EVOKE"), limit("MME"), limit("MathVista")] == [None if tokens is None else 128, tokens, tokens]
    assert limit("MMDU") == (512 if name.startswith("internvl") else tokens)


@pytest.mark.parametrize("name", RECENT)
def test_ranks_by_parity_train_as_much_as_lora(name, tmp_path):
    shapes = target_shapes(write_shapes(tmp_path / "model", name))
    assert len(shapes) == 7 * LAYERS[name]
    resolved = resolve(name, ["kore.data=evoke"])
    kore, moelora = (
        method_settings(resolved, *row.split(":"), layers=lambda: shapes).values for row in ("kore", "moelora:parity")
    )
    lora = 128 * sum(d_in + d_out for d_in, d_out in shapes)
    assert kore.rank * sum(d_out for _, d_out in shapes) == pytest.approx(lora, rel=0.01)
    routers = sum(d_in for d_in, _ in shapes) * moelora.experts
    assert moelora.rank * sum(d_in + d_out for d_in, d_out in shapes) + routers == pytest.approx(lora, rel=0.03)


@pytest.mark.parametrize("name", RECENT)
def test_every_setting_that_is_not_the_paper_s_has_its_source_beside_it(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert "there are no rows to compare" in text
    for source in ("vlmeval/", "KORE", "qwen2.5-vl-7b"):
        assert source in text
    assert {"qwen": "LLaMA-Factory", "inte": "2nd_finetune_lora.sh", "gemm": "ai.google.dev"}[name[:4]] in text
    assert resolve(name).settings.model.parts[-3].replace("models--", "").replace("--", "/") in MODELS


def test_pictures_and_new_tokens_are_those_of_vlmevalkit():
    config = (VLMEVALKIT / "config.py").read_text()

    def entry(name):
        return config.partition(f'"{name}": partial(')[2].partition("),")[0]

    assert "min_pixels=1280 * 28 * 28,\n        max_pixels=16384 * 28 * 28," in entry("Qwen2.5-VL-3B-Instruct")
    for name in ("qwen2.5-vl-3b", "qwen3-vl-4b"):
        assert resolve(name).settings.answering.pictures.adaptation == PictureSettings()
        assert resolve(name).settings.pictures.max_pixels == 262144
    bounds = PictureSettings(min_pixels=1280 * 28 * 28, max_pixels=16384 * 28 * 28)
    assert resolve("qwen2.5-vl-3b").settings.answering.pictures.retention == bounds
    assert "pixels" not in entry("Qwen3-VL-4B-Instruct")
    assert "max_new_tokens=16384" in entry("Qwen3-VL-4B-Instruct")
    bounds = PictureSettings(min_pixels=4 * 32 * 32, max_pixels=16384 * 32 * 32)
    assert resolve("qwen3-vl-4b").settings.answering.pictures.retention == bounds
    internvl = (VLMEVALKIT / "vlm/internvl/internvl_chat.py").read_text()
    assert "kwargs_default = dict(do_sample=False, max_new_tokens=4096" in internvl
    assert "max_new_tokens=512" in internvl.partition("def chat_inner(")[2]
    assert "'max_new_tokens': 4096" in (VLMEVALKIT / "vlm/gemma.py").read_text().partition("class Gemma3(")[2]


def test_new_tokens_reach_the_questions_protocol(tmp_path):
    """What a preset sets is what the benchmark is asked with, and is in its signature."""
    limit = resolve("internvl3.5-4b").settings.answering.new_tokens
    for name, expected in (("EVOKE", 128), ("MME", 4096), ("MMDU", 512)):
        benchmark = get_benchmark(name).open(tmp_path, tmp_path / name, max_new_tokens=limit(name))
        assert benchmark.max_new_tokens == expected
        assert f"at most {expected:,} new tokens" in benchmark.asking
    assert get_benchmark("MME").open(tmp_path, tmp_path / "MME").max_new_tokens == 2048, "without a setting"
