"""KORE's mathematics against the paper's formulas, literally computed, in float64 (oracles O1 to O7)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from methods.components.krylov import bottom_by_krylov
from methods.components.null_space import (
    balanced_factors,
    bottom_eigenvectors,
    energy_share,
    projected_svd,
    random_basis,
    top_eigenvectors,
)

D_IN, D_OUT, RANK = 48, 40, 6


def problem(seed: int = 0, d_in: int = D_IN, d_out: int = D_OUT, decay: float = 8.0):
    """A weight, and a covariance whose eigenvalues fall from 1 to 10^-decay in a random eigenbasis."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(d_out, d_in, dtype=torch.float64, generator=generator)
    vectors = random_basis(d_in, d_in, generator)
    spectrum = 10 ** torch.linspace(0, -decay, d_in, dtype=torch.float64)
    return weight, (vectors * spectrum) @ vectors.T, spectrum


def literal(weight: torch.Tensor, covariance: torch.Tensor, rank: int):
    """The paper's recipe: full SVD of C, last r columns, full SVD of W0 P, first r triples."""
    null = torch.linalg.svd(covariance)[0][:, -rank:]
    projection = null @ null.T
    u, s, vt = torch.linalg.svd(weight @ projection, full_matrices=False)
    return null, projection, u[:, :rank], s[:rank], vt[:rank]


def ours(weight: torch.Tensor, covariance: torch.Tensor, rank: int):
    null = bottom_eigenvectors(covariance, rank)
    return null, *projected_svd(weight, null)


def relative(difference: torch.Tensor, reference: torch.Tensor) -> float:
    return float(difference.norm() / reference.norm())


def test_o1_weight_is_whole_again():
    weight, covariance, _ = problem()
    null, u, s, vt = ours(weight, covariance, RANK)
    b, a = balanced_factors(u, s, vt)
    rest = weight - weight @ null @ null.T
    assert relative(weight - (rest + b @ a), weight) < 1e-14
    assert relative(weight - rest, weight) > 1e-2  # control: without BA something is missing
    single = (rest.float() + b.float() @ a.float()).double()
    assert relative(weight - single, weight) < 1e-6


def test_o2_rows_of_a_lie_in_the_null_space():
    weight, covariance, _ = problem()
    null, u, s, vt = ours(weight, covariance, RANK)
    outside = torch.eye(D_IN, dtype=torch.float64) - null @ null.T
    a = balanced_factors(u, s, vt)[1]
    assert relative(a @ outside, a) < 1e-12
    random = torch.randn_like(a)
    assert relative(random @ outside, random) > 0.5  # control


def test_o3_balanced_factors():
    weight, covariance, _ = problem()
    _, u, s, vt = ours(weight, covariance, RANK)
    b, a = balanced_factors(u, s, vt)
    assert torch.allclose(b.T @ b, torch.diag(s), atol=3e-14 * float(s[0]), rtol=0)
    assert torch.allclose(a @ a.T, torch.diag(s), atol=3e-14 * float(s[0]), rtol=0)
    assert torch.all(s[:-1] >= s[1:])
    assert not torch.allclose((2 * b).T @ b, torch.diag(s))  # control


@pytest.mark.parametrize(("d_in", "d_out"), [(48, 40), (40, 96), (64, 8)])
def test_o4_thin_path_equals_the_literal_recipe(d_in, d_out):
    weight, covariance, _ = problem(3, d_in, d_out)
    _, projection, u, s, vt = literal(weight, covariance, RANK)
    _, u2, s2, vt2 = ours(weight, covariance, RANK)
    assert relative(s - s2, s) < 1e-8
    wanted, found = (u * s) @ vt, (u2 * s2) @ vt2
    assert relative(wanted - found, wanted) < 1e-8
    assert relative(wanted - weight @ projection, wanted) < 1e-8
    # A alone too, up to the sign that each singular pair leaves free
    signs = torch.sign((vt * vt2).sum(1, keepdim=True))
    assert relative(balanced_factors(u, s, vt)[1] - signs * balanced_factors(u2, s2, vt2)[1], vt) < 1e-6


def test_o4_control_the_last_columns_of_eigh_are_the_worst_choice():
    _weight, covariance, _ = problem()
    wrong = torch.linalg.eigh(covariance)[1][:, -RANK:]
    assert energy_share(covariance, wrong) > 0.5
    assert energy_share(covariance, bottom_eigenvectors(covariance, RANK)) < 1e-6
    assert energy_share(covariance, top_eigenvectors(covariance, RANK)) == pytest.approx(
        energy_share(covariance, wrong), rel=1e-9
    )


@pytest.mark.parametrize(("decay", "equal"), [(0.0, True), (0.1, False)])
def test_o5_b_from_zero_trains_as_the_papers_form(decay, equal):
    """W0 - B0 A + B A with B from B0, and W0 + B A with B from 0, are one training, but not under weight decay."""
    weight, covariance, _ = problem()
    _, u, s, vt = ours(weight, covariance, RANK)
    b0, a = balanced_factors(u, s, vt)
    inputs = torch.randn(64, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.randn(64, D_OUT, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def trained(base: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        b = start.clone().requires_grad_(True)
        optimiser = torch.optim.AdamW([b], lr=1e-2, weight_decay=decay)
        for _ in range(50):
            optimiser.zero_grad()
            (inputs @ (base + b @ a).T - targets).square().mean().backward()
            optimiser.step()
        return (base + b @ a).detach() - weight

    paper, here = trained(weight - b0 @ a, b0), trained(weight, torch.zeros_like(b0))
    assert here.norm() > 1e-2
    assert (relative(paper - here, paper) < 1e-8) is equal


def test_o6_what_is_left_of_the_old_inputs_is_bounded():
    weight, covariance, spectrum = problem()
    _, u, s, vt = ours(weight, covariance, RANK)
    a = balanced_factors(u, s, vt)[1]
    smallest = float(spectrum.sort().values[RANK - 1])
    bound = float(s[0].sqrt()) * smallest
    seen = float(torch.linalg.matrix_norm(a @ covariance, 2))
    assert seen <= bound * (1 + 1e-6)
    random = torch.randn_like(a)
    random *= a.norm() / random.norm()
    assert float(torch.linalg.matrix_norm(random @ covariance, 2)) > bound  # control


def test_o7_far_less_than_a_random_a():
    weight, covariance, _ = problem()
    _, u, s, vt = ours(weight, covariance, RANK)
    a = balanced_factors(u, s, vt)[1]

    def share(matrix: torch.Tensor) -> float:
        return float((matrix @ covariance).norm() / (matrix.norm() * covariance.norm()))

    assert share(a) < 1e-6
    assert share(torch.randn_like(a)) > 1e-2


def test_in_single_precision_the_leak_stays_small():
    _weight, covariance, _ = problem()
    basis = bottom_eigenvectors(covariance.float(), RANK)
    assert basis.dtype == torch.float64
    assert energy_share(covariance, basis) < 1e-6
    assert torch.allclose(basis.T @ basis, torch.eye(RANK, dtype=torch.float64), atol=1e-12)


def test_fewer_tokens_than_directions_leave_an_exact_null_space():
    tokens = torch.randn(100, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = tokens.T @ tokens / 100
    found = bottom_eigenvectors(covariance, 16)
    assert float((tokens @ found).norm() / tokens.norm()) < 1e-10


@pytest.mark.parametrize("decay", [8.0, 3.0])
def test_a_krylov_space_finds_the_same_null_space(decay):
    """The leak is the least there is, within a thousandth."""
    _, covariance, spectrum = problem(5, 600, 8, decay)
    found = bottom_by_krylov(covariance, 12)
    assert found is not None
    assert torch.allclose(found.T @ found, torch.eye(12, dtype=torch.float64), atol=1e-10)
    least = float(spectrum.sort().values[:12].sum() / spectrum.sum())
    assert 1 - 1e-6 <= energy_share(covariance, found) / least < 1.001
    energies = (found * (covariance @ found)).sum(0)
    assert torch.all(energies[1:] >= energies[:-1]), "least first"
    random = random_basis(600, 12, torch.Generator().manual_seed(0))
    assert energy_share(covariance, random) / least > 2, "positive control"


def test_large_dimensions_take_the_krylov_space(monkeypatch):
    _, covariance, _ = problem(6, 500, 8, 6.0)
    exact = bottom_eigenvectors(covariance, 10)
    monkeypatch.setattr("methods.components.null_space.LARGE", 400)
    quick = bottom_eigenvectors(covariance, 10)
    assert not torch.equal(exact, quick)
    assert energy_share(covariance, quick) == pytest.approx(energy_share(covariance, exact), rel=1e-3)
    assert torch.equal(quick, bottom_eigenvectors(covariance, 10)), "the same bits again"
    single = bottom_eigenvectors(covariance.float(), 10)
    assert energy_share(covariance, single) == pytest.approx(energy_share(covariance, exact), rel=1e-2)
    assert bottom_by_krylov(covariance, 200) is None, "too large a part: the full decomposition is shorter"
    flat, spectrum = problem(6, 500, 8, 0.5)[1:]
    assert bottom_by_krylov(flat, 10) is None, "it does not settle"
    least = float(spectrum.sort().values[:10].sum() / spectrum.sum())
    assert energy_share(flat, bottom_eigenvectors(flat, 10)) == pytest.approx(least, rel=1e-9), "then all is decomposed"


def test_a_krylov_space_of_a_singular_matrix():
    """Fewer tokens than directions: any part of the exact null space will do."""
    tokens = torch.randn(300, 700, generator=torch.Generator().manual_seed(0))
    covariance = tokens.T @ tokens / 300
    found = bottom_by_krylov(covariance.double(), 20, noise=1e-9)
    assert found is not None
    assert float((tokens.double() @ found).norm() / tokens.double().norm()) < 1e-4
    assert torch.allclose(found.T @ found, torch.eye(20, dtype=torch.float64), atol=1e-10)


def test_energy_share_of_everything_is_one():
    _, covariance, _ = problem()
    assert energy_share(covariance, torch.eye(D_IN, dtype=torch.float64)) == pytest.approx(1.0)
    assert energy_share(covariance, random_basis(D_IN, RANK, torch.Generator().manual_seed(0))) > 1e-3


@given(st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=30)
def test_any_rank_gives_an_orthonormal_basis_and_exact_factors(rank, seed):
    weight, covariance, _ = problem(seed, 16, 12, decay=4.0)
    null, u, s, vt = ours(weight, covariance, rank)
    identity = torch.eye(rank, dtype=torch.float64)
    for basis in (null.T @ null, u.T @ u, vt @ vt.T):
        assert torch.allclose(basis, identity, atol=1e-10)
    assert torch.allclose((u * s) @ vt, weight @ null @ null.T, atol=1e-10)


def test_a_layer_with_fewer_outputs_than_the_rank_has_as_many_directions_as_outputs():
    weight, covariance, _ = problem()
    null, narrow = bottom_eigenvectors(covariance, RANK), weight[:3]
    assert len(narrow) < RANK
    u, s, vt = projected_svd(narrow, null)
    assert (u.shape, s.shape, vt.shape) == ((3, RANK), (RANK,), (RANK, D_IN))
    assert torch.allclose((u * s) @ vt, narrow @ null @ null.T, atol=1e-10)
    assert torch.allclose(vt @ vt.T, torch.eye(RANK, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(vt @ null @ null.T, vt, atol=1e-10)
    b, a = balanced_factors(u, s, vt)
    assert bool((a[:3] != 0).any(1).all())
    assert not a[3:].any()
    assert not b[:, 3:].any()


def test_a_rank_that_cannot_be_trained_is_refused():
    weight, covariance, _ = problem()
    null = bottom_eigenvectors(covariance, RANK)
    blind = weight - weight @ null[:, :1] @ null[:, :1].T  # reads one direction of the null space not at all
    with pytest.raises(UserError, match="smaller rank"):
        projected_svd(blind, null)
    with pytest.raises(UserError, match="dimensions"):
        bottom_eigenvectors(covariance, D_IN + 1)
    with pytest.raises(UserError, match="dimensions"):
        bottom_eigenvectors(covariance, 0)
