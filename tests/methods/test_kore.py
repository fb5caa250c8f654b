"""KORE on a model: what it protects, what stays frozen, what it counts (oracles O5, O8, O9, O10)."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from harness.config.method_settings import method_settings
from harness.config.settings import resolve
from harness.models.llava import LlavaModel
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversation, conversations, knowledge
from methods.augmentation.knowledge_tree import knowledge_tree
from methods.components import lora_layers as adapters
from methods.kore import Kore
from methods.lora import LoRA

SAMPLES = conversations(8, seed=1)
MINI = Path(__file__).parents[2] / "benchmarks" / "mini" / "data" / "evoke"


@torch.no_grad()
def prompt_logits(model, prompts):
    batch = model.prompt_batch(prompts)
    return model.module(**batch).logits[batch["attention_mask"].bool()]


PROTECTS = [("kore:frozen-projector", True), ("kore:projected-a", True), ("kore:unfrozen-a", False), ("lora", False)]


@pytest.mark.parametrize(("row", "protects"), [*PROTECTS, ("kore", None)])
def test_o8_old_prompts_answer_as_before_and_others_do_not(row, protects, exact_model):
    """With fewer calibration tokens than spare directions the null space is exact, and so is the protection."""
    old = [conversation(90, pictures=0), conversation(91, pictures=0)]
    tokens = int(exact_model.prompt_batch(old)["attention_mask"].sum())
    assert tokens < 32 - RANK
    resources = FakeResources()
    resources.pool_samples = lambda count, purpose: old
    before, others = prompt_logits(exact_model, old), prompt_logits(exact_model, SAMPLES)
    method = make(row, projector_learning_rate=0.0) if protects is not None else make(row)
    attach(method, exact_model, resources)
    train(method, exact_model, SAMPLES)
    drift = float((prompt_logits(exact_model, old) - before).abs().max())
    moved = float((prompt_logits(exact_model, SAMPLES) - others).abs().max())
    assert moved > 0.1  # it has learnt something at all
    if protects is False:
        assert drift > 0.1  # control
    else:  # text-only prompts never meet the projector, so training it does not matter here
        assert drift < 1e-10


@pytest.mark.parametrize(("row", "equal"), [("kore:no-constraint", True), ("kore", False)])
def test_without_the_constraint_it_trains_what_lora_trains(row, equal, tiny_folder):
    """So that a run needs no row of its own for it where ``lora:kore-data`` has the same settings."""
    exports = []
    for name in ("lora:kore-data", row):
        model = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float32)
        method = make(name)
        assert method.settings.data == "kore"
        attach(method, model)
        train(method, model, SAMPLES)
        exports.append(method.export(model))
    assert same(*exports) == equal


@pytest.mark.parametrize(("row", "stays"), [("kore:projected-a", True), ("kore:unfrozen-a", False)])
def test_a_projected_a_reads_no_more_of_the_old_inputs_than_its_null_space_has(row, stays, exact_model):
    """|a C a^T| <= lambda_r |a|^2 for each row a of A after training, lambda_r the r-th smallest eigenvalue of C."""
    from methods.components.covariance import covariances

    resources = FakeResources()
    prompts = resources.pool_samples(24, "calibration")
    energies = {name: part.covariance.double() for part in covariances(exact_model, prompts) for name in part.layers}
    method = make(row)
    attach(method, exact_model, resources)
    start, ratios = {}, []
    for trained in (False, True):
        if trained:
            train(method, exact_model, SAMPLES)
        for name, layer in adapters.lora_layers(exact_model.module):
            a = adapters.lora_ab(layer)[0].detach()
            largest = float(torch.linalg.eigvalsh(energies[name])[RANK - 1])
            ratio = ((a @ energies[name]) * a).sum(1) / a.square().sum(1) / largest
            ratios.append(float(ratio.max()))
            assert torch.equal(start.setdefault(name, a.clone()), a) != trained, "A has learned"
        assert max(ratios) < 1 + 1e-6 if stays or not trained else max(ratios) > 2


@pytest.mark.parametrize("freeze_a", [True, False])
def test_o5_trains_as_the_paper_writes_it(freeze_a, exact_model):
    """Against W0 - B0 A0 in the weights and B from B0, the paper's form, with A frozen and with A trained."""
    from methods.components.covariance import covariances
    from methods.components.kore_init import initial_factors

    method = make("kore", freeze_a=freeze_a, projector_learning_rate=0.0)
    resources = FakeResources()
    attach(method, exact_model, resources)
    train(method, exact_model, SAMPLES)
    ours = logits_of(exact_model, SAMPLES)
    method.detach(exact_model)
    untouched = logits_of(exact_model, SAMPLES)

    prompts = resources.pool_samples(24, "calibration")
    start = initial_factors(exact_model, covariances(exact_model, prompts), RANK)
    adapters.attach_lora(exact_model, method.settings, scaling=1.0)
    for name, layer in adapters.lora_layers(exact_model.module):
        a, b = adapters.lora_ab(layer)
        a.data.copy_(start[f"{name}.A"])
        b.data.copy_(start[f"{name}.B"])
        layer.base_layer.weight.data -= b.data @ a.data
    if freeze_a:
        adapters.freeze_a(exact_model)
    train(method, exact_model, SAMPLES)
    paper = logits_of(exact_model, SAMPLES)
    assert float((paper - untouched).abs().max()) > 0.1
    assert float((paper - ours).abs().max()) < 1e-8


def test_o9_a_stays_frozen_bit_for_bit(tiny_model):
    def trained_a(row):
        method = make(row)
        attach(method, tiny_model)
        start = method.export(tiny_model)
        with adapters.without_adapter(tiny_model):
            pass
        train(method, tiny_model, SAMPLES)
        end = method.export(tiny_model)
        method.detach(tiny_model)
        return [torch.equal(start[name], end[name]) for name in start if name.endswith("lora_A.weight")]

    assert all(trained_a("kore"))
    assert not any(trained_a("kore:unfrozen-a"))  # control
    assert not any(trained_a("lora"))


@pytest.mark.parametrize(
    ("row", "rank", "wanted"),
    [
        ("lora", 128, 340_795_392),
        ("kore", 235, 340_549_632),
        ("kore", 256, 369_106_944),
        ("kore:frozen-projector", 235, 340_549_632 - 20_979_712),
        ("full-ft", 1, 6_759_395_328),
    ],
)
def test_o10_parameter_counts_of_the_paper(row, rank, wanted, shapes_of_7b):
    assert trained_parameters(make(row, rank=rank), shapes_of_7b) == wanted


@pytest.mark.parametrize(
    "variant",
    ["no-constraint", *(pytest.param(name, marks=pytest.mark.slow) for name in ("unfrozen-a", "projected-a"))],
)
def test_where_a_is_trained_too_a_preset_trains_as_many_parameters_as_lora(variant, shapes_of_7b):
    def count(**changes):
        settings = method_settings(resolve("llava-1.5-7b", ["kore.data=kore"]), "kore", variant).values
        return trained_parameters(Kore(dataclasses.replace(settings, **changes)), shapes_of_7b)

    lora = LoRA(method_settings(resolve("llava-1.5-7b"), "lora").values)
    assert count() == pytest.approx(trained_parameters(lora, shapes_of_7b), rel=0.01)
    assert count(rank=235) == 608_141_312  # control


def trained_parameters(method, model):
    layers, rank = adapters.target_layers(model), getattr(method.settings, "rank", 1)
    assert len(layers) == 224
    with torch.device("meta"):
        prepared = {f"{name}.A": torch.empty(rank, layer.in_features) for name, layer in layers.items()}
        prepared |= {f"{name}.B": torch.empty(layer.out_features, rank) for name, layer in layers.items()}
        method.attach(model, prepared)
    trained = sum(parameter.numel() for parameter in model.module.parameters() if parameter.requires_grad)
    assert trained == sum(p.numel() for group in method.parameter_groups(model) for p in group["params"])
    method.detach(model)
    return trained


def test_preparation_is_cached_by_what_it_depends_on(tiny_model):
    resources = FakeResources()

    def prepared(count, row="kore", **changes):
        made = make(row, **changes).prepare(tiny_model, resources)
        assert len(resources.store) == count
        return made

    first = prepared(1)
    assert same(prepared(1), first)
    assert same(prepared(1, learning_rate=0.5, data="evoke"), first)
    prepared(2, rank=2)
    prepared(3, norm="official")
    prepared(4, "kore:top-subspace")
    unfrozen = prepared(5, "kore:unfrozen-a")
    projected = prepared(6, "kore:projected-a")
    assert same(unfrozen, {name: each for name, each in projected.items() if not name.endswith(".basis")})
    resources.seed = 1
    assert same(prepared(6), first)
    random = prepared(7, "kore:random-subspace")
    resources.seed = 2
    assert not same(prepared(8, "kore:random-subspace"), random)
    assert prepared(8, "kore:no-constraint") == {}
    assert {purpose for _, purpose in resources.asked} == {"calibration"}


def test_figures_tell_how_much_leaks(tiny_model):
    leaks = {}
    for row in ("kore", "kore:top-subspace", "kore:no-constraint"):
        method = make(row)
        leaks[row] = method.diagnostics(method.prepare(tiny_model, FakeResources()))
    assert leaks["kore:no-constraint"] == {}
    assert 0 < leaks["kore"]["leaked energy, mean"] <= leaks["kore"]["leaked energy, largest"] < 0.1
    assert leaks["kore:top-subspace"]["leaked energy, mean"] > 0.5


def test_i8_without_the_constraint_it_is_lora_on_the_same_data(tiny_model):
    resources, items = FakeResources(), knowledge(4)
    results = []
    for row in ("lora:kore-data", "kore:no-constraint", "kore"):
        method = make(row)
        data = method.training_data(items, resources)
        attach(method, tiny_model)
        losses = train(method, tiny_model, data)
        results.append(([sample.id for sample in data], losses, method.export(tiny_model)))
        method.detach(tiny_model)
    lora, free, constrained = results
    assert lora[:2] == free[:2]
    assert same(lora[2], free[2])
    assert constrained[0] == lora[0]
    assert constrained[1] != lora[1]  # control


def test_data_follow_the_setting(tiny_model):
    resources, items = FakeResources(), knowledge(4)
    tree = [sample.id for sample in knowledge_tree(items, 0)]
    published = [f"{item.id}/published" for item in items]
    for row, wanted in (
        ("kore", tree),
        ("lora:kore-data", tree),
        ("kore:no-augmentation", published),
        ("lora", published),
    ):
        assert [sample.id for sample in make(row).training_data(items, resources)] == wanted


def normalised(question: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", question.replace(IMAGE, "").lower()).strip()


def overlap(trained_on, evaluation) -> set[str]:
    asked = {normalised(t.text) for sample in trained_on for t in sample.turns if t.role == "user"}
    suffix = normalised("Answer the question using a single word or phrase.")
    bare = {question.removesuffix(suffix).strip() for question in asked}
    return bare & {normalised(question).removesuffix(suffix).strip() for question in evaluation}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_knowledge_tree_asks_no_evaluation_question(seed):
    from benchmarks.data.knowledge import load_knowledge

    items = load_knowledge(MINI / "evoke_injection_data.json")
    lines = [line for path in MINI.glob("*evaluation*.jsonl") for line in path.read_text("utf-8").splitlines()]
    evaluation = [json.loads(line)["text"] for line in lines]
    made = knowledge_tree(items, seed)
    assert len(made) > 5 * len(items)
    assert len(evaluation) > 300
    assert overlap(made, evaluation) == set()
    leaked = made[-1].turns[0].text.replace(IMAGE, "").upper()
    assert len(overlap(made, [*evaluation, leaked])) == 1  # control: an overlap would be found


def stage(row, model, samples, earlier=None, prompts=None, **changes):
    """Train one stage as a run does; returns the method, what it exports, and its state for the next stage."""
    method = make(row, projector_learning_rate=0.0, **changes)
    exported, state, number = earlier or ({}, {}, 1)
    resources = FakeResources(stage=number, stage_state=state)
    if prompts:
        resources.pool_samples = lambda count, purpose: prompts
    method._samples = samples
    attach(method, model, resources)
    if earlier:
        method.load_previous_stage(model, exported)
    train(method, model, samples)
    return method, (method.export(model), method.export_stage_state(model), number + 1)


@pytest.mark.parametrize(("row", "protects"), [("kore:recalibrated", True), ("kore", False)])
def test_a_recalibrated_stage_leaves_what_earlier_stages_injected_as_it_is(row, protects, exact_model):
    """With fewer tokens than spare directions the null space is exact, for calibration and injected prompts alike."""
    old, new = [conversation(90, pictures=0)], [conversation(91, pictures=0)]
    tokens = int(exact_model.prompt_batch(old + new)["attention_mask"].sum())
    assert tokens < 32 - RANK
    method, earlier = stage(row, exact_model, new, prompts=old)
    injected, others = prompt_logits(exact_model, new), prompt_logits(exact_model, SAMPLES)
    method.detach(exact_model)
    second, later = stage(row, exact_model, SAMPLES, earlier, prompts=old)
    answers = prompt_logits(exact_model, SAMPLES)
    assert float((answers - others).abs().max()) > 0.1  # it has learnt something at all
    drift = float((prompt_logits(exact_model, new) - injected).abs().max())
    assert drift < 1e-9 if protects else drift > 1e-3
    second.detach(exact_model)
    second.restore(exact_model, later[0])
    assert torch.allclose(prompt_logits(exact_model, SAMPLES), answers, atol=1e-12)


def test_recalibration_adds_the_inputs_that_the_trained_model_sees(exact_model):
    """Against plain hooks on the linear layers, in the model as the first stage left it."""
    seen: dict[str, list[torch.Tensor]] = {}
    method, (_, state, _) = stage("kore:recalibrated", exact_model, SAMPLES[:3])
    handles = [
        layer.get_base_layer().register_forward_pre_hook(
            lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0][0])
        )
        for name, layer in adapters.lora_layers(exact_model.module)
    ]
    for sample in SAMPLES[:3]:
        prompt_logits(exact_model, [sample])
    for handle in handles:
        handle.remove()
    assert len(state) == 4 * 2
    for name, covariance in state.items():
        tokens = torch.cat(seen[name.removesuffix(".injected")])
        assert torch.allclose(covariance, tokens.T @ tokens / len(tokens), rtol=1e-9, atol=1e-12)
    method.detach(exact_model)
    resources = FakeResources(stage=2, stage_state=state)
    first, second = make("kore:recalibrated"), make("kore:recalibrated")
    alone, added = first.prepare(exact_model, FakeResources()), second.prepare(exact_model, resources)
    assert resources.store == {}  # what depends on a stage is not kept for other runs
    for name, covariance in state.items():
        layer = name.removesuffix(".injected")
        before, after = (
            float((a @ covariance @ a.T).trace() / a.square().sum())
            for a in (part[f"{layer}.A"] for part in (alone, added))
        )
        assert after < before
    second._samples = SAMPLES[3:6]
    second.attach(exact_model, added)
    merged = second.export_stage_state(exact_model)
    assert all(float((merged[name] - state[name]).diagonal().min()) >= 0 for name in state)  # earlier stages stay


def test_in_one_stage_recalibrated_is_kore_and_later_its_a_stays_frozen(tiny_model):
    results = []
    for row in ("kore", "kore:recalibrated"):
        method, earlier = stage(row, tiny_model, SAMPLES)
        results.append(earlier)
        method.detach(tiny_model)
    assert same(results[0][0], results[1][0])
    assert not results[0][1]
    method, (exported, _, _) = stage("kore:recalibrated", tiny_model, conversations(6, seed=3), results[1])
    trained = {name for name, weight in tiny_model.module.named_parameters() if weight.requires_grad}
    assert trained
    assert all(name.endswith("lora_B.default.weight") for name in trained)
    assert sum(".past." in name for name in exported) == 2 * 14
    for changes in ({"freeze_a": False}, {"constraint": False}):
        with pytest.raises(UserError, match="recalibrate cannot be True"):
            make("kore", recalibrate=True, **changes)
