"""SR-KI: what its entries are, what they add to the model, that retrieval is learnt, and that they leave again."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.errors import UserError
from harness.models.registry import load_model
from harness.serving.adapter import base_digest, find_obstacle
from helpers.missing_libraries import replace_missing_libraries
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train, weights_of
from helpers.published_models import write_qwen
from helpers.tiny import conversation, conversations, knowledge, write_tiny_model
from helpers.tiny_architectures import write
from methods.base import DecoderShapes
from methods.components.entry_attention import ENTRIES, EntryAttention, _adder, attention_places, get_entries
from methods.components.knowledge_entries import LOSSES, RECALLS, answer_states, entries_of
from methods.components.lora_layers import linear_shapes, target_layers
from methods.components.peft_adapter import peft_adapter

ITEMS = knowledge(6)
SAMPLES = conversations(6, seed=1)
PATH = "model.language_model.layers.{}.self_attn.entries."


def ready(model, row="sr-ki", items=ITEMS, stage_state=None, **changes):
    """A method that is attached, its resources, and its training data."""
    method, resources = make(row, **{"data": "question-answer", **changes}), FakeResources()
    resources.knowledge, resources.stage_state = items, stage_state or {}
    samples = method.training_data(items, resources)
    prepared = attach(method, model, resources)
    return method, samples, prepared


def with_random_values(model):
    """V is not zero, so that something is retrieved."""
    value = get_entries(model).value
    with torch.no_grad():
        value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))


def found(method, model, samples):
    """The share of the tokens before supervised ones whose largest score is that of an entry of the right item."""
    batch = model.training_batch(samples)
    model.supervised(batch)
    query, _ = get_entries(model).pop_recorded()
    hits = []
    for row, sample in enumerate(samples):
        for column in (batch["labels"][row, 1:] != -100).nonzero().flatten().tolist():
            best = int((query[row, column] @ get_entries(model).keys.T).argmax())
            hits.append(best in method._own[sample.id])
    return sum(hits) / len(hits)


def test_entries_are_names_and_facts_or_the_text():
    named, unnamed = ITEMS[0], dataclasses.replace(ITEMS[1], named=False)
    bare = dataclasses.replace(ITEMS[2], facts=())

    def texts(item):
        return [tuple(turn.text for turn in entry.text.turns) for entry in entries_of([item])]

    assert texts(named) == [
        ("<image>\nthing 0: name", "thing 0"),
        ("<image>\nthing 0: stripes", "0"),
        ("<image>\nthing 0: country", "Ghana"),
    ]
    assert {(entry.item, entry.text.pictures) for entry in entries_of([named])} == {("item-0", (named.picture,))}
    assert texts(unnamed) == [("<image>\nanimal: stripes", "1"), ("<image>\nanimal: country", "Ghana")]
    assert texts(bare) == [("<image>\nthing 2: name", "thing 2"), ("<image>\nthing 2: description", bare.text)]
    twice = dataclasses.replace(named, facts=(("country", " "), ("country", "Chad"), ("country", "Chad")))
    assert texts(twice)[1:] == [("<image>\nthing 0: country", "Chad")]
    names = [entry.name for entry in entries_of([*ITEMS, bare])]
    assert len(set(names)) == len(names) - 1, "the name of this item is the same entry twice"
    assert names[:3] == [entry.name for entry in entries_of([named])]


def test_keys_and_values_are_what_enters_the_attention_before_and_during_the_answer(exact_model):
    """Against each conversation read alone, where the answer's tokens are the last."""
    samples = [entry.text for entry in entries_of(ITEMS)]
    places = list(attention_places(target_layers(exact_model)).values())
    before, during = answer_states(exact_model, samples, places)
    assert before.shape == during.shape == (2, len(samples), 32)
    assert before.dtype == torch.float64
    seen = {}
    for number, layer in enumerate(exact_model.decoder.layers):
        layer.input_layernorm.register_forward_hook(lambda _, __, output, number=number: seen.update({number: output}))
    for place, sample in list(enumerate(samples))[::5]:
        batch = exact_model.training_batch([sample])
        length = int((batch["labels"] != -100).sum())
        assert bool((batch["labels"][0, -length:] != -100).all())
        with torch.no_grad():
            exact_model.module(**{name: each for name, each in batch.items() if name != "labels"})
        for number in (0, 1):
            row = seen[number][0]
            torch.testing.assert_close(before[number, place], row[-length - 1], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(during[number, place], row[-length:].mean(0), rtol=1e-9, atol=1e-12)
            assert not torch.allclose(row[-length], row[-length - 1], atol=1e-3), "control"


def test_the_layer_is_the_one_in_which_the_base_loses_least(tiny_model, tmp_path):
    model = type(tiny_model).load(write_tiny_model(tmp_path, num_hidden_layers=4), tiny_model.device, torch.float32)
    base = weights_of(model)
    method, _, prepared = ready(model, samples=4)
    losses = prepared[LOSSES].tolist()
    assert len(losses) == len(prepared[RECALLS]) == 3, "the first reads the same token before every answer"
    assert int(prepared["layer"]) == 2 + losses.index(min(losses))
    assert len({round(loss, 3) for loss in losses}) == 3, "control"
    shown = method.diagnostics(prepared)
    assert shown["decoder layer of the entries"] == int(prepared["layer"])
    assert shown["entries"] == len(entries_of(ITEMS)) == len(get_entries(model).keys)
    assert shown["retrieval loss of the base"] == pytest.approx(min(losses))
    lengths = prepared["keys"].norm(dim=-1), prepared["values"].norm(dim=-1)
    assert all(torch.allclose(each, torch.ones(len(each))) for each in lengths)
    method.detach(model)
    assert same(weights_of(model), base)
    for layer, loss in enumerate(losses, start=2):
        method, _, fixed = ready(model, samples=4, layer=layer)
        assert fixed[LOSSES].tolist() == pytest.approx([loss])
        assert int(fixed["layer"]) == layer
        assert torch.equal(fixed["keys"], prepared["keys"]) == (layer == int(prepared["layer"]))
        method.detach(model)


def test_questions_of_the_data_choose_the_layer_and_published_ones_without_data(tiny_model):
    method, resources = make("sr-ki", data="question-answer"), FakeResources()
    resources.knowledge = ITEMS
    published = attach(method, tiny_model, resources)
    assert method._own.keys() == {f"{item.id}/published" for item in ITEMS}
    method.detach(tiny_model)
    method, samples, asked = ready(tiny_model)
    assert method._own.keys() == {sample.id for sample in samples}
    assert torch.equal(asked["keys"], published["keys"])
    assert not torch.allclose(asked["query_centre"], published["query_centre"], atol=1e-2)
    assert asked[LOSSES].tolist() != published[LOSSES].tolist()


def test_what_is_retrieved_goes_through_the_output_projection(exact_model):
    """Against the attention's own output, and W of its projection times what its input retrieves."""
    method, _, prepared = ready(exact_model, projector_learning_rate=0.0)
    with_random_values(exact_model)
    entries, attention = get_entries(exact_model), exact_model.decoder.layers[int(prepared["layer"]) - 1].self_attn
    seen = {}
    attention.register_forward_pre_hook(lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True)
    attention.register_forward_hook(lambda _, __, output: seen.update(after=output[0]))
    exact_model.module.eval()
    logits = logits_of(exact_model, SAMPLES)
    with torch.no_grad():
        added = entries(seen["hidden_states"]) @ attention.o_proj.weight.T
    after = seen["after"]
    method.detach(exact_model)
    before = logits_of(exact_model, SAMPLES)
    torch.testing.assert_close(after, seen["after"] + added, rtol=1e-10, atol=1e-12)
    assert float(added.abs().max()) > 0.1
    assert not torch.allclose(logits, before, atol=1e-3), "control"


@pytest.mark.parametrize("tuple_output", [True, False])
def test_a_bias_of_the_projection_is_added_once(tuple_output):
    draw = torch.Generator().manual_seed(0)
    attention = torch.nn.ModuleDict({"out_proj": torch.nn.Linear(3, 4)})
    entries = EntryAttention((2, 4, 3), 1.0, 2, like=torch.empty(0))
    with torch.no_grad():
        for part in (*entries.parameters(), entries.keys, entries.values):
            part.copy_(torch.randn(part.shape, generator=draw))
    hidden, own = torch.randn(1, 5, 4, generator=draw), torch.randn(1, 5, 4, generator=draw)
    output = (own, "weights") if tuple_output else own
    for args, options in (((hidden,), {}), ((), {"hidden_states": hidden})):
        result = _adder(entries, "out_proj")(attention, args, options, output)
        first = result[0] if tuple_output else result
        expected = own + entries(hidden) @ attention["out_proj"].weight.T
        torch.testing.assert_close(first, expected)
        assert not tuple_output or result[1] == "weights"


def test_the_first_step_is_the_bases_bit_for_bit_and_the_second_is_not(tiny_model):
    method, samples, _ = ready(tiny_model)
    method.detach(tiny_model)
    base = weights_of(tiny_model)
    before = logits_of(tiny_model, SAMPLES)
    method, samples, _ = ready(tiny_model)
    assert torch.equal(logits_of(tiny_model, SAMPLES), before)
    tiny_model.module.train()
    assert torch.equal(logits_of(tiny_model, SAMPLES), before), "in training as well"
    train(method, tiny_model, samples, steps=1)
    assert not torch.allclose(logits_of(tiny_model, SAMPLES), before, atol=1e-4), "control"
    method.detach(tiny_model)
    assert torch.equal(logits_of(tiny_model, SAMPLES), before)
    assert same(weights_of(tiny_model), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_exported_is_restored_bit_for_bit(dtype, tiny_model, tiny_folder):
    def half():
        return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False)

    model = type(tiny_model).load(tiny_folder, tiny_model.device, dtype)
    method, samples, prepared = ready(model, top_k=2)
    with half():
        train(method, model, samples, steps=3)
        exported, learnt = method.export(model), logits_of(model, SAMPLES)
    path = PATH.format(int(prepared["layer"]) - 1)
    own = {name.removeprefix(path) for name in exported if name.startswith(path)}
    assert own == {
        "query",
        "value",
        "nothing",
        "keys",
        "values",
        "names",
        *(f"{n}_centre" for n in ("key", "query", "value")),
    }
    assert all("projector" in name for name in exported if not name.startswith(path))
    assert torch.equal(exported[f"{path}keys"], prepared["keys"])
    method.detach(model)
    fresh = type(model).load(tiny_folder, model.device, dtype)
    other = make("sr-ki", top_k=2)
    other.restore(fresh, exported)
    with half():
        assert torch.equal(logits_of(fresh, SAMPLES), learnt)
    assert same(other.export(fresh), exported)
    other.detach(fresh)
    if dtype == torch.float32:
        more = make("sr-ki", top_k=18)
        more.restore(fresh, exported)
        assert not torch.equal(logits_of(fresh, SAMPLES), learnt), "control: top_k matters in answers"


def test_retrieval_is_learnt_and_without_its_loss_it_is_not(tiny_model):
    words = ("Ghana stripes", "cat dogs", "blue yellow", "flag Chad", "picture 7", "many Yes")
    items = [
        dataclasses.replace(item, name=word, prompt=f"{word} {word} {word}?", text=word, facts=())
        for item, word in zip(ITEMS, words, strict=True)
    ]
    before, after = {}, {}
    for row in ("sr-ki", "sr-ki:unsupervised"):
        method, samples, _ = ready(tiny_model, row, items=items, data="evoke", learning_rate=5e-2)
        get_entries(tiny_model).record = True
        before[row] = found(method, tiny_model, samples)
        losses = train(method, tiny_model, samples, steps=40, size=6)
        after[row] = found(method, tiny_model, samples)
        assert losses[-1] < 0.8 * losses[0]
        method.detach(tiny_model)
    assert before["sr-ki"] == before["sr-ki:unsupervised"] < 0.4
    assert after["sr-ki"] > 0.7
    assert after["sr-ki:unsupervised"] < 0.5, "control"


def test_the_penalty_is_a_mean_over_all_supervised_tokens_however_rows_are_divided(tiny_model):
    method, samples, _ = ready(tiny_model, coefficient=2.0)
    rows = [*samples[:4], conversation(3, words=5), samples[9]]  # one of them is about no item
    entries = get_entries(tiny_model)

    def penalty(chosen, labels=None):
        batch = tiny_model.training_batch(chosen)
        batch = batch if labels is None else batch.replace(labels=labels)
        logits, targets = tiny_model.supervised(batch)
        value = method.penalty(tiny_model, batch, logits)
        return 0.0 if value is None else float(value.detach()), len(targets)

    whole, count = penalty(rows)
    parts = [penalty([row]) for row in rows]
    assert parts[4][0] == 0.0
    assert sum(tokens for _, tokens in parts) == count
    assert whole == pytest.approx(sum(value * tokens for value, tokens in parts) / count, rel=1e-5)
    batch = tiny_model.training_batch(samples[:1])
    logits, _ = tiny_model.supervised(batch)
    query, nothing = entries.pop_recorded()
    total = 0.0
    places = (batch["labels"][0, 1:] != -100).nonzero().flatten().tolist()
    for column in places:
        powers = (query[0, column] @ entries.keys.T).double().exp()
        mine = powers[method._own[samples[0].id]].sum()
        total -= float((mine / (powers.sum() + nothing.double().exp())).log().detach())
    assert parts[0][0] == pytest.approx(2.0 * total / len(places), rel=1e-5)
    assert penalty(samples[:2], torch.full_like(tiny_model.training_batch(samples[:2])["labels"], -100)) == (0.0, 0)
    assert make("sr-ki:unsupervised").penalty(tiny_model, batch, logits) is None


def test_a_later_stage_adds_its_entries_behind_the_earlier_ones(tiny_model):
    first, samples, prepared = ready(tiny_model, items=ITEMS[:4], layer=2)
    train(first, tiny_model, samples, steps=3)
    exported, state, learnt = (
        first.export(tiny_model),
        first.export_stage_state(tiny_model),
        logits_of(tiny_model, SAMPLES),
    )
    first.detach(tiny_model)
    second, _, again = ready(tiny_model, items=ITEMS[1:4], stage_state=state)
    second.load_previous_stage(tiny_model, exported)
    assert torch.equal(again["names"], prepared["names"]), "an item that comes again has no second entry"
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
    assert second._own == {name: numbers for name, numbers in first._own.items() if name in second._own}
    second.detach(tiny_model)
    third, samples, more = ready(tiny_model, items=ITEMS[3:], stage_state=state)
    third.load_previous_stage(tiny_model, exported)
    count = len(prepared["keys"])
    assert len(more["keys"]) == count + 6
    assert all(torch.equal(more[name][:count], prepared[name]) for name in ("keys", "values", "names"))
    assert torch.equal(more["key_centre"], prepared["key_centre"])
    assert max(number for numbers in third._own.values() for number in numbers) == count + 5
    assert third.diagnostics(more) == {"decoder layer of the entries": 2.0, "entries": count + 6.0}
    train(third, tiny_model, samples, steps=2)
    last, learnt = third.export(tiny_model), logits_of(tiny_model, SAMPLES)
    third.detach(tiny_model)
    third.restore(tiny_model, last)
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)


def test_half_of_an_update_has_half_of_v(tiny_model):
    method, samples, prepared = ready(tiny_model, projector_learning_rate=0.0)
    train(method, tiny_model, samples, steps=2)
    exported = method.export(tiny_model)
    method.detach(tiny_model)
    half = method.scale_update(tiny_model, exported, 0.5)
    value = f"{PATH.format(int(prepared['layer']) - 1)}value"
    assert bool(exported[value].any())
    assert all(torch.equal(half[name], each * 0.5 if name == value else each) for name, each in exported.items())


def test_neither_peft_nor_vllm_gets_it_and_both_say_why(tiny_model):
    untouched = base_digest(tiny_model)
    method, _, prepared = ready(tiny_model)
    with pytest.raises(UserError, match="adds entries beside an attention, which neither PEFT nor a merged weight"):
        peft_adapter(tiny_model)
    layer = int(prepared["layer"]) - 1
    assert find_obstacle(tiny_model, untouched) == f"a hook changes the forward pass of layers.{layer}.self_attn"
    method.detach(tiny_model)
    assert peft_adapter(tiny_model) is None, "control"
    assert find_obstacle(tiny_model, untouched) == ""


def test_bad_input_is_refused_with_what_to_do(tiny_model, tmp_path):
    shapes = linear_shapes(tiny_model)
    make("sr-ki", layer=2).validate_layers(shapes)
    for refuse in (
        lambda: make("sr-ki", layer=3).validate_layers(shapes),
        lambda: attach(make("sr-ki", layer=3), tiny_model),
    ):
        with pytest.raises(UserError, match="no attention in decoder layer 3") as caught:
            refuse()
        assert "choose from 1, 2, or 0" in str(caught.value)
    weights = weights_of(tiny_model)
    with pytest.raises(UserError, match="all keys are the same in decoder layer 1") as caught:
        ready(tiny_model, layer=1)
    assert "a later layer" in str(caught.value)
    silent = dataclasses.replace(ITEMS[0], named=False, facts=(), text=" ")
    for items in ([], [silent]):
        with pytest.raises(UserError, match=f"nothing to make entries of in {len(items)} items"):
            ready(tiny_model, items=items, data="evoke")
    for name, value in (("top_k", 0), ("layer", -1), ("temperature", 0.0), ("coefficient", -1.0), ("samples", 0)):
        with pytest.raises(UserError, match=f"{name} cannot be"):
            make("sr-ki", **{name: value})
    (tmp_path / "train.json").write_text(
        '[{"id": "x", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}]'
    )
    with pytest.raises(UserError, match="none of 1 conversations is about an item"):
        ready(tiny_model, data=str(tmp_path))
    assert same(weights_of(tiny_model), weights)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in tiny_model.decoder.modules())


def test_what_does_not_belong_to_the_model_is_not_restored(tiny_model):
    method, _, prepared = ready(tiny_model)
    exported, path = method.export(tiny_model), PATH.format(int(prepared["layer"]) - 1)
    with pytest.raises(UserError, match="attached already"):
        method.attach(tiny_model, prepared)
    method.detach(tiny_model)
    with pytest.raises(UserError, match="no entries for an attention of this model"):
        method.restore(tiny_model, {name.replace("layers.1", "layers.7"): each for name, each in exported.items()})
    for wrong in ({f"{path}query": torch.eye(3)}, {f"{path}more": torch.eye(3)}):
        with pytest.raises(UserError, match="1 tensors are missing, unknown or of another shape"):
            method.restore(tiny_model, {**exported, **wrong})
        method.detach(tiny_model)


def test_the_forecast_counts_m_v_and_the_projector(shapes_of_7b):
    shapes = DecoderShapes(linear_shapes(shapes_of_7b), 32, 0, 100)
    for layer in (0, 15):
        method = make("sr-ki", layer=layer)
        assert method.adapter_parameters(shapes.linears) == 2 * 4096**2 + 1 == 33_554_433
        assert method.memory_needs(shapes).trained == 33_554_433 + 100
    assert make("sr-ki", projector_learning_rate=0.0).memory_needs(shapes).trained == 33_554_433


def test_all_that_is_trained_is_counted(tiny_model):
    method, _, _ = ready(tiny_model, projector_learning_rate=0.0)
    trained = {name: each.numel() for name, each in tiny_model.module.named_parameters() if each.requires_grad}
    assert {name.rpartition(f".{ENTRIES}.")[2] for name in trained} == {"query", "value", "nothing"}
    assert sum(trained.values()) == method.adapter_parameters(linear_shapes(tiny_model))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl", "qwen3-vl", "gemma3", "qwen3.5"])
def test_families_answer_with_the_cache_as_without(name, tmp_path, tiny_model):
    """Rotations in three dimensions, norms behind the attention, sliding windows, linear attention."""
    replace_missing_libraries()
    model, sample = tiny_model, conversation(3)
    if name != "llava":
        folder = write_qwen(tmp_path) if name == "qwen2.5-vl" else write(name, tmp_path)
        model = load_model(folder, torch.device("cpu"), torch.float32)
    base, before = weights_of(model), logits_of(model, [sample])
    batch = model.generation_batch([([sample.turns[0].text], sample.pictures)])
    for place in attention_places(target_layers(model)).values():
        if place.layer == 1:
            continue
        method, _, _ = ready(model, layer=place.layer)
        assert torch.equal(logits_of(model, [sample]), before)
        with_random_values(model)
        assert not torch.allclose(logits_of(model, [sample]), before, atol=1e-3)
        options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": -1}
        with_cache, without = (model.inner.generate(**batch, **options, use_cache=kept) for kept in (True, False))
        assert torch.equal(with_cache, without)
        method.detach(model)
    assert same(weights_of(model), base)


def test_rows_of_another_batch_do_not_matter(tiny_model):
    """Each token has its own entries, in answers as well."""
    ready(tiny_model, top_k=2)
    with_random_values(tiny_model)
    together = logits_of(tiny_model, SAMPLES)
    single = torch.cat([logits_of(tiny_model, [sample]) for sample in SAMPLES])
    torch.testing.assert_close(together, single, rtol=1e-4, atol=1e-4)
    get_entries(tiny_model).top_k = 1
    assert not torch.allclose(logits_of(tiny_model, SAMPLES), together, atol=1e-2), "control"
