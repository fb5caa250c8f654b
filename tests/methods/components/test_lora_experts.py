"""The oracles of MoELoRA: what its batched experts compute, and what its routing is asked to be like."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.errors import UserError
from helpers.plain_loop import attach, logits_of, make, same, train
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.lora_experts import (
    Experts,
    contrastive_loss,
    evenly_spaced_tokens,
    gates,
    get_experts,
    load_balance_loss,
)

SAMPLES = conversations(6, seed=1)
ROWS, TOKENS, INPUTS, OUTPUTS, EXPERTS, RANK = 2, 6, 10, 7, 4, 3
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)


def layer(draw, experts=EXPERTS, top_k=0):
    """Experts whose A has EXPERTS x RANK rows, and a B for them."""
    down = torch.nn.Linear(INPUTS, EXPERTS * RANK, bias=False, dtype=torch.float64)
    down.weight.data = draw(EXPERTS * RANK, INPUTS)
    return Experts(down, experts, top_k, "layer"), draw(OUTPUTS, EXPERTS * RANK)


@pytest.mark.parametrize("top_k", [0, 1, 2])
def test_batched_experts_equal_a_loop_over_them(top_k, draw):
    experts, up = layer(draw, top_k=top_k)
    x = draw(ROWS, TOKENS, INPUTS)
    probabilities = (x @ experts.router.T).softmax(-1)
    weights = gates(probabilities, top_k)
    slow = torch.zeros(ROWS, TOKENS, OUTPUTS, dtype=torch.float64)
    for e in range(EXPERTS):
        rows = slice(e * RANK, (e + 1) * RANK)
        slow += weights[..., e, None] * (x @ experts.weight[rows].T @ up[:, rows].T)
    assert torch.allclose(experts(x) @ up.T, slow, atol=1e-12)
    assert not torch.allclose(x @ experts.weight.T @ up.T, slow, atol=1e-3)  # control: the gates matter


def test_with_a_uniform_gate_it_is_lora_at_a_share_of_the_scale(draw):
    experts, up = layer(draw)
    experts.router.data.zero_()
    x = draw(ROWS, TOKENS, INPUTS)
    assert torch.allclose(experts(x) @ up.T, x @ experts.weight.T @ up.T / EXPERTS, atol=1e-12)


def test_gates_of_the_chosen_sum_to_one(draw):
    probabilities = draw(5, EXPERTS).softmax(-1)
    for top_k in (1, 2, 3):
        chosen = gates(probabilities, top_k)
        assert torch.equal((chosen > 0).sum(-1), torch.full((5,), top_k))
        assert torch.allclose(chosen.sum(-1), torch.ones(5, dtype=torch.float64), atol=1e-15)
        assert torch.equal(chosen.argmax(-1), probabilities.argmax(-1))
    assert torch.equal(gates(probabilities, 0), probabilities)


def test_load_balance_is_one_where_even_and_e_where_collapsed():
    even = torch.eye(EXPERTS, dtype=torch.float64)[None]  # each expert has one token
    collapsed = torch.eye(EXPERTS, dtype=torch.float64)[None, [0] * EXPERTS]
    everywhere = torch.ones(1, EXPERTS)
    assert float(load_balance_loss(even, everywhere, 1)) == pytest.approx(1)
    assert float(load_balance_loss(collapsed, everywhere, 1)) == pytest.approx(EXPERTS)
    padded = torch.cat([even, collapsed], dim=1)
    assert float(load_balance_loss(padded, torch.tensor([[1] * EXPERTS + [0] * EXPERTS]), 1)) == pytest.approx(1)
    assert float(load_balance_loss(padded, torch.ones(1, 2 * EXPERTS), 1)) > 1.1  # control: padding would count


def slow_contrast(projected, up, mask, temperature, samples):
    """By forming every output B_e A_e x."""
    rows = []
    for row, places in enumerate(evenly_spaced_tokens(mask, samples)):
        outputs = torch.stack(
            [projected[row, places, e] @ up[:, e * RANK : (e + 1) * RANK].T for e in range(EXPERTS)], dim=1
        )
        flat = outputs.flatten(0, 1)
        flat = flat / (flat.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        losses = []
        for i in range(len(flat)):
            others = [j for j in range(len(flat)) if j != i]
            likely = dict(zip(others, (flat[others] @ flat[i] / temperature).log_softmax(0), strict=True))
            losses.append(-torch.stack([likely[j] for j in others if j % EXPERTS == i % EXPERTS]).mean())
        rows.append(torch.stack(losses).mean())
    return torch.stack(rows)


def test_contrast_equals_the_outputs_formed_one_by_one(draw):
    projected, up = draw(ROWS, TOKENS, EXPERTS, RANK), draw(OUTPUTS, EXPERTS * RANK)
    quick = contrastive_loss(projected, up, MASK, 0.5, 3)
    assert torch.allclose(quick, slow_contrast(projected, up, MASK, 0.5, 3), atol=1e-9)
    noise = torch.where(MASK[..., None, None] == 0, draw(ROWS, TOKENS, EXPERTS, RANK), projected)
    assert torch.equal(contrastive_loss(noise, up, MASK, 0.5, 3), quick)  # padding is not looked at
    assert not torch.allclose(contrastive_loss(noise, up, torch.ones_like(MASK), 0.5, 3)[0], quick[0])  # control


def test_contrast_has_sane_gradients_where_all_outputs_are_zero(draw):
    """B = 0 at the start; a plain normalisation has gradients of 1e12 there."""
    up = torch.zeros(OUTPUTS, EXPERTS * RANK, dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(draw(ROWS, TOKENS, EXPERTS, RANK), up, MASK, 0.07, 3).sum()
    loss.backward()
    assert loss.item() == pytest.approx(ROWS * log(3 * EXPERTS - 1))
    assert float(up.grad.abs().max()) == 0
    near = (1e-9 * draw(OUTPUTS, EXPERTS * RANK)).requires_grad_()
    contrastive_loss(draw(ROWS, TOKENS, EXPERTS, RANK), near, MASK, 0.07, 3).sum().backward()
    assert float(near.grad.abs().max()) < 1
    other = (1e-9 * draw(OUTPUTS, EXPERTS * RANK)).requires_grad_()
    (normalize(other.T, eps=0).sum()).backward()
    assert float(other.grad.abs().max()) > 1e7  # control


def test_sampled_tokens_are_real_and_spread():
    assert evenly_spaced_tokens(MASK, 2).tolist() == [[1, 3], [1, 4]]
    left = MASK.flip(1)
    assert evenly_spaced_tokens(left, 4).tolist()[0] == [2, 3, 4, 5]


def test_i8_a_single_expert_is_lora_bit_for_bit(tiny_model):
    results = []
    for method in (make("lora"), make("moelora", experts=1), make("moelora")):
        attach(method, tiny_model)
        losses = train(method, tiny_model, SAMPLES, steps=4)
        tensors = method.export(tiny_model)
        results.append((losses, {name: t for name, t in tensors.items() if not name.endswith("router.weight")}))
        method.detach(tiny_model)
    lora, one, four = results
    assert lora[0] == one[0]
    assert same(lora[1], one[1])
    assert not same(lora[1], four[1])  # control


def test_routers_learn_stay_in_full_precision_and_travel(tiny_folder):
    from harness.models.llava import LlavaModel

    model = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.bfloat16)
    method = make("moelora:top-k", top_k=2)
    attach(method, model)
    start = method.export(model)
    with torch.autocast("cpu", torch.bfloat16):
        train(method, model, SAMPLES, steps=3)
        model.supervised(model.training_batch(SAMPLES[:2]))
    assert {part.pop_recorded()[1].dtype for part in get_experts(model).values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        answers = logits_of(model, SAMPLES)
    end = method.export(model)
    routers = [name for name in end if name.endswith(".router.weight")]
    assert len(routers) == 14
    assert not any(torch.equal(start[name], end[name]) for name in routers)
    method.detach(model)
    wrong = {**end, routers[0]: end[routers[0]][:1]}
    with pytest.raises(UserError, match="1 routers are missing, unknown or of another shape"):
        method.restore(model, wrong)
    method.detach(model)
    method.restore(model, end)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits_of(model, SAMPLES), answers)


def test_losses_of_the_routing_weigh_conversations_by_their_supervised_tokens(tiny_model):
    method = make("moelora:top-k", top_k=2)
    attach(method, tiny_model)
    train(method, tiny_model, SAMPLES, steps=2)

    def penalty(samples):
        batch = tiny_model.training_batch(samples)
        logits, targets = tiny_model.supervised(batch)
        return method.penalty(tiny_model, batch, logits).item(), len(targets)

    whole, count = penalty(SAMPLES)
    parts = [penalty([sample]) for sample in SAMPLES]
    assert sum(tokens for _, tokens in parts) == count
    assert whole == pytest.approx(sum(value * tokens for value, tokens in parts) / count, rel=1e-5)
    assert whole != pytest.approx(sum(value for value, _ in parts) / len(parts), rel=1e-5)  # control
    with pytest.raises(RuntimeError, match="follows a forward pass"):
        method.penalty(tiny_model, tiny_model.training_batch(SAMPLES), torch.zeros(1))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("experts", {"experts": 3}),
        ("top_k", {"top_k": 9}),
        ("balance", {"balance": 0.1}),
        ("contrast", {"experts": 1, "contrast": 0.1}),
        ("temperature", {"temperature": 0.0}),
        ("contrast_tokens", {"contrast_tokens": 1}),
    ],
)
def test_senseless_settings_are_refused(field, changes):
    with pytest.raises(UserError, match=field):
        make("moelora", **{"rank": 8, **changes})


def test_parameter_counts(shapes_of_7b):
    wanted = {(8, 128): 349_904_896, (8, 120): 329_916_416, (4, 124): 335_355_904, (5, 125): 338_993_152}
    shapes = [(layer.in_features, layer.out_features) for layer in adapters.target_layers(shapes_of_7b).values()]
    assert sum(inputs for inputs, _ in shapes) == 1_138_688  # what a router for one more expert costs
    for (experts, rank), count in wanted.items():
        assert sum(rank * (i + o) + experts * i for i, o in shapes) + 20_979_712 == count
    method = make("moelora", rank=125, experts=5)
    with torch.device("meta"):
        method.attach(shapes_of_7b, {})
    groups = method.parameter_groups(shapes_of_7b)
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == wanted[5, 125]
    method.detach(shapes_of_7b)
