"""How alike two covariances are, against literal computations and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.errors import UserError
from helpers.tiny import conversations
from methods.components.covariance import covariances
from methods.components.covariance_similarity import (
    BOTTOM,
    COSINE,
    OUTLIER,
    CovarianceSummary,
    chance,
    cosine,
    max_pooled,
    outlier_overlap,
    outlier_positions,
    similarities,
    subspace_overlap,
    summarize,
)
from methods.components.null_space import bottom_eigenvectors, random_basis


def covariance(size, seed):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * size, size, dtype=torch.float64, generator=draw)
    return inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize(("size", "blocks"), [(64, 32), (70, 32), (32, 32), (20, 32)])
def test_a_picture_has_the_largest_absolute_value_of_each_block(size, blocks):
    matrix = covariance(size, 0) - 0.2
    picture = max_pooled(matrix, blocks).numpy()
    side = min(size, blocks)
    starts = [math.floor(place * size / side) for place in range(side)]
    ends = [math.ceil((place + 1) * size / side) for place in range(side)]
    literal = [
        [np.abs(matrix.numpy()[a:b, c:d]).max() for c, d in zip(starts, ends, strict=True)]
        for a, b in zip(starts, ends, strict=True)
    ]
    assert np.array_equal(picture, literal)
    assert picture.max() == matrix.abs().max()
    assert not np.array_equal(picture, max_pooled(matrix.clamp(min=0), blocks).numpy())  # control: signs are ignored


def test_a_cosine_is_that_of_the_entries():
    a, b = covariance(12, 0), covariance(12, 1)
    literal = np.sum(a.numpy() * b.numpy()) / math.sqrt(np.sum(a.numpy() ** 2) * np.sum(b.numpy() ** 2))
    assert cosine(a, b) == pytest.approx(literal, rel=1e-12)
    assert cosine(a, 3 * a) == pytest.approx(1)
    diagonal = torch.eye(12)[0].diag(), torch.eye(12)[1].diag()
    assert cosine(*diagonal) == 0


def test_an_overlap_of_subspaces_depends_on_the_subspaces_alone():
    draw = torch.Generator().manual_seed(0)
    u, v = random_basis(40, 5, draw), random_basis(40, 5, draw)
    angles = torch.linalg.svdvals(u.T @ v)  # cosines of the principal angles
    assert subspace_overlap(u, v) == pytest.approx(float(angles.square().mean()))
    turned = u @ random_basis(5, 5, draw)
    assert subspace_overlap(turned, v) == pytest.approx(subspace_overlap(u, v))
    assert subspace_overlap(u, turned) == pytest.approx(1)
    basis = random_basis(40, 10, draw)
    assert subspace_overlap(basis[:, :5], basis[:, 5:]) == pytest.approx(0, abs=1e-20)
    half = torch.cat([basis[:, :3], basis[:, 5:7]], dim=1)
    assert subspace_overlap(basis[:, :5], half) == pytest.approx(3 / 5)


def test_random_subspaces_and_outliers_overlap_by_chance():
    draw = torch.Generator().manual_seed(3)
    bases = [random_basis(32, 4, draw) for _ in range(60)]
    found = [subspace_overlap(a, b) for a, b in zip(bases[::2], bases[1::2], strict=True)]
    matrices = [torch.randn(32, 32, generator=draw) for _ in range(60)]
    places = [outlier_positions(matrix + matrix.T, 0.1) for matrix in matrices]
    common = [outlier_overlap(a, b) for a, b in zip(places[::2], places[1::2], strict=True)]
    expected = chance(CovarianceSummary(matrices[0], bases[0], places[0]))
    assert np.mean(found) == pytest.approx(expected[BOTTOM], rel=0.15)
    assert np.mean(common) == pytest.approx(expected[OUTLIER], rel=0.25)


def test_outliers_are_the_largest_entries_whatever_their_sign():
    matrix = torch.zeros(10, 10)
    matrix[3, 3], matrix[7, 2], matrix[2, 7], matrix[5, 1], matrix[1, 5] = 9.0, -8.0, -8.0, 0.5, 0.5
    places = outlier_positions(matrix, 2 / 55)
    rows, columns = np.tril_indices(10)
    assert {(int(rows[place]), int(columns[place])) for place in places} == {(3, 3), (7, 2)}
    assert len(outlier_positions(matrix, 1e-9)) == 1
    other = matrix.clone()
    other[7, 2] = other[2, 7] = 0.0
    assert outlier_overlap(places, outlier_positions(other, 2 / 55)) == 0.5


def test_summaries_are_of_the_layers_asked_for(tiny_model):
    prompts = [sample for sample in conversations(24, seed=4) if len(sample.pictures) <= 1][:8]
    every = {name: part for part in covariances(tiny_model, prompts) for name in part.layers}
    names = [name for name in every if name.endswith(("layers.0.self_attn.k_proj", "layers.1.mlp.down_proj"))]
    found = summarize(tiny_model, prompts, dict.fromkeys(names, 3))
    assert list(found) == names
    for name, summary in found.items():
        assert torch.equal(summary.covariance, every[name].covariance)
        assert subspace_overlap(summary.bottom, bottom_eigenvectors(every[name].covariance, 3)) == pytest.approx(1)
        assert similarities(summary, summary) == pytest.approx({COSINE: 1, BOTTOM: 1, OUTLIER: 1})
    shared = summarize(tiny_model, prompts, dict.fromkeys([n for n in every if "layers.0.self_attn" in n], 3))
    assert [name.rpartition(".")[2] for name in shared] == ["q_proj", "o_proj"], "q, k and v read the same input"
    with pytest.raises(UserError, match="rank 99 of"):
        summarize(tiny_model, prompts, {names[0]: 99})
