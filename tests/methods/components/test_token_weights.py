"""Weights of tokens, against the definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from methods.components.token_weights import TOP, entropy_weights
from methods.lora import LoRA, LoRASettings


def oracle(row, top=TOP):
    """The entropy of the most likely tokens over its largest value, one token after the other."""
    scores = sorted((float(value) for value in row), reverse=True)[:top]
    total = math.fsum(math.exp(value - scores[0]) for value in scores)
    shares = [math.exp(value - scores[0]) / total for value in scores]
    return -math.fsum(share * math.log(share) for share in shares if share) / math.log(len(scores))


@pytest.mark.parametrize("vocabulary", [5, TOP, 300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_definition(vocabulary, dtype):
    logits = (4 * torch.randn(12, vocabulary, generator=torch.Generator().manual_seed(0))).to(dtype)
    weights = entropy_weights(logits)
    expected = np.array([oracle(row) for row in logits.double()])
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    np.testing.assert_allclose(weights.double().numpy(), expected, rtol=0, atol=tolerance)
    assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()


def test_an_undecided_token_counts_in_full_and_a_sure_one_not():
    sure = torch.tensor([[100.0, *[0.0] * 99]])
    assert float(entropy_weights(sure)) == pytest.approx(0, abs=1e-6)
    assert float(entropy_weights(torch.zeros(1, 100))) == pytest.approx(1)
    assert entropy_weights(torch.zeros(0, 100)).shape == (0,)


def test_the_loss_and_its_gradient_are_those_of_fixed_weights():
    """In float64, by hand: sum of w x (log sum exp - logit of the target); no gradient passes through w."""
    logits = torch.randn(9, 50, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(9)
    method = LoRA(LoRASettings(loss_weights="entropy"))
    loss, tokens = method.loss(None, {}, logits, targets)
    loss.backward()
    rows = logits.detach().numpy()
    weights = np.array([oracle(row) for row in rows])
    sums = np.exp(rows).sum(axis=1)
    assert loss.item() == pytest.approx(float(weights @ (np.log(sums) - rows[range(9), range(9)])), rel=1e-12)
    assert tokens == 9
    expected = weights[:, None] * (np.exp(rows) / sums[:, None] - np.eye(9, 50))
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-12)


def test_equal_weights_are_cross_entropy():
    logits, targets = torch.randn(4, 30), torch.arange(4)
    loss, _ = LoRA(LoRASettings()).loss(None, {}, logits, targets)
    assert torch.equal(loss, torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
