"""Which layers are adapted: what the setting ``targets`` names, and that every method with adapters keeps to it."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from benchmarks.errors import UserError
from harness.models.registry import target_shapes
from harness.storage.digests import digest
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, train
from helpers.tiny import conversations
from methods.base import DecoderShapes
from methods.components import lora_layers as adapters
from methods.registry import expand_names, get_method, registered
from methods.targets import ALL, LinearShapes, choose, problem_of

SAMPLES = conversations(6, seed=1)
SUBLAYERS = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
NAMES = tuple(f"model.language_model.layers.{number}.{part}" for number in range(12) for part in SUBLAYERS)
ADAPTED = [row for row in expand_names(["all-variants"]) if hasattr(get_method(row)[0].Settings, "targets")]
ADAPTED.remove("kore:rank-64")  # more than the tiny model's layers have
ADAPTED.remove("osf")  # has no adapter; its own tests narrow it
KINDS = ("lora", "moelora", "kore", "kore:unfrozen-a", "ewc", "sefe:pseudo-task", "o-lora:pseudo-task")
ROWS = [pytest.param(row, marks=[] if row in KINDS else [pytest.mark.slow]) for row in ADAPTED]


def test_named_choices_are_what_their_names_say():
    attention, mlp = choose(NAMES, "attention"), choose(NAMES, "mlp")
    assert attention == tuple(name for name in NAMES if ".self_attn." in name)
    assert mlp == tuple(name for name in NAMES if ".mlp." in name)
    assert choose(NAMES, ALL) == NAMES
    for count in (1, 3, 12):
        numbers = {int(name.split(".")[3]) for name in choose(NAMES, f"last-{count}")}
        assert numbers == set(range(12 - count, 12))  # 10 and 11 come after 9, as numbers
        assert {int(name.split(".")[3]) for name in choose(NAMES, f"first-{count}")} == set(range(count))


@pytest.mark.parametrize(
    ("names", "attention"),
    [
        (("layers.0.linear_attn.in_proj_qkv", "layers.0.mlp.up_proj"), 1),
        (("layers.3.cross_attn.q_proj", "layers.3.feed_forward.w1", "layers.3.feed_forward.experts.2.w1"), 1),
        (("decoder.layers.0.self_attn.q_proj", "decoder.layers.0.fc1", "decoder.layers.0.fc2"), 1),
        (("layers.0.conv.in_proj", "layers.0.self_attn.q_proj", "layers.0.feed_forward.w1"), 1),
    ],
)
def test_kinds_go_by_the_part_of_the_decoder_layer(names, attention):
    assert len(choose(names, "attention")) == attention
    assert len(choose(names, "mlp")) == sum(".conv." not in name for name in names) - attention


@pytest.mark.parametrize("pattern", [r".*\.(q|v)_proj", r".*layers\.(1|2)\..*", r".*\.1\.mlp\..*"])
def test_a_pattern_must_match_a_whole_name(pattern):
    assert choose(NAMES, pattern) == tuple(name for name in NAMES if re.match(rf"(?:{pattern})$", name))
    with pytest.raises(UserError, match=r"no linear layer of the decoder matches.*\n.*layers\.0\.self_attn\.q_proj"):
        choose(NAMES, pattern[2:])


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("last8", "did you mean 'last-N'"),
        ("atention", "did you mean 'attention'"),
        ("last-0", "first-N or last-N"),
        ("q_proj", r"such as .*\.q_proj"),
        ("", "choose all"),
        ("(q", "regular expression"),
    ],
)
def test_what_names_no_layers_of_any_model_is_refused_at_once(value, hint):
    assert hint in problem_of(value)
    with pytest.raises(UserError, match=re.escape(hint)):
        make("lora", targets=value)


def test_what_names_no_layers_of_this_model_is_refused(tiny_model, tiny_folder):
    with pytest.raises(UserError, match=r"last-3 of 2 decoder layers(?s:.*)at most last-2"):
        attach(make("lora", targets="last-3"), tiny_model)
    with pytest.raises(UserError, match="no linear layer of the decoder matches"):
        make("lora", targets=r".*\.query").validate_layers(target_shapes(tiny_folder))


NARROW = LinearShapes({"a.v_proj": (64, 16), "a.q_proj": (64, 64)})
"""An attention whose values are narrow."""


@pytest.mark.parametrize(
    ("row", "most", "sizes"),
    [
        ("kore", 64, "a.q_proj, which has 64 inputs"),
        ("lora-null", 64, "a.q_proj, which has 64 inputs"),
        ("thanora", 64, "a.q_proj, which has 64 inputs"),
        ("astra", 16, "a.v_proj, which has 16 inputs or outputs"),
        ("corda", 16, "a.v_proj, which has 16 inputs or outputs"),
        ("oplora", 15, "a.v_proj, which has 16 inputs or outputs"),
        ("nusa-cl", 15, "a.v_proj, which has 16 inputs or outputs"),
    ],
)
def test_a_rank_that_a_layer_does_not_have_is_refused_before_anything_is_computed(row, most, sizes):
    make(row, rank=most).validate_layers(NARROW)  # control
    make("lora", rank=most + 1).validate_layers(NARROW)
    with pytest.raises(UserError, match=f"rank {most + 1} is too large for {re.escape(sizes)}") as error:
        make(row, rank=most + 1).validate_layers(NARROW)
    assert error.value.hint == f"choose at most {most}"


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("targets", ["attention", "last-1"])
def test_every_method_adapts_these_layers_and_no_others(row, targets, tiny_model, tiny_folder):
    shapes = target_shapes(tiny_folder)
    wanted = set(choose(shapes.names, targets))
    method = make(row, targets=targets, projector_learning_rate=0.0, calibrate_on="")
    prepared = attach(method, tiny_model)
    if row != "lapael":  # whose noise acts in other layers than those that are adapted
        assert {
            name.rpartition(".")[0].removeprefix("a/").removeprefix("c/") for name in prepared if "/" not in name
        } <= wanted
    assert {name for name, each in tiny_model.module.named_modules() if isinstance(each, BaseTunerLayer)} == wanted
    trained = sum(weight.numel() for weight in tiny_model.module.parameters() if weight.requires_grad)
    assert method.adapter_parameters(method.adapted(shapes)) == trained > 0
    assert method.adapter_parameters(shapes) != trained  # control
    untouched = logits_of(tiny_model, SAMPLES)
    train(method, tiny_model, SAMPLES, steps=3)
    learnt, tensors = logits_of(tiny_model, SAMPLES), method.export(tiny_model)
    assert not torch.equal(learnt, untouched)
    assert {re.split(r"\.(?:lora_|oft_R|router)", name)[0] for name in tensors} == wanted
    method.detach(tiny_model)
    method.restore(tiny_model, tensors)
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)


@pytest.mark.parametrize("row", ["lora", "kore", "ewc", "lwf", "o-lora", "sefe", "moelora", "kore:unfrozen-a"])
def test_a_second_stage_continues_in_these_layers(row, tiny_model):
    first = make(row, targets="mlp")
    first.training_data([], FakeResources())
    if hasattr(first, "_samples"):
        first._samples = SAMPLES
    attach(first, tiny_model)
    train(first, tiny_model, SAMPLES, steps=3)
    exported, state = first.export(tiny_model), first.export_stage_state(tiny_model)
    learnt = logits_of(tiny_model, SAMPLES)
    first.detach(tiny_model)
    second = make(row, targets="mlp")
    attach(second, tiny_model, FakeResources(stage=2, stage_state=state))
    second.load_previous_stage(tiny_model, exported)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
    names = {name for name, _ in adapters.lora_layers(tiny_model.module)}
    assert names
    assert all(".mlp." in name for name in names)
    train(second, tiny_model, SAMPLES, steps=2)
    assert {name.split(".lora_")[0] for name in second.export(tiny_model) if ".lora_" in name} == names


def test_statistics_of_other_layers_are_others(tiny_model):
    for row in ("ewc", "kore", "sefe:pseudo-task", "o-lora:pseudo-task"):
        resources = FakeResources()
        for targets in (ALL, "attention", "attention", "mlp"):
            method = make(row, targets=targets)
            method._items = 8
            torch.manual_seed(0)
            method.prepare(tiny_model, resources)
        assert len(resources.store) == 3, row


def test_all_layers_is_the_models_own_pattern_and_no_part_of_a_key(tiny_model):
    """What was stored before the setting existed is found again: the settings' part of each key is what it was."""
    recorded = {
        "ewc": "6f624b37e357ec7a",
        "kore": "8f54ad1d9e5b8ceb",
        "lora": "4d03daf6a714c9b3",
        "lwf": "889ea5baca02c5f8",
        "moelora": "fe68254f8e14861a",
        "o-lora": "64080a318060e4c3",
        "replay": "2adb356f4772cd3a",
        "sefe": "d9bf4c7ef38ef333",
    }
    for name, wanted in recorded.items():
        settings = registered()[name].Settings()
        assert digest(dict(settings.cache_key()))[:16] == wanted, name
        narrowed = dataclasses.replace(settings, targets="attention")
        assert digest(dict(narrowed.cache_key()))[:16] != wanted, name  # control
    resources = FakeResources()
    attach(make("kore"), tiny_model, resources)
    tuner = adapters.attached_tuner(tiny_model.module)
    assert tuner.peft_config[adapters.TRAINED].target_modules == tiny_model.linear_targets
    (key,) = resources.store
    assert repr(("layers", tiny_model.linear_targets)) in key
    assert "constrained" not in key
    assert "null energy" not in key


def test_what_a_model_needs_is_counted_in_these_layers(tiny_folder):
    from harness.models.registry import describe_model
    from harness.models.shapes import model_sizes

    shapes = model_sizes(describe_model(tiny_folder)).shapes
    assert shapes.linears.names == target_shapes(tiny_folder).names
    for row in ("lora", "kore", "ewc", "moelora"):
        whole, part = make(row), make(row, targets="last-1")
        half = shapes.only(part.adapted(shapes.linears))
        assert (half.layers, len(half.linears)) == (1, 7)
        projector = shapes.projector
        assert 2 * (part.memory_needs(half).trained - projector) == whole.memory_needs(shapes).trained - projector
    assert shapes.only(make("lora").adapted(shapes.linears)) is shapes


def test_shapes_are_pairs_with_names():
    shapes = LinearShapes({"a.0.q": (2, 3), "a.1.q": (4, 5)})
    assert [d_in * d_out for d_in, d_out in shapes] == [6, 20]
    assert shapes.only(["a.1.q"]).names == ("a.1.q",)
    assert tuple(shapes.only(["a.1.q"])) == ((4, 5),)
    assert DecoderShapes(shapes, 2, 0, 0).only(shapes.only(["a.1.q"])).matrices == 20


def test_activations_are_forecast_for_the_adapters_that_there_are(tiny_folder):
    """What is kept without adapters is the same, and each adapted layer adds its A x and its inputs."""
    from harness.models.registry import describe_model
    from harness.models.shapes import model_sizes
    from harness.training.memory import Machine, MicroBatch, activation_bytes

    sizes = model_sizes(describe_model(tiny_folder))
    batch = MicroBatch(rows=3, width=7, supervised=4, image_tokens=2, alone=True)
    kept = {}
    for targets in (ALL, "first-1", "last-2", "attention", "mlp", r".*\.o_proj"):
        method = make("lora", targets=targets)
        adapted = sizes.shapes.only(method.adapted(sizes.shapes.linears))
        needs = dataclasses.replace(method.memory_needs(adapted), adapted=None if targets == ALL else adapted)
        kept[targets] = activation_bytes(sizes, needs, Machine("cpu", "float32", "float32"), batch)
    hidden, inner, tokens = sizes.hidden, sizes.inner, 3 * 7
    layer = {"attention": 4 * RANK + hidden, "mlp": 3 * RANK + hidden + inner, r".*\.o_proj": RANK}
    both = layer["attention"] + layer["mlp"]
    assert kept[ALL] == kept["last-2"]
    assert kept[ALL] - kept["first-1"] == 4 * tokens * both
    for targets, values in layer.items():
        assert kept[ALL] - kept[targets] == 2 * 4 * tokens * (both - values)
