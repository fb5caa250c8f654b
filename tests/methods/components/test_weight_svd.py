"""Weights without some singular components, against the literal recipe with an inverse, in float64."""

from __future__ import annotations

import pytest
import torch

from methods.components.weight_svd import (
    covariance_weighting,
    left_singular_vectors,
    magnitude_weighting,
    rotated_weighting,
    without_components,
)

SHAPES = [(12, 12), (20, 8), (8, 20)]


def problem(shape, seed=0):
    """A weight, inputs of very different strengths, and their covariance."""
    draw = torch.Generator().manual_seed(seed)
    d_out, d_in = shape
    weight = torch.randn(d_out, d_in, dtype=torch.float64, generator=draw)
    mixing = torch.randn(d_in, d_in, dtype=torch.float64, generator=draw)
    strengths = torch.logspace(0, -2, d_in, dtype=torch.float64)
    inputs = torch.randn(200, d_in, dtype=torch.float64, generator=draw) * strengths @ mixing
    return weight, inputs, inputs.T @ inputs / len(inputs)


def weightings(inputs, covariance):
    """Every M, as a matrix for the literal recipe, and as the components give it."""
    damped = covariance_weighting(covariance)
    diagonal = magnitude_weighting(inputs.abs().mean(0))
    random = rotated_weighting(damped, torch.Generator().manual_seed(1))
    identity = torch.eye(len(covariance), dtype=torch.float64)
    return {
        "plain": (identity, None),
        "asvd": (diagonal.diag(), diagonal),
        "covariance": (damped, damped),
        "random": (random, random),
    }


def literal(weight, matrix, keep):
    """U_k S_k V_k^T M^-1 for the kept components, as CorDA's code writes it."""
    u, s, vt = torch.linalg.svd(weight @ matrix, full_matrices=False)
    return (u[:, keep] * s[keep]) @ vt[keep] @ torch.linalg.inv(matrix)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["plain", "asvd", "covariance", "random"])
def test_what_is_left_is_that_of_the_literal_recipe(shape, name):
    weight, inputs, covariance = problem(shape)
    matrix, weighting = weightings(inputs, covariance)[name]
    vectors = left_singular_vectors(weight, weighting)
    size = min(shape)
    assert vectors.shape == (shape[0], size)
    for count in (0, 1, size // 2, size):
        left = without_components(weight, vectors, count)
        torch.testing.assert_close(left, literal(weight, matrix, slice(0, size - count)), rtol=1e-6, atol=1e-8)
        left = without_components(weight, vectors, count, "largest")
        torch.testing.assert_close(left, literal(weight, matrix, slice(count, size)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_full_rank_every_decomposition_is_the_base_bit_for_bit(dtype):
    weight, inputs, covariance = problem((20, 8))
    weight = weight.to(dtype)
    for _, weighting in weightings(inputs, covariance).values():
        vectors = left_singular_vectors(weight, weighting).float()
        for end in ("smallest", "largest"):
            assert torch.equal(without_components(weight, vectors, 0, end), weight)
            assert not torch.equal(without_components(weight, vectors, 1, end), weight)  # control


def test_decompositions_differ_and_each_is_the_best_by_its_own_measure():
    """Eckart and Young: no other weight of this rank is as close to W M as what is left."""
    weight, inputs, covariance = problem((12, 12))
    every = weightings(inputs, covariance)
    left = {
        name: without_components(weight, left_singular_vectors(weight, weighting), 6)
        for name, (_, weighting) in every.items()
    }
    for measure, (matrix, _) in every.items():
        errors = {name: float(((weight - each) @ matrix).norm()) for name, each in left.items()}
        others = [error for name, error in errors.items() if name != measure]
        assert errors[measure] < 0.999 * min(others), (measure, errors)


def test_the_covariance_keeps_the_answers_to_its_inputs_where_a_random_basis_does_not():
    weight, inputs, covariance = problem((12, 12))
    outputs = inputs @ weight.T
    errors = {}
    for name, (_, weighting) in weightings(inputs, covariance).items():
        left = without_components(weight, left_singular_vectors(weight, weighting), 6)
        errors[name] = float((inputs @ left.T - outputs).norm() / outputs.norm())
    assert errors["covariance"] < errors["asvd"]
    assert errors["covariance"] < 0.2 * errors["random"], errors


def test_a_rotated_weighting_keeps_the_spectrum_and_nothing_else():
    _, _, covariance = problem((12, 12))
    weighting = covariance_weighting(covariance)
    rotated = rotated_weighting(weighting, torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.linalg.eigvalsh(rotated), torch.linalg.eigvalsh(weighting))
    aligned = (rotated * weighting).sum() / rotated.norm() / weighting.norm()
    assert aligned < 0.5
    assert torch.equal(rotated, rotated_weighting(weighting, torch.Generator().manual_seed(1)))
    assert not torch.equal(rotated, rotated_weighting(weighting, torch.Generator().manual_seed(2)))


def test_damping_makes_a_singular_covariance_invertible():
    covariance = torch.zeros(6, 6)
    covariance[0, 0] = 6.0
    weighting = covariance_weighting(covariance)
    assert torch.equal(weighting, torch.diag(torch.tensor([6.01] + [0.01] * 5, dtype=torch.float64)))
    assert torch.equal(covariance[1:], torch.zeros(5, 6)), "the covariance itself stays as it is"
