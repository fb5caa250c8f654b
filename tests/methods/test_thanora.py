"""ThanoRA as we read it: how rows are shared out, where the blocks start, and what keeps them apart."""

from __future__ import annotations

import dataclasses
from itertools import combinations, product
from math import cos, log, sin

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversation, conversations, knowledge
from methods.components import lora_layers as adapters
from methods.components.covariance import covariances
from methods.components.task_prompts import prompts_by_task
from methods.components.task_subspaces import (
    block_overlap,
    share_out,
    shared_rows,
    spectral_entropy,
    task_directions,
    total_overlap,
)

SAMPLES = conversations(8, seed=1)
ITEMS = knowledge(12)


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)


def resources_of(items=ITEMS, **changes):
    """Resources of a run that injects these items."""
    resources = FakeResources(**changes)
    resources.knowledge = items
    return resources


def projection(rows):
    """Onto the span of orthonormal rows."""
    return rows.T @ rows


@pytest.mark.parametrize(
    ("energies", "entropy"),
    [
        ((3.0, 3.0, 3.0, 3.0, 0.0), log(4)),
        ((4.0, 2.0, 1.0, 1.0), 1.75 * log(2)),  # 1/2 log 2 + 1/4 log 4 + 2/8 log 8
        ((0.0, 7.0), 0.0),
    ],
)
def test_the_entropy_is_that_of_the_spectrum_whatever_its_scale_and_basis(energies, entropy, draw):
    basis = torch.linalg.qr(draw(len(energies), len(energies))).Q
    covariance = basis @ torch.diag(torch.tensor(energies, dtype=torch.float64)) @ basis.T
    for scale in (1.0, 1e-6, 1e6):
        assert spectral_entropy(scale * covariance) == pytest.approx(entropy, abs=1e-9)
    assert spectral_entropy(torch.eye(5, dtype=torch.float64)) == pytest.approx(log(5))  # control


def test_rows_are_shared_out_by_effective_rank():
    assert share_out([log(6), log(3), log(1)], 10, 1.0) == [6, 3, 1]
    assert share_out([log(4), 1.75 * log(2)], 22, 1.0) == [12, 10]  # 4 : 3.364, so 11.95 and 10.05
    assert share_out([log(1000), 0.0], 5, 1.0) == [4, 1], "nobody gets nothing"
    assert share_out([log(2), log(2), log(2)], 7, 1.0) == [3, 2, 2], "of equal ones the first comes first"
    assert share_out([0.3, 5.0, 2.0], 3, 1.0) == [1, 1, 1]
    assert share_out([log(6), log(3)], 15, 0.5) == [12, 3], "36 : 9"
    assert share_out([log(6), log(3)], 16, 1e9) == [8, 8]
    assert share_out([900.0, 0.0], 4, 1.0) == [3, 1], "no overflow"


@pytest.mark.parametrize("dimensions", [3, 8, 11])
def test_the_shares_are_the_closest_whole_numbers_of_all(dimensions, draw):
    """Against all ways to share out: the least sum (n - q)^2 / q, of which Sainte-Lague's rounding is the solution."""
    for _ in range(5):
        entropies = draw(3).tolist()
        quotas = torch.tensor(entropies, dtype=torch.float64).softmax(0) * dimensions
        ways = [way for way in product(range(1, dimensions + 1), repeat=3) if sum(way) == dimensions]
        costs = {way: float(((torch.tensor(way) - quotas).square() / quotas).sum()) for way in ways}
        assert tuple(share_out(entropies, dimensions, 1.0)) == min(costs, key=costs.__getitem__)


def test_the_shared_part_leaves_each_task_a_row():
    assert [shared_rows(128, 2), shared_rows(32, 4), shared_rows(3, 2), shared_rows(2, 2)] == [42, 6, 1, 0]
    assert all(rank - shared_rows(rank, tasks) >= tasks for rank in range(2, 20) for tasks in range(2, rank + 1))


def test_each_task_takes_the_leading_directions_that_are_left(draw):
    moments = [x.T @ x for x in (draw(40, 9) * torch.linspace(3, 0.1, 9) for _ in range(3))]
    counts, order = [2, 3, 1], [1, 2, 0]
    rows = task_directions(moments, counts, order)
    assert torch.allclose(rows @ rows.T, torch.eye(6, dtype=torch.float64), atol=1e-12)
    blocks, taken = rows.split(counts), torch.zeros(9, 0, dtype=torch.float64)
    for task in order:
        left = torch.linalg.svd(taken)[0][:, taken.shape[1] :]  # a basis of the complement
        wanted = left @ torch.linalg.svd(left.T @ moments[task] @ left)[0][:, : counts[task]]
        assert torch.allclose(projection(blocks[task]), wanted @ wanted.T, atol=1e-9)
        taken = torch.cat([taken, wanted], dim=1)
    plain = [torch.linalg.svd(each)[0][:, :count].T for each, count in zip(moments, counts, strict=True)]
    assert block_overlap(blocks) < 1e-20
    assert block_overlap(plain) > 0.1  # control: without taking turns they overlap
    spike = torch.diag(torch.tensor([0.0] * 8 + [1e4], dtype=torch.float64))
    other = task_directions([moments[0], moments[1] + spike, moments[2]], counts, order)
    assert float((projection(other[2:5]) - projection(blocks[1])).norm()) > 0.1  # control: the covariance decides


def test_blocks_are_orthogonal_also_where_no_energy_is_left(draw):
    x = draw(2, 8)  # two directions for both tasks, which ask for six
    rows = task_directions([x.T @ x, 5 * x.T @ x], [3, 3], [0, 1])
    assert torch.allclose(rows @ rows.T, torch.eye(6, dtype=torch.float64), atol=1e-12)


def test_the_overlap_is_the_mean_squared_cosine_of_the_principal_angles(draw):
    basis = torch.linalg.qr(draw(12, 12)).Q.T
    rotation = torch.linalg.qr(draw(4, 4)).Q
    assert float(block_overlap([basis[:4], basis[4:9]])) < 1e-28
    assert float(block_overlap([basis[:4], rotation @ basis[:4]])) == pytest.approx(1)
    assert float(block_overlap([basis[:4], basis[:7]])) == pytest.approx(1), "one contains the other"
    turned = torch.stack([cos(0.3) * basis[0] + sin(0.3) * basis[8], cos(1.1) * basis[1] + sin(1.1) * basis[9]])
    expected = (cos(0.3) ** 2 + cos(1.1) ** 2) / 2
    assert float(block_overlap([turned, basis[:5]])) == pytest.approx(expected)
    assert float(block_overlap([1e-3 * turned, 7 * basis[:5]])) == pytest.approx(expected), "lengths do not count"
    assert float(block_overlap([turned, basis[:5], basis[5:8]])) == pytest.approx(expected / 3), "a mean over pairs"


def test_the_gradient_of_the_overlap_is_as_by_hand(draw):
    blocks = [draw(size, 7).requires_grad_() for size in (2, 3, 1)]
    gradients = torch.autograd.grad(block_overlap(blocks), blocks)
    fixed = [block.detach() for block in blocks]
    by_hand = [torch.zeros_like(block) for block in fixed]
    for i, j in combinations(range(3), 2):
        for one, other in ((i, j), (j, i)):
            x, y = fixed[one], fixed[other]
            p, q, n = float((x**2).sum()), float((y**2).sum()), float(((x @ y.T) ** 2).sum())
            slope = 2 * x @ y.T @ y / (p * q) - 2 * n * x / (p**2 * q)
            by_hand[one] += max(len(x), len(y)) / 3 * slope
    for gradient, wanted in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
        assert float(wanted.norm()) > 0.01  # control


def test_tasks_are_groups_of_items_or_branches_of_the_data():
    method = make("thanora", data="kore")
    data = method.training_data(ITEMS, FakeResources())
    groups = prompts_by_task("group", "kore", data, ITEMS, 3)
    assert list(groups) == ["entity", "news"]
    assert {sample.id.split("/")[0] for sample in groups["news"]} <= {item.id for item in ITEMS if item.group == "news"}
    assert all(len(samples) == 3 for samples in groups.values())
    branches = prompts_by_task("branch", "kore", data, ITEMS, 10_000)
    assert set(branches) == {"dialogue", "recognition", "caption", "vqa"}
    assert {task: {sample.branch for sample in samples} for task, samples in branches.items()} == {
        task: {task} for task in branches
    }
    assert sum(map(len, branches.values())) == len(data)
    assert list(prompts_by_task("group", "kore", data, [item for item in ITEMS if item.group == "news"], 3)) == ["news"]


def test_data_that_name_no_item_have_no_groups():
    with pytest.raises(UserError, match=r"none of the 2 conversations(?s:.*)tasks=branch"):
        prompts_by_task("group", "evoke", [conversation(1), conversation(2)], ITEMS, 3)
    assert list(prompts_by_task("branch", "evoke", [conversation(1)], ITEMS, 3)) == ["knowledge"]  # control


def test_it_starts_at_the_leading_directions_of_each_task(exact_model):
    resources, method = resources_of(), make("thanora", rank=7, temperature=0.5)
    data = method.training_data(ITEMS, resources)
    prompts = prompts_by_task("group", "evoke", data, ITEMS, 256)
    assert [len(samples) for samples in prompts.values()] == [6, 6]
    before = logits_of(exact_model, SAMPLES)
    attach(make("lora", rank=7), exact_model)
    lora = {
        name: adapters.lora_ab(layer)[0].detach().clone() for name, layer in adapters.lora_layers(exact_model.module)
    }
    make("lora").detach(exact_model)
    measured = [list(covariances(exact_model, samples)) for samples in prompts.values()]
    prepared = attach(method, exact_model, resources)
    assert torch.equal(logits_of(exact_model, SAMPLES), before)
    sizes = set()
    for parts in zip(*measured, strict=True):
        moments = [part.covariance.double() for part in parts]
        spectra = [torch.linalg.svdvals(each) for each in moments]
        entropies = [float(torch.special.entr(each / each.sum()).sum()) for each in spectra]
        counts = share_out(entropies, 5, 0.5)
        first = entropies.index(min(entropies))
        wanted = torch.linalg.svd(moments[first])[0][:, : counts[first]]
        for name in parts[0].layers:
            a, b = adapters.lora_ab(exact_model.module.get_submodule(name))
            shared, *blocks = a.detach().split([2, *counts])
            assert torch.equal(shared, lora[name][:2]), "as LoRA draws them"
            assert not b.any()
            rows = 3**0.5 * torch.cat(blocks)
            assert torch.allclose(rows @ rows.T, torch.eye(5, dtype=rows.dtype), atol=1e-9)
            assert torch.allclose(projection(3**0.5 * blocks[first]), wanted @ wanted.T, atol=1e-6)
            assert [int(prepared[f"{name}.rows/{task}"]) for task in prompts] == counts
        sizes.add(tuple(counts))
    assert len(sizes) > 1, "control: layers share out differently"
    found = method.diagnostics(prepared)
    assert found["tasks"] == 2
    assert found["rows of entity, mean"] + found["rows of news, mean"] == pytest.approx(5)


def test_other_items_give_other_subspaces(tiny_model):
    starts = [make("thanora").prepare(tiny_model, resources_of(items)) for items in (ITEMS, ITEMS, knowledge(24)[12:])]
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])  # control


def test_the_penalty_holds_the_blocks_apart_and_is_nothing_without_its_coefficient(tiny_model):
    overlaps, starts = {}, []
    for coefficient in (0.0, 0.5):
        method = make("thanora", coefficient=coefficient)
        prepared = attach(method, tiny_model, resources_of())
        starts.append(prepared)
        batch = tiny_model.training_batch(SAMPLES)
        penalty = method.penalty(tiny_model, batch, logits_of(tiny_model, SAMPLES))
        assert penalty is None if coefficient == 0 else abs(penalty.item()) < 1e-8
        train(method, tiny_model, SAMPLES, steps=8)
        overlaps[coefficient] = total_overlap(tiny_model, method._rows).item()
        penalty = method.penalty(tiny_model, batch, logits_of(tiny_model, SAMPLES))
        if coefficient:
            assert penalty.item() == pytest.approx(coefficient * overlaps[coefficient], rel=1e-5)
        method.detach(tiny_model)
    assert same(starts[0], starts[1])
    assert overlaps[0.0] > 5 * overlaps[0.5] > 0


def test_the_penalty_counts_the_blocks_of_tasks_alone(exact_model):
    method = make("thanora", coefficient=2.0, rank=6)
    attach(method, exact_model, resources_of())
    total = 0.0
    generator = torch.Generator().manual_seed(0)
    for name, layer in adapters.lora_layers(exact_model.module):
        a, b = adapters.lora_ab(layer)
        with torch.no_grad():
            a.copy_(torch.randn(a.shape, dtype=a.dtype, generator=generator))
            b.copy_(torch.randn(b.shape, dtype=b.dtype, generator=generator))
        counts = [int(method._rows[f"{name}.rows/{task}"]) for task in ("entity", "news")]
        assert sum(counts) == 4
        one, other = a.detach()[2:].split(counts)
        inner = (one @ other.T).square().sum() / (one.square().sum() * other.square().sum())
        total += 2.0 * max(counts) * float(inner)
    batch = exact_model.training_batch(SAMPLES)
    penalty = method.penalty(exact_model, batch, logits_of(exact_model, SAMPLES))
    assert penalty.item() == pytest.approx(total, rel=1e-10)
    penalty.backward()
    for _, layer in adapters.lora_layers(exact_model.module):
        a, b = adapters.lora_ab(layer)
        assert not a.grad[:2].any()
        assert a.grad[2:].abs().max() > 1e-6  # control
        assert b.grad is None


def test_with_a_single_task_it_is_lora_bit_for_bit_and_says_so(tiny_model):
    news = [dataclasses.replace(item, group="news") for item in ITEMS]
    results = []
    for row, items in (("lora", ITEMS), ("thanora", news), ("thanora", ITEMS)):
        method = make(row)
        prepared = attach(method, tiny_model, resources_of(items))
        losses = train(method, tiny_model, SAMPLES, steps=4)
        results.append((losses, method.export(tiny_model), method.diagnostics(prepared)))
        assert row == "lora" or bool(method.export_stage_state(tiny_model)) == (items is ITEMS)
        method.detach(tiny_model)
    lora, one, two = results
    assert lora[0] == one[0]
    assert same(lora[1], one[1])
    assert one[2] == {"tasks": 1}
    assert two[1].keys() == lora[1].keys(), "what is stored is a LoRA"
    assert not same(lora[1], two[1])  # control


def test_later_stages_keep_the_blocks_of_the_first(tiny_model):
    first = make("thanora")
    prepared = attach(first, tiny_model, resources_of())
    train(first, tiny_model, SAMPLES)
    learnt, exported, state = (
        logits_of(tiny_model, SAMPLES),
        first.export(tiny_model),
        first.export_stage_state(tiny_model),
    )
    overlap = total_overlap(tiny_model, first._rows).item()
    first.detach(tiny_model)
    assert state
    assert all(torch.equal(state[name], prepared[name]) for name in state)
    second = make("thanora")
    news = [dataclasses.replace(item, group="news") for item in ITEMS]
    attach(second, tiny_model, resources_of(news, stage=2, stage_state=state), seed=1)
    second.load_previous_stage(tiny_model, exported)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
    batch = tiny_model.training_batch(SAMPLES)
    assert second.penalty(tiny_model, batch, learnt).item() == pytest.approx(overlap, rel=1e-4)
    assert same(second.export_stage_state(tiny_model), state)
    assert second.diagnostics(state)["tasks"] == 2


def test_the_start_is_computed_once_for_what_it_depends_on(tiny_model):
    resources = resources_of()
    changes = ({}, {"rank": 3}, {"temperature": 2.0}, {"task_samples": 2}, {"targets": "mlp"}, {"data": "text-aware"})
    for count, change in enumerate(changes, 1):
        for rate, coefficient in ((1e-2, 1.0), (1e-3, 0.0)):
            make("thanora", learning_rate=rate, coefficient=coefficient, **change).prepare(tiny_model, resources)
            assert len(resources.store) == count
    assert resources.asked == [], "no pool is drawn from"


def test_bad_settings_are_refused_with_what_to_do(tiny_model, tiny_folder):
    from harness.models.registry import target_shapes

    with pytest.raises(UserError, match=r"2 tasks \(entity, news\) do not fit into 1 rows(?s:.*)choose at least 2"):
        make("thanora", rank=1).prepare(tiny_model, resources_of())
    make("thanora", rank=1).prepare(tiny_model, resources_of(ITEMS[:1]))  # control: a single task
    for refuse in (
        lambda: make("thanora", rank=33).validate_layers(target_shapes(tiny_folder)),
        lambda: make("thanora", rank=33).prepare(tiny_model, resources_of()),
    ):
        with pytest.raises(UserError, match=r"rank 33 is too large for .*_proj, which has 32 inputs"):
            refuse()
    make("thanora", rank=32).validate_layers(target_shapes(tiny_folder))  # control
    for bad in ({"coefficient": -1.0}, {"temperature": 0.0}, {"tasks": "type"}, {"task_samples": 0}):
        with pytest.raises(UserError, match=f"{next(iter(bad))} cannot be"):
            make("thanora", **bad)
