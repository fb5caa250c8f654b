"""KORE with a part of its layers constrained, and with a null space that is larger than the rank."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.covariance import covariances
from methods.components.null_space import flatness, near_null_space, projected_svd
from methods.components.peft_adapter import peft_adapter
from methods.targets import choose_by_spectrum

SAMPLES = conversations(8, seed=1)
PROMPTS = FakeResources().pool_samples(24, "calibration")


def a_of(model) -> dict[str, torch.Tensor]:
    return {name: adapters.lora_ab(layer)[0].detach().clone() for name, layer in adapters.lora_layers(model.module)}


def attached_a(model, row, **changes):
    """A of each layer after attaching, and whether it is trained."""
    method = make(row, **changes)
    attach(method, model)
    trained = {name for name, layer in adapters.lora_layers(model.module) if adapters.lora_ab(layer)[0].requires_grad}
    made = a_of(model)
    method.detach(model)
    return made, trained


@pytest.mark.parametrize("chosen", ["attention", "first-1", r".*\.1\.mlp\.(up|down)_proj"])
def test_constrained_layers_are_kores_and_the_others_loras(chosen, tiny_model):
    from methods.targets import choose

    kore, _ = attached_a(tiny_model, "kore")
    lora, _ = attached_a(tiny_model, "lora")
    mixed, trained = attached_a(tiny_model, "kore", constraint_layers=chosen)
    constrained = set(choose(tuple(kore), chosen))
    assert trained == mixed.keys() - constrained
    for name, a in mixed.items():
        assert torch.equal(a, (kore if name in constrained else lora)[name])
        assert not torch.equal(kore[name], lora[name])  # control


def test_a_pattern_of_all_layers_is_kore_bit_for_bit(tiny_model):
    results = []
    for changes in ({}, {"constraint_layers": ".*"}, {"constraint_layers": "mlp"}):
        method = make("kore", **changes)
        attach(method, tiny_model)
        losses = train(method, tiny_model, SAMPLES, steps=4)
        results.append((losses, method.export(tiny_model)))
        method.detach(tiny_model)
    plain, everything, some = results
    assert plain[0] == everything[0]
    assert same(plain[1], everything[1])
    assert not same(plain[1], some[1])  # control


@pytest.mark.parametrize("row", ["kore", "kore:unfrozen-a", "kore:projected-a", "kore:steep-50"])
def test_a_mixture_is_exported_restored_and_loaded_by_peft(row, tiny_model, tiny_folder):
    from harness.models.llava import LlavaModel
    from methods.components.peft_adapter import load_peft

    changes = {} if row == "kore:steep-50" else {"constraint_layers": "attention"}
    method = make(row, **changes)
    prepared = attach(method, tiny_model)
    losses = train(method, tiny_model, SAMPLES)
    assert losses[-1] < losses[0]
    learnt, tensors, peft = logits_of(tiny_model, SAMPLES), method.export(tiny_model), peft_adapter(tiny_model)
    assert method.diagnostics(prepared)["constrained layers"] == (7 if row == "kore:steep-50" else 8)
    method.detach(tiny_model)
    make(row, **changes).restore(tiny_model, tensors)
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
    other = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float32)
    load_peft(other, peft.config, peft.tensors)
    other.module.eval()
    gap = float((logits_of(other, SAMPLES) - learnt).abs().max())
    assert gap == 0 if peft.exact else gap < 1e-4 * float(learnt.abs().max())


def test_only_constrained_layers_are_measured_and_none_after_the_last(tiny_model, monkeypatch):
    from methods.components.layerwise_forward import LayerwiseState

    ran = []
    honest = LayerwiseState.forward
    monkeypatch.setattr(
        LayerwiseState, "forward", lambda self, layer, number: (ran.append(number), honest(self, layer, number))[1]
    )
    whole = {name: part.covariance for part in covariances(tiny_model, PROMPTS) for name in part.layers}
    assert set(ran) == {0, 1}
    ran.clear()
    names = [name for name in whole if ".0.self_attn." in name]
    parts = list(covariances(tiny_model, PROMPTS, names=names))
    assert [name for part in parts for name in part.layers] == names
    assert all(torch.equal(part.covariance, whole[name]) for part in parts for name in part.layers)
    assert set(ran) == {0}


def test_flatness_is_the_participation_ratio_of_the_eigenvalues(tiny_model):
    for part in covariances(tiny_model, PROMPTS):
        values = torch.linalg.eigvalsh(part.covariance.double())
        wanted = float(values.sum() ** 2 / values.square().sum() / len(values))
        assert flatness(part.covariance) == pytest.approx(wanted, rel=1e-5)
    assert flatness(torch.eye(7)) == pytest.approx(1)
    assert flatness(torch.diag(torch.tensor([0.0, 3.0, 0.0, 0.0]))) == pytest.approx(1 / 4)


def test_a_rule_takes_its_share_of_each_kind():
    spectra = {f"layers.{n}.self_attn.q": 0.1 * ((3 * n) % 8) for n in range(8)}
    spectra |= {f"layers.{n}.mlp.up": 10 + ((5 * n) % 8) for n in range(8)}
    for percent, count in ((1, 1), (25, 2), (50, 4), (99, 8)):
        steep, flat = (choose_by_spectrum(spectra, f"{side}-{percent}") for side in ("steep", "flat"))
        for kind in (".q", ".up"):
            ordered = sorted((name for name in spectra if name.endswith(kind)), key=spectra.get)
            assert {name for name in steep if name.endswith(kind)} == set(ordered[:count])
            assert {name for name in flat if name.endswith(kind)} == set(ordered[-count:])
        assert list(steep) == [name for name in spectra if name in steep]


def test_steep_and_flat_constrain_the_layers_of_their_names(tiny_model):
    spectra = {name: flatness(part.covariance) for part in covariances(tiny_model, PROMPTS) for name in part.layers}
    frozen = {}
    for side in ("steep", "flat"):
        made, trained = attached_a(tiny_model, f"kore:{side}-50")
        frozen[side] = made.keys() - trained
        assert frozen[side] == set(choose_by_spectrum(spectra, f"{side}-50"))
    assert len(frozen["steep"]) == len(frozen["flat"]) == 7
    assert not frozen["steep"] & frozen["flat"]


def test_a_near_null_space_is_as_large_as_its_energy_allows():
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=draw))[0]
    values = torch.tensor([1e-6, 1e-5, 1e-4, 1e-3, 1e-3, 1e-2, 0.1, 0.1, 1, 1, 5, 10], dtype=torch.float64)
    covariance = basis @ torch.diag(values) @ basis.T
    for energy, wanted in ((0.0, 2), (1e-9, 2), (1.2e-5, 3), (1e-3, 6), (0.02, 8), (0.999, 11)):
        found = near_null_space(covariance, 2, energy)
        assert found.shape == (12, wanted), energy
        assert float((found.T @ covariance @ found).trace() / covariance.trace()) <= max(energy, 2e-6)
        projector = basis[:, :wanted] @ basis[:, :wanted].T
        assert torch.allclose(found @ found.T, projector, atol=1e-8) == (wanted != 4)
    with pytest.raises(UserError, match="rank 13 of 12"):
        near_null_space(covariance, 13, 0.5)


@pytest.mark.parametrize("outputs", [5, 20])
def test_a_wide_null_space_gives_the_top_of_the_projected_weight(outputs):
    """Against the plain decomposition of W0 U U^T, also where it has more directions than the layer has outputs."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(outputs, 12, dtype=torch.float64, generator=draw)
    basis = torch.linalg.qr(torch.randn(12, 9, dtype=torch.float64, generator=draw))[0]
    u, s, vt = projected_svd(weight, basis, 4)
    left, values, right = torch.linalg.svd(weight @ basis @ basis.T, full_matrices=False)
    assert torch.allclose(s, values[:4], rtol=1e-10)
    assert torch.allclose(u * s @ vt, left[:, :4] * values[:4] @ right[:4], atol=1e-10)
    assert torch.allclose(vt @ basis @ basis.T, vt, atol=1e-10)


def test_wide_null_reads_more_of_the_weight_and_no_more_energy_than_allowed(tiny_model):
    energy = 0.02
    resources = FakeResources()
    narrow, wide = (make("kore", null_energy=share).prepare(tiny_model, resources) for share in (0.0, energy))
    assert len(resources.store) == 2
    larger = 0
    for name in (name for name in narrow if name.endswith(".A")):
        leaked = f"{name.removesuffix('A')}leaked"
        assert wide[name].shape == narrow[name].shape == (RANK, narrow[name].shape[1])
        assert float(wide[leaked]) <= energy
        # the squared norm of A is the sum of the singular values of B A
        strength = [float(factors[name].square().sum()) for factors in (narrow, wide)]
        assert strength[1] >= strength[0] * (1 - 1e-6)
        larger += strength[1] > 1.05 * strength[0]
    assert larger > 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraint_layers": "steep-100"}, "first-N or last-N"),
        ({"constraint_layers": "stepe-50"}, "constraint_layers cannot be 'stepe-50'"),
        ({"null_energy": 1.0}, "less than 1"),
        ({"null_energy": 0.1, "subspace": "random"}, "subspace=null"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make("kore", **changes)


def test_layers_that_there_are_not_are_refused(tiny_model):
    for changes in ({"constraint_layers": r".*\.query"}, {"targets": "attention", "constraint_layers": "mlp"}):
        with pytest.raises(UserError, match=r"setting constraint_layers: no linear layer"):
            make("kore", **changes).prepare(tiny_model, FakeResources())
    with pytest.raises(UserError, match=r"rank 33 is too large for .*, which has 32 inputs"):
        make("kore", rank=33).prepare(tiny_model, FakeResources())
