"""Adapters go in and come out without a trace; what they learnt travels by name (oracles of LoRA; traps T1 to T7)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train, weights_of
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.initialized_lora import START
from methods.registry import registered

SAMPLES = conversations(8, seed=1)
KINDS = ("lora", "full-ft", "moelora", "kore", "kore:unfrozen-a")
"""Of adapters; the contract asks much the same of each row, to within rounding."""
TRAINED = {name: method for name, method in registered().items() if method.trains}
ROWS = [*TRAINED, *(f"{n}:{v}" for n, m in TRAINED.items() for v, about in m.variants.items() if not about.needs)]
ROWS = [pytest.param(row, marks=[] if row in KINDS else [pytest.mark.slow]) for row in ROWS]


def trained(text, model, seed=0, **changes):
    method = make(text, **changes)
    attach(method, model, seed=seed)
    losses = train(method, model, SAMPLES)
    return method, losses


@pytest.mark.parametrize("row", ROWS)
def test_an_adapter_that_has_learnt_nothing_changes_nothing(row, tiny_model):
    before = logits_of(tiny_model, SAMPLES)
    method = make(row)
    attach(method, tiny_model)
    after = logits_of(tiny_model, SAMPLES)
    assert torch.allclose(before, after, atol=2e-5, rtol=0)
    if not any(f".{START}." in name for name in method.export(tiny_model)):  # where B0 A0 is added and taken off again
        assert torch.equal(before, after)


@pytest.mark.parametrize("row", ROWS)
def test_export_detach_restore(row, tiny_model):
    base, untouched = weights_of(tiny_model), logits_of(tiny_model, SAMPLES)
    flags = [parameter.requires_grad for parameter in tiny_model.module.parameters()]
    module = tiny_model.module
    method, losses = trained(row, tiny_model)
    assert losses[-1] < losses[0]
    learnt = logits_of(tiny_model, SAMPLES)
    assert not torch.allclose(learnt, untouched, atol=1e-3)  # control: there is something to undo
    tensors = method.export(tiny_model)
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())
    assert not any("default" in name or "vision" in name for name in tensors)
    method.detach(tiny_model)
    assert tiny_model.module is module
    assert same(weights_of(tiny_model), base)
    assert [parameter.requires_grad for parameter in module.parameters()] == flags
    assert torch.equal(logits_of(tiny_model, SAMPLES), untouched)
    method.restore(tiny_model, tensors)
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
    assert same(method.export(tiny_model), tensors)
    method.detach(tiny_model)
    method.detach(tiny_model)
    assert same(weights_of(tiny_model), base)


def test_two_adapters_do_not_interact(tiny_model):
    first, _ = trained("lora", tiny_model)
    one, answers = first.export(tiny_model), logits_of(tiny_model, SAMPLES)
    first.detach(tiny_model)
    second, _ = trained("kore", tiny_model, seed=5)
    other = logits_of(tiny_model, SAMPLES)
    second.detach(tiny_model)
    first.restore(tiny_model, one)
    assert torch.equal(logits_of(tiny_model, SAMPLES), answers)
    assert not torch.equal(other, answers)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_of_another_adapter_are_refused(change, tiny_model):
    method, _ = trained("lora", tiny_model)
    tensors = method.export(tiny_model)
    name = sorted(tensors)[0]
    method.detach(tiny_model)
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["stranger"] = torch.zeros(1)
    else:
        tensors[name] = tensors[name][:1]
    with pytest.raises(UserError, match="missing, unknown or of another shape"):
        method.restore(tiny_model, tensors)


def test_attaching_twice_is_refused(tiny_model):
    attach(make("lora"), tiny_model)
    with pytest.raises(UserError, match="attached already"):
        attach(make("lora"), tiny_model)


def test_a_parameter_that_a_method_leaves_behind_is_left_to_be_found(tiny_model):
    before = tiny_model.fingerprint()
    method = make("lora")
    attach(method, tiny_model)
    tiny_model.module.register_parameter("stray", torch.nn.Parameter(torch.ones(1)))
    method.detach(tiny_model)
    assert tiny_model.fingerprint() != before
    del tiny_model.module.stray
    assert tiny_model.fingerprint() == before


def test_t1_only_the_decoder_is_adapted(tiny_model, monkeypatch):
    attach(make("lora"), tiny_model)
    names = [name for name, _ in adapters.lora_layers(tiny_model.module)]
    assert len(names) == 7 * 2
    assert not any("vision" in name for name in names)
    adapters.detach_adapter(tiny_model)
    base = weights_of(tiny_model)
    wide = type("Wide", (type(tiny_model),), {"linear_targets": r".*\.(q_proj|v_proj)"})
    monkeypatch.setattr(tiny_model, "__class__", wide)
    with pytest.raises(UserError, match="vision tower"):
        attach(make("lora"), tiny_model)
    assert same(weights_of(tiny_model), base)


@pytest.mark.parametrize("row", ["lora", "kore", "kore:unfrozen-a", "kore:frozen-projector"])
def test_t2_t3_without_adapter_is_the_base_and_leaves_no_trace(row, tiny_model):
    untouched = logits_of(tiny_model, SAMPLES)
    method, _ = trained(row, tiny_model)
    learnt = logits_of(tiny_model, SAMPLES)
    flags = {name: parameter.requires_grad for name, parameter in tiny_model.module.named_parameters()}
    with adapters.without_adapter(tiny_model):
        assert torch.equal(logits_of(tiny_model, SAMPLES), untouched)
        assert not torch.equal(learnt, untouched)  # control
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
    assert {name: parameter.requires_grad for name, parameter in tiny_model.module.named_parameters()} == flags
    for _, layer in adapters.lora_layers(tiny_model.module):  # as whoever uses PEFT's own switch would find it
        layer.enable_adapters(False)
        layer.enable_adapters(True)
    assert {name: parameter.requires_grad for name, parameter in tiny_model.module.named_parameters()} == flags
    method.detach(tiny_model)


def test_first_gradients_of_lora(tiny_model):
    """At B = 0: dL/dA = 0 and dL/dB = s g (A x)^T, which is s dW A^T."""
    method = make("lora")
    attach(method, tiny_model)
    name, layer = next(iter(adapters.lora_layers(tiny_model.module)))
    layer.base_layer.weight.requires_grad_(True)
    logits, targets = tiny_model.supervised(tiny_model.training_batch(SAMPLES))
    torch.nn.functional.cross_entropy(logits, targets).backward()
    a, b = adapters.lora_ab(layer)
    assert name.endswith("q_proj")
    assert torch.count_nonzero(a.grad) == 0
    assert torch.allclose(b.grad, layer.scaling["default"] * layer.base_layer.weight.grad @ a.T, atol=1e-6)
    assert torch.count_nonzero(b.grad) > 0


def test_merged_weights_answer_alike(tiny_model):
    trained("lora", tiny_model, projector_learning_rate=0.0)
    learnt = logits_of(tiny_model, SAMPLES)
    merged = {}
    for name, layer in adapters.lora_layers(tiny_model.module):
        a, b = adapters.lora_ab(layer)
        merged[name] = layer.base_layer.weight + layer.scaling["default"] * b @ a
    adapters.detach_adapter(tiny_model)
    for name, weight in merged.items():
        tiny_model.module.get_submodule(name).weight.data.copy_(weight)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-4)


def test_initial_a_depends_on_the_seed_and_the_name_alone(tiny_model):
    def drawn(seed, noise=0):
        torch.manual_seed(seed)
        torch.rand(noise)
        method = make("lora")
        method.attach(tiny_model, {})
        tensors = method.export(tiny_model)
        method.detach(tiny_model)
        return tensors

    assert same(drawn(0), drawn(0, noise=7))
    assert not same(drawn(0), drawn(1))
    state = torch.manual_seed(3).get_state()
    attached = make("lora")
    attached.attach(tiny_model, {})
    assert torch.equal(torch.get_rng_state(), state)  # what is drawn next does not depend on the method
    a = attached.export(tiny_model)
    for name, tensor in a.items():
        if "lora_A" in name:
            bound = tensor.shape[1] ** -0.5
            assert tensor.abs().max() <= bound
            assert tensor.abs().max() > 0.8 * bound


def test_parameter_groups_have_their_own_rates(tiny_model):
    method = make("lora", weight_decay=0.1)
    attach(method, tiny_model)
    adapter, projector = method.parameter_groups(tiny_model)
    assert (adapter["lr"], projector["lr"]) == (1e-2, 1e-3)
    assert adapter["weight_decay"] == projector["weight_decay"] == 0.1
    assert all("lora_" in name for name in adapter["names"])
    assert all("multi_modal_projector" in name for name in projector["names"])
    together = {id(parameter) for group in (adapter, projector) for parameter in group["params"]}
    assert together == {id(p) for p in tiny_model.module.parameters() if p.requires_grad}
    method.detach(tiny_model)
    frozen = make("lora", projector_learning_rate=0.0)
    attach(frozen, tiny_model)
    assert len(list(frozen.parameter_groups(tiny_model))) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_t7_trained_parameters_are_float32_over_a_half_precision_base(dtype, tiny_folder):
    from harness.models.llava import LlavaModel

    model = LlavaModel.load(tiny_folder, torch.device("cpu"), dtype)
    base, untouched = weights_of(model), logits_of(model, SAMPLES)
    method = make("kore")
    attach(method, model)
    assert {p.dtype for p in model.module.parameters() if p.requires_grad} == {torch.float32}
    assert torch.equal(logits_of(model, SAMPLES), untouched)
    losses = train(method, model, SAMPLES)
    assert losses[-1] < losses[0]
    method.detach(model)
    assert same(weights_of(model), base)
    assert torch.equal(logits_of(model, SAMPLES), untouched)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_was_trained_is_kept_in_the_bases_type_and_a_null_space_in_full(dtype, tiny_folder):
    """In half precision, training multiplies by what is kept: it rounds B so before each product."""
    from harness.models.llava import LlavaModel

    model = LlavaModel.load(tiny_folder, torch.device("cpu"), dtype)
    method = make("kore")
    attach(method, model)
    train(method, model, SAMPLES)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        trained = logits_of(model, SAMPLES)
        kept = method.export(model)
        method.detach(model)
        method.restore(model, kept)
        assert torch.equal(logits_of(model, SAMPLES), trained)
    assert {tensor.dtype for name, tensor in kept.items() if "lora_A" in name} == {torch.float32}
    assert {tensor.dtype for name, tensor in kept.items() if "lora_A" not in name} == {dtype}


def test_i8_replay_without_old_data_is_lora_bit_for_bit(tiny_model):
    from helpers.tiny import knowledge

    resources = FakeResources()
    items = knowledge(20)
    results = []
    for method in (make("lora"), make("replay", ratio=0.0), make("replay", ratio=0.1)):
        data = method.training_data(items, resources)
        attach(method, tiny_model)
        losses = train(method, tiny_model, data[-8:])
        results.append((losses, method.export(tiny_model)))
        method.detach(tiny_model)
    (lora, lora_tensors), (zero, zero_tensors), (some, some_tensors) = results
    assert lora == zero
    assert same(lora_tensors, zero_tensors)
    assert lora != some  # control
    assert not same(lora_tensors, some_tensors)
    assert [len(make("replay", ratio=r).training_data(items, resources)) for r in (0.0, 0.1, 0.5)] == [20, 22, 30]
    assert {purpose for _, purpose in resources.asked} == {"replay"}


def test_replay_of_evoke_has_the_papers_size():
    from benchmarks.records import Conversation, Turn
    from helpers.tiny import knowledge

    class Many(FakeResources):
        def pool_samples(self, count, purpose):
            turns = (Turn("user", "q"), Turn("assistant", "a"))
            return [Conversation(f"old-{index}", turns) for index in range(count)]

    items = knowledge(1) * 9422
    mixed = make("replay").training_data(items, Many())
    assert len(mixed) == 10_364
    assert sum(sample.branch == "replay" for sample in mixed) == 942


def test_rank_is_what_was_asked(tiny_model):
    method = make("lora", rank=3, alpha=6.0)
    attach(method, tiny_model)
    for _, layer in adapters.lora_layers(tiny_model.module):
        assert adapters.lora_ab(layer)[0].shape[0] == 3
        assert layer.scaling["default"] == 2.0
    assert RANK != 3
