"""What holds for every penalty (I8 among it), and the oracles of EWC and LwF."""

from __future__ import annotations

from math import log

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.fisher import diagonal_fisher, factored_penalty, weight_factors
from methods.lwf import distillation

SAMPLES = conversations(6, seed=1)


def penalised(text, model, **changes):
    method = make(text, **changes)
    attach(method, model)
    batch = model.training_batch(SAMPLES)
    return method, batch, lambda: method.penalty(model, batch, model.supervised(batch)[0])


@pytest.mark.parametrize("row", ["ewc", "ewc:weight-space", "lwf", "o-lora:pseudo-task", "sefe:pseudo-task"])
def test_i8_without_its_coefficient_it_is_lora_bit_for_bit(row, tiny_model):
    results = []
    for method in (make("lora"), make(row, coefficient=0.0), make(row)):
        attach(method, tiny_model)
        losses = train(method, tiny_model, SAMPLES, steps=4)
        results.append((losses, method.export(tiny_model)))
        method.detach(tiny_model)
    lora, zero, some = results
    assert lora[0] == zero[0]
    assert same(lora[1], zero[1])
    assert not same(lora[1], some[1])  # control


@pytest.mark.parametrize("row", ["ewc", "ewc:weight-space", "lwf", "sefe:pseudo-task"])
def test_at_the_start_the_penalty_and_its_gradient_are_zero(row, tiny_model):
    method, _, penalty = penalised(row, tiny_model)
    value = penalty()
    value.backward()
    value = value.detach()
    trained = [parameter for parameter in tiny_model.module.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    assert abs(float(value)) < 1e-6
    assert gradients
    assert all(float(gradient.abs().max()) < 1e-5 for gradient in gradients)
    tiny_model.module.zero_grad()
    train(method, tiny_model, SAMPLES, steps=2)
    assert penalty().item() > 1e-5  # control


@pytest.mark.parametrize(
    "row", ["ewc", "ewc:weight-space", "lwf", "o-lora:pseudo-task", "sefe:pseudo-task", "moelora:top-k", "thanora"]
)
def test_the_penalty_does_not_depend_on_how_a_step_is_cut(row, tiny_model):
    def after(accumulate):
        method = make(row)
        attach(method, tiny_model)
        train(method, tiny_model, SAMPLES, steps=2, accumulate=accumulate)
        tensors = method.export(tiny_model)
        method.detach(tiny_model)
        return tensors

    one, four = after(1), after(4)
    assert all(torch.allclose(one[name], four[name], atol=1e-3) for name in one)


def test_ewc_pulls_by_lambda_f_times_the_distance(tiny_model):
    method, _, penalty = penalised("ewc", tiny_model, coefficient=3.0)
    parameter, start, fisher = method._anchors[5]
    with torch.no_grad():
        parameter += 0.1 * torch.randn_like(parameter)
    penalty().backward()
    assert torch.allclose(parameter.grad, 3.0 * fisher * (parameter - start).detach(), rtol=1e-4, atol=1e-9)
    index, step = int(fisher.argmax()), 1e-2
    with torch.no_grad():
        parameter.view(-1)[index] += step
        above = penalty().item()
        parameter.view(-1)[index] -= 2 * step
        below = penalty().item()
    assert (above - below) / (2 * step) == pytest.approx(float(parameter.grad.view(-1)[index]), rel=1e-2)


def test_at_b_zero_a_has_no_fisher_information(tiny_model):
    attach(make("lora"), tiny_model)
    fisher = diagonal_fisher(tiny_model, SAMPLES[:2])
    assert all(torch.count_nonzero(values) == 0 for name, values in fisher.items() if "lora_A" in name)
    assert any(torch.count_nonzero(values) for name, values in fisher.items() if "lora_B" in name)  # control
    assert all(bool((values >= 0).all()) for values in fisher.values())


def test_fisher_counts_each_sample_by_itself(tiny_model):
    attach(make("lora"), tiny_model)
    once, thrice = diagonal_fisher(tiny_model, SAMPLES[:2]), diagonal_fisher(tiny_model, SAMPLES[:2] * 3)
    assert all(torch.allclose(once[name], thrice[name], rtol=1e-4, atol=1e-12) for name in once)
    tiny_model.module.zero_grad()
    gradients = []
    for sample in SAMPLES[:2]:
        logits, targets = tiny_model.supervised(tiny_model.training_batch([sample]))
        loss = torch.nn.functional.cross_entropy(logits, targets)
        trained = {n: p for n, p in tiny_model.module.named_parameters() if p.requires_grad and "lora_B" in n}
        gradients.append(dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True)))
    for name in gradients[0]:
        first, second = (gradient[name] for gradient in gradients)
        assert torch.allclose(once[name], (first.square() + second.square()) / 2, rtol=1e-3, atol=1e-10)
    batch_square = sum(
        float(((g + h) / 2).square().sum()) for g, h in zip(*(d.values() for d in gradients), strict=True)
    )
    assert batch_square < sum(float(once[name].sum()) for name in gradients[0])  # the usual mistake falls short


def test_fisher_leaves_the_model_alone_and_needs_data(tiny_model):
    before = logits_of(tiny_model, SAMPLES)
    method = make("ewc")
    torch.manual_seed(0)
    method.prepare(tiny_model, FakeResources())
    assert torch.equal(logits_of(tiny_model, SAMPLES), before)
    assert not list(adapters.lora_layers(tiny_model.module))
    attach(make("lora"), tiny_model)
    with pytest.raises(UserError, match="no samples for the Fisher information"):
        diagonal_fisher(tiny_model, [])


def test_factored_penalty_equals_the_dense_sum():
    generator = torch.Generator().manual_seed(0)
    a, c = (torch.rand(size, dtype=torch.float64, generator=generator) for size in (11, 7))
    up, down = (torch.randn(*size, dtype=torch.float64, generator=generator) for size in ((11, 3), (3, 7)))
    dense = (a[:, None] * c[None, :] * (up @ down).square()).sum()
    assert float(factored_penalty(a, c, up, down)) == pytest.approx(float(dense), rel=1e-12)
    assert float(factored_penalty(c.new_ones(11), c, up, down)) != pytest.approx(float(dense), rel=1e-3)  # control


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_weight_factors_of_every_layer_are_there(rate, tiny_model):
    attach(make("lora", projector_learning_rate=rate), tiny_model)
    found = weight_factors(tiny_model, SAMPLES[:3])
    assert len(found) == 14
    for name, (a, c) in found.items():
        assert float(a.min()) >= 0
        assert float(a.max()) > 0, name
        assert float(c.max()) > 0, name


def logits(*probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_distillation_is_the_divergence_of_the_student_from_the_teacher():
    teacher, student = logits(0.7, 0.2, 0.1), logits(0.5, 0.3, 0.2)
    assert float(distillation(teacher, student, 1.0)) == pytest.approx(0.0851228, abs=1e-7)
    assert float(distillation(teacher, student, 2.0)) == pytest.approx(0.0982972, abs=1e-7)
    assert float(distillation(teacher, student, 2.0)) / 4 == pytest.approx(0.0245743, abs=1e-7)
    swapped = float(distillation(student, teacher, 1.0))
    assert swapped == pytest.approx(0.5 * log(5 / 7) + 0.3 * log(3 / 2) + 0.2 * log(2), abs=1e-9)
    assert swapped != pytest.approx(0.0851228, abs=1e-3)


def test_distillation_gradient_is_t_times_the_difference():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(5, 9, dtype=torch.float64, generator=generator) for _ in range(2))
    student.requires_grad_(True)
    for temperature in (1.0, 2.0):
        (gradient,) = torch.autograd.grad(distillation(teacher, student, temperature), student)
        p, q = ((values / temperature).softmax(-1) for values in (teacher, student))
        assert torch.allclose(gradient, temperature * (q - p).detach() / 5, atol=1e-15)
    assert torch.allclose(distillation(teacher, teacher, 2.0), torch.zeros((), dtype=torch.float64), atol=1e-15)


def test_the_teacher_is_the_same_before_and_after_training(tiny_model):
    before = logits_of(tiny_model, SAMPLES)
    method = make("lwf")
    attach(method, tiny_model)
    train(method, tiny_model, SAMPLES)
    with adapters.without_adapter(tiny_model):
        assert torch.equal(logits_of(tiny_model, SAMPLES), before)
    assert not torch.equal(logits_of(tiny_model, SAMPLES), before)  # control
