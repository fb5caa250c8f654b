"""Attention to entries against loops in float64: what is retrieved, the retrieval loss, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.errors import UserError
from methods.components.entry_attention import (
    EntryAttention,
    attention_places,
    candidates,
    centre_of,
    directions,
    log_weights,
    retrieval_losses,
    widths,
)
from methods.components.knowledge_entries import untrained_retrieval
from methods.targets import LinearShapes

ROWS, TOKENS, WIDTH, OUTPUT, COUNT = 2, 3, 6, 5, 7


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)


def random_entries(draw, top_k=COUNT):
    """Entries whose parts are all random."""
    entries = EntryAttention((COUNT, WIDTH, OUTPUT), 0.5, top_k, like=torch.empty(0, dtype=torch.float64))
    with torch.no_grad():
        for part in (*entries.parameters(), entries.query_centre):
            part.copy_(draw(*part.shape))
        for part in (entries.keys, entries.values):
            part.copy_(torch.nn.functional.normalize(draw(*part.shape), dim=-1))
    return entries


def retrieved(entries, state, count):
    """By loops over plain numbers, of the ``count`` entries with the largest scores."""
    centre, keys, values = entries.query_centre.tolist(), entries.keys.tolist(), entries.values.tolist()
    query, value = entries.query.tolist(), entries.value.tolist()
    seen = [a - b for a, b in zip(state.tolist(), centre, strict=True)]
    length = math.sqrt(sum(a * a for a in seen))
    asked = [sum(m * a / length for m, a in zip(row, seen, strict=True)) for row in query]
    scores = [sum(a * b for a, b in zip(asked, key, strict=True)) for key in keys]
    kept = sorted(range(len(keys)), key=lambda number: -scores[number])[:count]
    nothing = math.exp(entries.nothing.item() + math.log(len(keys)))
    total = nothing + sum(math.exp(scores[number]) for number in kept)
    weights = {number: math.exp(scores[number]) / total for number in kept}
    mixed = [sum(weights[number] * values[number][place] for number in kept) for place in range(len(values[0]))]
    return [sum(v * m for v, m in zip(row, mixed, strict=True)) for row in value], weights


@pytest.mark.parametrize("top_k", [1, 3, COUNT, 100])
def test_what_is_retrieved_is_the_formula_of_all_entries_in_training_and_of_the_largest_in_answers(top_k, draw):
    entries, states = random_entries(draw, top_k), draw(ROWS, TOKENS, WIDTH)
    found = {}
    for mode, count in (("train", COUNT), ("eval", min(top_k, COUNT))):
        entries.train(mode == "train")
        found[mode] = entries(states)
        for row in range(ROWS):
            for token in range(TOKENS):
                expected, _ = retrieved(entries, states[row, token], count)
                assert found[mode][row, token].tolist() == pytest.approx(expected, rel=1e-11, abs=1e-13)
    assert torch.allclose(found["train"], found["eval"], atol=1e-3) == (top_k >= COUNT), "control"


def test_at_first_nothing_is_retrieved_and_scores_are_cosines_over_the_temperature(draw):
    entries = EntryAttention((COUNT, WIDTH, OUTPUT), 0.5, 2, like=torch.empty(0, dtype=torch.float64))
    states = draw(TOKENS, WIDTH)
    entries.keys.copy_(torch.nn.functional.normalize(draw(COUNT, WIDTH), dim=-1))
    assert torch.equal(entries(states), torch.zeros(TOKENS, OUTPUT, dtype=torch.float64))
    entries.record = True
    entries(states)
    query, nothing = entries.pop_recorded()
    cosines = torch.nn.functional.cosine_similarity(states[:, None], entries.keys[None], dim=-1)
    assert torch.allclose(query @ entries.keys.T, cosines / 0.5, rtol=1e-12)
    assert nothing.item() == pytest.approx(math.log(COUNT))
    with pytest.raises(RuntimeError, match="follows a forward pass"):
        entries.pop_recorded()


def test_the_retrieval_loss_and_its_gradient_are_those_written_out(draw):
    """d/ds_i of -log sum_own p is p_i - [i is own] p_i / sum_own p, and p_0 for nothing."""
    scores, nothing = draw(3, COUNT).requires_grad_(), draw(1).requires_grad_()
    own = torch.zeros(3, COUNT, dtype=torch.bool)
    for token, numbers in enumerate([(0,), (2, 5), (1, 3, 6)]):
        own[token, list(numbers)] = True
    losses = retrieval_losses(scores, nothing, own)
    gradients = torch.autograd.grad(losses.sum(), (scores, nothing))
    of_nothing = 0.0
    for token in range(3):
        powers = [math.exp(score) for score in scores[token].tolist()]
        empty = math.exp(nothing.item())
        p = [power / (sum(powers) + empty) for power in powers]
        share = sum(each for each, mine in zip(p, own[token].tolist(), strict=True) if mine)
        assert losses[token].item() == pytest.approx(-math.log(share), rel=1e-12)
        expected = [each - mine * each / share for each, mine in zip(p, own[token].tolist(), strict=True)]
        assert gradients[0][token].tolist() == pytest.approx(expected, rel=1e-11, abs=1e-14)
        of_nothing += empty / (sum(powers) + empty)
    assert float(gradients[1]) == pytest.approx(of_nothing, rel=1e-12)
    alone = torch.nn.functional.cross_entropy(torch.cat([scores, nothing.expand(3, 1)], 1), torch.tensor([0, 0, 0]))
    first = retrieval_losses(scores, nothing, torch.eye(COUNT, dtype=torch.bool)[[0, 0, 0]])
    assert first.mean().item() == pytest.approx(alone.item(), rel=1e-12), "with one entry it is the cross-entropy"


def test_weights_leave_room_for_nothing_and_for_no_more_than_the_kept(draw):
    scores, nothing = draw(4, COUNT), draw(1)
    for top_k in (0, 1, 2, COUNT, COUNT + 1):
        weights = log_weights(scores, nothing, top_k).exp()
        assert int((weights > 0).sum()) == 4 * (top_k if 0 < top_k < COUNT else COUNT)
        assert bool((weights.sum(-1) < 1).all())
    largest = log_weights(scores, nothing - 1000, 3).exp()
    assert torch.allclose(largest.sum(-1), torch.ones(4, dtype=torch.float64), rtol=1e-12)
    assert float(log_weights(scores, nothing + 1000).exp().max()) == 0.0


def test_directions_are_of_length_one_and_nothing_where_only_rounding_differs(draw):
    centre = 10 * draw(WIDTH)
    states = torch.stack([centre + 0.1 * draw(WIDTH), centre, centre * (1 + 1e-7)]).requires_grad_()
    seen = directions(states, centre)
    assert seen.norm(dim=-1).tolist() == pytest.approx([1.0, 0.0, 0.0], rel=1e-12)
    (gradient,) = torch.autograd.grad((seen * draw(3, WIDTH)).sum(), states)
    assert bool(gradient.isfinite().all())
    assert bool(gradient[0].any())
    assert not bool(gradient[1:].any())
    single = draw(1, WIDTH)
    assert torch.allclose(directions(single, centre_of(single)).norm(), torch.ones(1, dtype=torch.float64))
    assert torch.equal(centre_of(states), states.mean(0))


def test_untrained_retrieval_is_that_of_a_layer_at_the_start(draw):
    keys = draw(COUNT, WIDTH)
    numbers = torch.tensor([3, 0, 5, 5])
    queries = keys[numbers] + 0.3 * draw(4, WIDTH)
    own = torch.eye(COUNT, dtype=torch.bool)[numbers]
    loss, recall = untrained_retrieval(queries, keys, own, 0.5)
    a, b = queries - queries.mean(0), keys - keys.mean(0)
    expected, hits = 0.0, 0
    for number, query in zip(numbers.tolist(), a, strict=True):
        cosines = [float(query @ key / query.norm() / key.norm()) for key in b]
        total = sum(math.exp(each / 0.5) for each in cosines) + COUNT
        expected -= math.log(math.exp(cosines[number] / 0.5) / total) / len(numbers)
        hits += cosines[number] == max(cosines)
    assert loss == pytest.approx(expected, rel=1e-11)
    assert recall == hits / len(numbers) > 0
    assert untrained_retrieval(draw(4, WIDTH), keys, own, 0.5)[0] > loss, "control"


NAMES = {
    **{f"model.layers.{n}.self_attn.{part}_proj": (8, 12) for n in (0, 1, 2) for part in "qkv"},
    **{f"model.layers.{n}.self_attn.o_proj": (12, 8) for n in (0, 2)},
    "model.layers.1.linear_attn.out_proj": (16, 8),
    **{f"model.layers.{n}.mlp.down_proj": (20, 8) for n in (0, 1, 2, 3)},
}


def test_attentions_are_found_by_their_output_projections():
    places = attention_places(NAMES)
    assert {layer: (place.attention.split(".", 2)[2], place.projection) for layer, place in places.items()} == {
        1: ("0.self_attn", "o_proj"),
        2: ("1.linear_attn", "out_proj"),
        3: ("2.self_attn", "o_proj"),
    }
    assert [place.layer for place in candidates(NAMES, 3)] == [3]
    assert len(candidates(NAMES, 0)) == 3
    assert widths(LinearShapes(NAMES), 1) == (8, 12)
    assert widths(LinearShapes(NAMES), 0) == (8, 16), "the largest, until one is chosen"
    with pytest.raises(UserError, match="no attention in decoder layer 4") as caught:
        candidates(NAMES, 4)
    assert "choose from 1, 2, 3, or 0" in str(caught.value)
    with pytest.raises(UserError, match="no decoder layer has an output projection called o_proj or out_proj"):
        attention_places(["model.layers.0.mlp.down_proj"])
