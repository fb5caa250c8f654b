"""QLoRA: every adapter method over a base in 4 bits, on the CPU with bitsandbytes.

The oracle is the same method over a base that holds the dequantised weights as plain numbers.

bitsandbytes is an optional extra (``pip install 'knowledge-injection-harness[bitsandbytes]'``); without it these tests
are skipped. Install it to change ``harness/models/quantization.py`` or a method that reads weights.
"""

from __future__ import annotations

import copy
import math
import re
from importlib.util import find_spec

import pytest
import torch

from benchmarks.errors import UserError
from harness.commands.export import export
from harness.models.registry import load_model
from helpers.plain_loop import FakeResources, attach, logits_of, make, train
from helpers.published_models import write_llava, write_qwen
from helpers.tiny import conversations
from methods.components.base_weights import dense_weight, is_quantized, weight_dtype
from methods.components.lora_layers import target_layers
from methods.components.weight_difference import weight_differences

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="an optional extra: pip install '.[bitsandbytes]'"),
]
CPU = torch.device("cpu")
WRITERS = {"llava": write_llava, "qwen": write_qwen}
SAMPLES = conversations(6)
ROWS = ["lora", "ewc", "ewc:weight-space", "lwf", "replay", "moelora:top-k", "o-lora:pseudo-task", "sefe:pseudo-task"]
ROWS += ["kore", "kore:unfrozen-a", "kore:random-subspace", "lora-null", "corda", "oplora", "nusa-cl", "astra", "oft"]
ROWS += ["thanora"]


@pytest.fixture(scope="module", params=WRITERS)
def folder(request, tmp_path_factory):
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def quantized(folder):
    return load_model(folder, CPU, torch.float32, quantized=True)


@pytest.fixture(scope="module")
def dense(folder, quantized):
    """A base with the dequantised weights as numbers."""
    model = load_model(folder, CPU, torch.float32)
    with torch.no_grad():
        for name, layer in target_layers(model).items():
            layer.weight.copy_(dense_weight(quantized.module.get_submodule(name)))
    return model


def test_the_decoders_layers_are_quantized_and_nothing_else(folder, quantized, dense):
    plain = load_model(folder, CPU, torch.float32)
    packed = {name for name, weight in quantized.module.named_parameters() if is_quantized(weight)}
    assert packed == {f"{name}.weight" for name in target_layers(plain)}
    for name, layer in target_layers(quantized).items():
        before, after = target_layers(plain)[name].weight, dense_weight(layer)
        assert after.shape == before.shape
        assert layer.weight.numel() * layer.weight.element_size() * 8 == before.numel() * 4
        assert weight_dtype(layer) == torch.float32
        assert 0 < float((after - before).norm()) < 0.15 * float(before.norm()), "NormalFloat's error, not none"
    torch.testing.assert_close(logits_of(quantized, SAMPLES), logits_of(dense, SAMPLES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ROWS)
def test_a_method_trains_as_over_the_dequantized_weights(quantized, dense, name):
    before, results = quantized.fingerprint(), []
    for model in (quantized, dense):
        method = make(name)
        prepared = attach(method, model, FakeResources())
        try:
            losses = train(method, model, SAMPLES, steps=4)
            results.append((prepared, losses, method.export(model), logits_of(model, SAMPLES)))
        finally:
            method.detach(model)
    (prepared, losses, exported, logits), (their_prepared, their_losses, their_export, _) = results
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == pytest.approx(their_losses, rel=1e-3)
    assert prepared.keys() == their_prepared.keys()
    for key, tensor in prepared.items():
        assert tensor.dtype == their_prepared[key].dtype
        assert tensor.shape == their_prepared[key].shape
    assert {key: (t.dtype, t.shape) for key, t in exported.items()} == {
        key: (t.dtype, t.shape) for key, t in their_export.items()
    }
    assert all(tensor.is_floating_point() for tensor in exported.values())
    assert not torch.allclose(logits, logits_of(quantized, SAMPLES), atol=1e-3), "it has learned"
    assert quantized.fingerprint() == before
    again = make(name)
    again.restore(quantized, exported)
    try:
        torch.testing.assert_close(logits_of(quantized, SAMPLES), logits, rtol=1e-4, atol=1e-4)
    finally:
        again.detach(quantized)
    assert quantized.fingerprint() == before


def test_kore_reads_the_dequantized_weights(quantized, dense):
    found, expected = (make("kore").prepare(model, FakeResources()) for model in (quantized, dense))
    plain = load_model(dense.folder, CPU, torch.float32)
    other = make("kore").prepare(plain, FakeResources())
    names = [name for name in expected if name.endswith(".A")]
    assert names
    far = 0
    for name in names:  # A^T A does not depend on signs or on rotations among equal singular values
        mine, theirs, unquantized = (part[name].T @ part[name] for part in (found, expected, other))
        assert float((mine - theirs).norm()) < 0.02 * float(theirs.norm())
        far += float((unquantized - theirs).norm()) > 0.04 * float(theirs.norm())
    assert far > len(names) / 2, "control: the unquantised weights give another A"


def test_the_difference_from_a_language_model_is_that_of_the_stored_weights(folder, quantized):
    other = folder.parent / f"{folder.name}-moved"
    if not other.exists():
        model = load_model(folder, CPU, torch.float32)
        with torch.no_grad():
            for layer in target_layers(model).values():
                layer.weight.add_(0.1)
        model.module.save_pretrained(other)
    plain = load_model(folder, CPU, torch.float32)
    for (name, mine), (_, theirs) in zip(
        weight_differences(quantized, other), weight_differences(plain, other), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_the_digest_sees_every_byte(quantized):
    model = copy.copy(quantized)
    model.module = copy.deepcopy(quantized.module)
    before = model.fingerprint()
    assert before == quantized.fingerprint()
    layer = next(iter(target_layers(model).values()))
    layer.weight.data[3] ^= 1
    changed = model.fingerprint()
    layer.weight.data[3] ^= 1
    layer.weight.quant_state.absmax[0] ^= 1
    assert len({before, changed, model.fingerprint()}) == 3


def test_full_fine_tuning_is_refused_and_leaves_no_trace(quantized):
    before, method = quantized.fingerprint(), make("full-ft")
    with pytest.raises(UserError, match=r"(?s)neither be trained nor replaced.*precision to bfloat16"):
        attach(method, quantized)
    method.detach(quantized)
    assert quantized.fingerprint() == before


def test_half_precision_around_it(folder):
    """As on a GPU: what is not quantised is in bfloat16; what was trained is stored in that type, never as bytes."""
    model = load_model(folder, CPU, torch.bfloat16, quantized=True)
    assert weight_dtype(next(iter(target_layers(model).values()))) == torch.bfloat16
    method = make("lora")
    attach(method, model)
    try:
        assert {p.dtype for p in model.module.parameters() if p.requires_grad} == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            losses = train(method, model, SAMPLES, steps=3)
        exported = method.export(model)
    finally:
        method.detach(model)
    assert all(math.isfinite(loss) for loss in losses)
    assert {tensor.dtype for tensor in exported.values()} == {torch.bfloat16}


def test_a_run_trains_answers_and_exports_its_adapter(tmp_path):
    from typer.testing import CliRunner

    from harness.cli import app
    from helpers.small_runs import write_preset
    from helpers.tiny import write_tiny_model

    preset = write_preset(tmp_path, write_tiny_model(tmp_path / "model"))
    arguments = ["compare", "--preset", str(preset), "--methods", "lora,full-ft", "--set", "precision=nf4"]
    arguments += ["--set", "training.optimizer=adamw-8bit", "--set", "training.gradient_checkpointing=true"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    flat = re.sub(r"\s+", " ", result.output)
    assert "quantised weights can neither be trained nor replaced" in flat, flat
    exported = export(tmp_path / "run", "lora", tmp_path / "adapter")
    assert exported.difference < 1e-3
    with pytest.raises(UserError, match="merged into others"):
        export(tmp_path / "run", "lora", tmp_path / "merged", form="merged")
