"""MEMIT: the closed form, where keys are read, and what the edited weights do."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import Turn
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, weights_of
from helpers.tiny import conversations, knowledge
from methods.augmentation.made_data import MADE
from methods.components.closed_form_edit import (
    REACHED,
    ValueOptions,
    _keys_and_states,
    _parts,
    _states_added,
    _values,
    closed_form_update,
    edited_layers,
    key_position,
    requests_of,
)

SAMPLES = conversations(6, seed=1)
DOWN = ["model.language_model.layers.0.mlp.down_proj"]
SMALL = {"prior_weight": 1.0, "calibration_samples": 8, "value_steps": 12}
OPTIONS = ValueOptions(steps=12, rate=0.5, limit=4.0, decay=1e-3, essence=0.0625)


def memit(name="memit", **changes):
    return make(name, **{"depth": 1, "layers": 1, **SMALL, **changes})


def texts(count=4, data="evoke"):
    return MADE[data].make(knowledge(count), 0)


def resources_of(items, **options):
    resources = FakeResources(**options)
    resources.knowledge = items
    return resources


def loss_of(model, samples):
    with torch.no_grad():
        logits, targets = model.supervised(model.training_batch(samples))
    return float(torch.nn.functional.cross_entropy(logits, targets))


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_update_solves_the_least_squares_problem():
    """min |D K - R|^2 + w tr(D C D^T), as D [K, sqrt(w) L] = [R, 0] with C = L L^T."""
    keys, residuals, root, weight = draws(12, 30), draws(5, 30, seed=1), draws(12, 40, seed=2), 3.0
    left = torch.cat([keys, weight**0.5 * root], 1)
    right = torch.cat([residuals, torch.zeros(5, 40, dtype=torch.float64)], 1)
    expected = torch.linalg.lstsq(left.T, right.T).solution.T
    assert torch.allclose(closed_form_update(residuals, keys, root @ root.T, weight), expected, rtol=1e-8, atol=1e-12)
    plain = torch.linalg.lstsq(keys.T, residuals.T).solution.T
    assert not torch.allclose(expected, plain, rtol=1e-2), "control: C matters"


def test_keys_map_to_the_wanted_values_and_old_keys_keep_theirs():
    keys, residuals = draws(12, 4), draws(5, 4, seed=1)
    root = draws(12, 6, seed=2)
    old = root @ root.T / 6
    other = torch.eye(12, dtype=torch.float64) * old.trace() / 12
    updates = [closed_form_update(residuals, keys, each, 1e-9) for each in (old + 1e-6 * other, other)]
    assert all(torch.allclose(update @ keys, residuals, rtol=1e-5, atol=1e-6) for update in updates)
    with_old, without = (float((update @ root).norm()) for update in updates)
    assert with_old < 1e-2 * without, "control: without C, old keys move"


def test_the_key_is_the_last_token_before_the_question(tiny_model):
    sample = texts(1)[0]
    column = key_position(tiny_model, sample)
    ids = tiny_model.training_batch([sample])["input_ids"][0]
    picture = int(ids.mode().values)
    assert 0 <= column - int((ids == picture).nonzero().max()) <= 2, "the picture's last token, or the line's end"
    assert int((ids == picture).sum()) == 16
    asked = [
        dataclasses.replace(sample, turns=(Turn("user", f"<image>\n{question}"), Turn("assistant", "red")))
        for question in ("How many stripes?", "Is this a cat? Describe the flag.")
    ]
    place = edited_layers(tiny_model, 1, 1)[0]
    one, other = (_keys_and_states(tiny_model, [(each,)], [column], place.projection, place.layer) for each in asked)
    later, _ = _keys_and_states(tiny_model, [asked[1:]], [column + 3], place.projection, place.layer)
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert torch.allclose(one[1], other[1], atol=1e-5)
    assert not torch.allclose(one[0], later, atol=1e-2), "control"


def test_a_value_makes_the_answers_likely_within_its_limit(tiny_model):
    requests = requests_of(texts(3, "kore-vqa")) + requests_of(texts(2))
    columns = [key_position(tiny_model, request[0]) for request in requests]
    layer = edited_layers(tiny_model, 1, 1)[0]
    (part,) = _parts(requests, columns)
    _, start = _keys_and_states(tiny_model, requests, columns, layer.projection, layer.layer)
    found = {
        name: _values(tiny_model, part, layer.layer, dataclasses.replace(OPTIONS, **changes)) - start
        for name, changes in (("free", {}), ("tight", {"limit": 0.1}), ("same", {"essence": 1e4}))
    }
    assert float((found["tight"].norm(dim=1) / start.norm(dim=1)).max()) < 0.1 + 1e-5
    assert float((found["free"].norm(dim=1) / start.norm(dim=1)).max()) > 0.2, "control"
    assert not torch.allclose(found["same"], found["free"], atol=1e-2)
    batch = tiny_model.training_batch(part.samples)
    losses = {}
    for name, added in {"none": torch.zeros_like(start), **found}.items():
        with torch.no_grad(), _states_added(layer.layer, torch.tensor(part.columns), added[list(part.owners)]):
            logits, targets = tiny_model.supervised(batch)
        losses[name] = float(torch.nn.functional.cross_entropy(logits, targets))
    assert losses["free"] < losses["tight"] < losses["none"]


def test_values_of_several_pictures_are_those_of_each_alone(tiny_model):
    requests = requests_of(texts(3))
    columns = [key_position(tiny_model, request[0]) for request in requests]
    layer, options = edited_layers(tiny_model, 1, 1)[0].layer, dataclasses.replace(OPTIONS, steps=3)
    (part,) = _parts(requests, columns)
    together = _values(tiny_model, part, layer, options)
    alone = [
        _values(tiny_model, single, layer, options)
        for request, column in zip(requests, columns, strict=True)
        for single in _parts([request], [column])
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-1), "control"


@pytest.mark.parametrize("name", ["memit", "memit:facts"])
def test_the_answers_are_written_into_the_down_projections_alone(name, tiny_model):
    base, before = weights_of(tiny_model), logits_of(tiny_model, SAMPLES)
    items, data = knowledge(3), {"memit": "evoke", "memit:facts": "kore-vqa"}[name]
    wanted, unedited = texts(3, data), loss_of(tiny_model, texts(3, data))
    untouched = memit(name, prior_weight=1e9)
    attach(untouched, tiny_model, resources_of(items))
    assert loss_of(tiny_model, wanted) == pytest.approx(unedited, abs=1e-3), "control: nothing is written"
    untouched.detach(tiny_model)
    method = memit(name, prior_weight=1e-3)
    prepared = attach(method, tiny_model, resources_of(items))
    after = weights_of(tiny_model)
    assert {each for each in base if not torch.equal(base[each], after[each])} == {f"{each}.weight" for each in DOWN}
    assert loss_of(tiny_model, wanted) < unedited - 0.1
    assert method.diagnostics(prepared)["share of the values reached"] > 0.5
    exported, answered = method.export(tiny_model), logits_of(tiny_model, SAMPLES)
    method.detach(tiny_model)
    assert same(weights_of(tiny_model), base)
    memit(name).restore(tiny_model, exported)
    assert torch.equal(logits_of(tiny_model, SAMPLES), answered)
    assert not torch.equal(answered, before), "control"


def test_the_weight_of_old_keys_decides_how_much_changes(tiny_model):
    reached, changes = [], []
    base = weights_of(tiny_model)
    for weight in (1e-3, 1.0, 1e6):
        prepared = memit(prior_weight=weight).prepare(tiny_model, resources_of(knowledge(3)))
        reached.append(float(prepared[REACHED]))
        changes.append(sum(float((prepared[f"{name}.weight"] - base[f"{name}.weight"]).norm()) for name in DOWN))
    assert reached == sorted(reached, reverse=True)
    assert reached[0] > 0.5 > 0.01 > reached[2]
    assert changes == sorted(changes, reverse=True)
    assert same(weights_of(tiny_model), base)


def test_a_later_stage_keeps_what_earlier_ones_wrote(tiny_model):
    items = knowledge(4)
    old, new = MADE["evoke"].make(items[:2], 0), MADE["evoke"].make(items[2:], 0)
    losses = {"base": (loss_of(tiny_model, old), loss_of(tiny_model, new))}
    first = memit(prior_weight=1e-2)
    attach(first, tiny_model, resources_of(items[:2]))
    losses["first"], state = (loss_of(tiny_model, old), loss_of(tiny_model, new)), first.export_stage_state(tiny_model)
    first.detach(tiny_model)
    for name, given in (("second", state), ("afresh", {})):
        method = memit(prior_weight=1e-2)
        attach(method, tiny_model, resources_of(items[2:], stage=2, stage_state=given))
        losses[name] = loss_of(tiny_model, old), loss_of(tiny_model, new)
        exported = method.export(tiny_model)
        method.detach(tiny_model)
        assert exported.keys() == {f"{each}.weight" for each in DOWN}
    assert losses["second"][1] < 0.9 * losses["base"][1]
    assert losses["second"][0] < losses["afresh"][0], "control: without the state"


def test_the_result_is_stored_by_what_it_depends_on(tiny_model):
    resources = resources_of(knowledge(2))
    for _ in range(2):
        memit(value_steps=1).prepare(tiny_model, resources)
    assert len(resources.store) == 1
    memit(value_steps=1, prior_weight=2.0).prepare(tiny_model, resources)
    resources.knowledge = knowledge(3)
    memit(value_steps=1).prepare(tiny_model, resources)
    assert len(resources.store) == 3
    assert set(resources.asked) == {(8, "calibration")}
    assert memit().pools == ("calibration",)
    assert memit().evaluation_inputs == ()


def test_layers_and_data_that_cannot_be_edited_are_refused(tiny_model):
    for changes in ({"depth": 2}, {"layers": 2}):
        with pytest.raises(UserError, match="decoder layers cannot be edited: the model has 2") as caught:
            memit(**changes).prepare(tiny_model, resources_of(knowledge(1)))
        assert "depth of at most 1" in str(caught.value)
    with pytest.raises(UserError, match="no conversation begins with its only picture"):
        requests_of([sample for sample in SAMPLES if len(sample.pictures) != 1])
