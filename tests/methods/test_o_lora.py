"""The oracles of O-LoRA, and what it hands from stage to stage."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversations, knowledge
from methods.components import lora_layers as adapters
from methods.components.orthogonality import PUBLISHED_ENTRIES, mean_overlap, overlap

SAMPLES = conversations(6, seed=1)


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)


def test_overlap_with_itself_is_the_gram_matrix_and_with_the_orthogonal_nothing(draw):
    a = draw(4, 12)
    assert float(overlap(a, a)) == pytest.approx(float((a @ a.T).abs().sum()), rel=1e-14)
    basis = torch.linalg.qr(draw(12, 12)).Q.T
    assert float(overlap(basis[:4], basis[4:8])) < 1e-14
    assert float(overlap(basis[:4], basis[2:6])) == pytest.approx(2)  # control: two rows in common


def test_gradient_is_the_sign_times_the_past(draw):
    now, past = draw(4, 12).requires_grad_(), draw(8, 12)
    overlap(now, past).backward()
    assert torch.equal(now.grad, (now.detach() @ past.T).sign() @ past)


def test_the_published_coefficient_means_the_same_at_any_rank():
    """Its sum over r = 8 on 64 layers is about 17, over r = 128 on 224 about 15,000; ours is the first for both."""
    generator = torch.Generator().manual_seed(0)

    def drawn(rank):
        return (2 * torch.rand(rank, 4096, generator=generator) - 1) / 64

    small, large = ((drawn(rank), drawn(rank)) for rank in (8, 128))
    assert 0.5 * 64 * float(overlap(*small)) == pytest.approx(0.5 * PUBLISHED_ENTRIES * float(mean_overlap([small])))
    assert 0.5 * 64 * float(overlap(*small)) == pytest.approx(9, rel=0.25)
    assert 0.5 * 224 * float(overlap(*large)) == pytest.approx(7627, rel=0.02)
    assert 0.5 * PUBLISHED_ENTRIES * float(mean_overlap([large])) == pytest.approx(9, rel=0.25)
    twice = [(large[0], torch.cat([large[1], large[1]]))]
    assert float(mean_overlap(twice)) == pytest.approx(2 * float(mean_overlap([large])), rel=1e-5)


def test_with_one_stage_it_is_lora_bit_for_bit_and_says_so(tiny_model):
    results = []
    for row in ("lora", "o-lora", "o-lora:pseudo-task"):
        method = make(row)
        prepared = attach(method, tiny_model)
        losses = train(method, tiny_model, SAMPLES, steps=4)
        results.append((losses, method.export(tiny_model), method.diagnostics(prepared)))
        method.detach(tiny_model)
    lora, strict, pseudo = results
    assert lora[0] == strict[0]
    assert same(lora[1], strict[1])
    assert not same(lora[1], pseudo[1])  # control
    assert strict[2] == {"earlier directions": 0}
    assert pseudo[2] == {"earlier directions": RANK}


def test_a_pseudo_task_is_learnt_from_as_much_old_data_as_replay_sees(tiny_model):
    resources, method, items = FakeResources(), make("o-lora:pseudo-task"), knowledge(24)
    before = logits_of(tiny_model, SAMPLES)
    method.training_data(items, resources)
    torch.manual_seed(0)
    prepared = method.prepare(tiny_model, resources)
    replay = make("replay").training_data(items, resources)
    assert resources.asked == [(2, "pseudo-task"), (len(replay) - len(items), "replay")]
    assert torch.equal(logits_of(tiny_model, SAMPLES), before)  # nothing is left of it in the model
    attach(make("lora"), tiny_model)
    for name, layer in adapters.lora_layers(tiny_model.module):
        a, past = adapters.lora_ab(layer)[0].detach(), prepared[f"{name}.A"]
        assert past.shape == a.shape
        assert abs(float(torch.cosine_similarity(a.flatten(), past.flatten(), dim=0))) < 0.5  # it began elsewhere
    trained, _ = resources.store.values(), method.prepare(tiny_model, resources)
    assert len(trained) == 1
    assert any(bool(tensor.any()) for name, tensor in next(iter(trained)).items() if name.endswith(".B"))


def test_stages_add_up_and_later_ones_turn_away_from_earlier_ones(tiny_model):
    def two_stages(coefficient):
        first = make("o-lora", coefficient=coefficient)
        attach(first, tiny_model)
        train(first, tiny_model, SAMPLES)
        learnt, export, stage_state = (
            logits_of(tiny_model, SAMPLES),
            first.export(tiny_model),
            first.export_stage_state(tiny_model),
        )
        assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
        first.detach(tiny_model)
        second = make("o-lora", coefficient=coefficient)
        attach(second, tiny_model, FakeResources(stage=2, stage_state=stage_state), seed=1)
        second.load_previous_stage(tiny_model, export)
        assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
        start = second.export(tiny_model)
        train(second, tiny_model, conversations(6, seed=2))
        end, answers, more = (
            second.export(tiny_model),
            logits_of(tiny_model, SAMPLES),
            second.export_stage_state(tiny_model),
        )
        second.detach(tiny_model)
        second.restore(tiny_model, end)
        assert torch.equal(logits_of(tiny_model, SAMPLES), answers)
        second.detach(tiny_model)
        for name, tensor in export.items():
            if ".lora_" in name:  # frozen, under another name
                past = name.replace(".weight", ".past.weight")
                assert torch.equal(start[past], tensor)
                assert torch.equal(end[past], tensor)
                assert not torch.equal(end[name], tensor)
        layers = [name.removesuffix(".lora_A.weight") for name in end if name.endswith("lora_A.weight")]
        pairs = [(end[f"{name}.lora_A.weight"], end[f"{name}.lora_A.past.weight"]) for name in layers]
        return float(mean_overlap(pairs)), stage_state, more, end

    held, stage_state, more, end = two_stages(0.5)
    free, nothing, _, _ = two_stages(0.0)
    assert held < 0.7 * free
    assert nothing == {}
    assert {len(tensor) for tensor in stage_state.values()} == {RANK}
    for name, tensor in more.items():
        assert torch.equal(tensor[:RANK], stage_state[name])
        assert torch.equal(tensor[RANK:], end[name.replace(".A", ".lora_A.weight")])
    third = make("o-lora")
    attach(third, tiny_model, FakeResources(stage=3, stage_state=more), seed=2)
    third.load_previous_stage(tiny_model, end)
    assert {layer.lora_A["past"].weight.shape[0] for _, layer in adapters.lora_layers(tiny_model.module)} == {2 * RANK}
    assert third.diagnostics(more) == {"earlier directions": 2 * RANK}


def test_with_slices_and_one_stage_it_is_lora_at_a_slices_rank_with_the_scaling_of_the_whole(tiny_model):
    """MCITlib: rank r / E, alpha / r, and 0.05 times a sum that is empty."""
    whole, slices = 2.0 * RANK, 2
    rows = (
        make("lora", rank=RANK // slices, alpha=whole / slices),
        make("o-lora:slices", slices=slices, alpha=whole),
        make("lora", rank=RANK // slices, alpha=whole),  # control
    )
    results = []
    for method in rows:
        prepared = attach(method, tiny_model)
        results.append((train(method, tiny_model, SAMPLES, steps=4), method.export(tiny_model), prepared))
        method.detach(tiny_model)
    lora, sliced, other = results
    assert lora[0] == sliced[0]
    assert same(lora[1], sliced[1])
    assert sliced[2] == {}
    assert not same(other[1], sliced[1])


def test_a_slice_is_trained_alone_and_answers_use_all_of_them(tiny_model):
    """Literally as MCITlib writes it: the newest slice in training mode, the concatenation otherwise."""
    first = make("o-lora:slices", slices=2, alpha=3.0)
    attach(first, tiny_model)
    train(first, tiny_model, SAMPLES)
    export, state = first.export(tiny_model), first.export_stage_state(tiny_model)
    first.detach(tiny_model)
    second = make("o-lora:slices", slices=2, alpha=3.0)
    attach(second, tiny_model, FakeResources(stage=2, stage_state=state), seed=1)
    second.load_previous_stage(tiny_model, export)
    train(second, tiny_model, conversations(6, seed=2))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    for name, layer in adapters.lora_layers(tiny_model.module):
        new, old = ([pair.detach() for pair in adapters.lora_ab(layer, key)] for key in ("default", "past"))
        assert new[0].shape[0] == old[0].shape[0] == RANK // 2
        assert torch.equal(old[0], export[f"{name}.lora_A.weight"])
        inputs = x[:, : new[0].shape[1]] if new[0].shape[1] <= 64 else x.repeat(1, 4)[:, : new[0].shape[1]]
        base = torch.nn.functional.linear(inputs, layer.get_base_layer().weight)
        alone = inputs @ new[0].T @ new[1].T * (3.0 / RANK)
        joined = inputs @ torch.cat([old[0], new[0]]).T @ torch.cat([old[1], new[1]], 1).T * (3.0 / RANK)
        torch.testing.assert_close(layer.train()(inputs), base + alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.eval()(inputs), base + joined, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(alone, joined, atol=1e-4)  # control
    batch = tiny_model.training_batch(SAMPLES)
    penalty = second.penalty(tiny_model, batch, tiny_model.supervised(batch)[0])
    pairs = [
        (adapters.lora_ab(layer)[0].detach(), state[f"{name}.A"])
        for name, layer in adapters.lora_layers(tiny_model.module)
    ]
    assert float(penalty) == pytest.approx(0.05 * sum(float((a @ past.T).abs().sum()) for a, past in pairs), rel=1e-5)
    answers, end = logits_of(tiny_model, SAMPLES), second.export(tiny_model)
    second.detach(tiny_model)
    second.restore(tiny_model, end)
    assert torch.equal(logits_of(tiny_model, SAMPLES), answers)


def test_more_stages_than_slices_are_refused(tiny_model):
    with pytest.raises(UserError, match="3 stages do not fit into 2 slices"):
        make("o-lora:slices", slices=2).prepare(tiny_model, FakeResources(stage=3))
    with pytest.raises(UserError, match="slices cannot be 3"):
        make("o-lora:slices", slices=3)


def test_tensors_of_another_model_are_refused(tiny_model):
    method = make("o-lora")
    attach(method, tiny_model)
    tensors = method.export(tiny_model)
    tensors.pop(next(iter(tensors)))
    with pytest.raises(UserError, match="missing, unknown or of another shape"):
        method.load_previous_stage(tiny_model, tensors)
