"""LLaVA behind the interface against Hugging Face's own computations, on a tiny random model."""

from __future__ import annotations

import copy
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.cache_utils import DynamicLayer

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture, Turn
from harness.miniature.batches import InstructionEncoder
from harness.models.chat_template import VICUNA_V1, ChatEncoder, llava_template
from harness.models.greedy import (
    CACHE_GROWTH,
    PreallocatedKVCache,
    default_position_ids,
    greedy_decode,
    last_position_only,
)
from harness.models.llava import LlavaModel, LlavaVisionEncoder
from harness.models.vision import TensorCache
from helpers.tiny import as_dialogue, conversation, conversations, picture

SAMPLES = conversations(8)
DIALOGUES = [as_dialogue(sample) for sample in SAMPLES]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LlavaModel:
    """Shared; tests that change weights load their own model."""
    return LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float32)


def test_the_loss_is_hugging_faces_own(model):
    batch = model.training_batch(SAMPLES)
    assert {0, 1, 2} <= {len(sample.pictures) for sample in SAMPLES}, "text alone, one picture, several"
    logits, targets = model.supervised(batch)
    torch.testing.assert_close(cross_entropy(logits, targets), model.module(**batch).loss)
    assert logits.dtype == torch.float32
    assert len(targets) == int((batch["labels"][:, 1:] != -100).sum()) > 0


def test_labels_are_the_answers_with_their_ends(model):
    sample = conversation(5, turns=3, words=4)
    ids, labels = model.encode(sample)
    answers = model._tokenizer.decode([label for label in labels if label != -100])
    assert [part.strip() for part in answers.split("</s>")[:-1]] == [turn.text for turn in sample.turns[1::2]]
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    assert ids.count(model._chat_encoder.image_id) == 16


def test_a_dialogue_has_the_same_prefix_in_training_and_in_generation(model):
    sample = conversation(6, turns=3)
    ids, _ = model.encode(sample)
    for turns in (1, 3, 5):
        asked = [turn.text for turn in sample.turns[:turns]]
        prompt = model.generation_batch([(asked, sample.pictures)])["input_ids"][0].tolist()
        assert ids[: len(prompt)] == prompt
        assert len(prompt) == model.prompt_length(asked, sample.pictures)


def test_pretraining_writes_dialogues_in_the_same_way(model):
    encoder = InstructionEncoder(model._tokenizer, [])
    for sample in SAMPLES:
        texts = [turn.text for turn in sample.turns]
        turns = list(zip(texts[::2], texts[1::2], strict=True))
        encoded = encoder.encode(SimpleNamespace(turns=turns, pictures=(), patches=()))
        ids, labels = model.encode(sample)
        assert encoded.ids == ids
        assert [weight > 0 for weight in encoded.weights] == [label != -100 for label in labels]


def test_control_tokens_in_texts_are_dropped(model):
    """A text of a model or a data file can neither end a turn nor refer to a picture."""
    clean = ["What is it?", "A cat.", "And now?"]
    dirty = ["What<|assistant|> is it?", "A <image>cat.</s>", "And <s>now?"]
    assert model._chat_encoder.segments(dirty, []) == model._chat_encoder.segments(clean, [])
    assert model._chat_encoder.segments(["<image> it?"], [16]) != model._chat_encoder.segments([" it?"], [])


def test_a_template_that_expects_parts_is_replaced_by_llavas_text(model):
    tokenizer = copy.deepcopy(model._tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}USER: {% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}ASSISTANT:"
    )
    assert llava_template(tokenizer) == VICUNA_V1
    assert llava_template(model._tokenizer) == model._tokenizer.chat_template, "positive control"
    encoder = ChatEncoder(tokenizer, IMAGE, VICUNA_V1)
    text = tokenizer.decode([i for part in encoder.segments(["What?", "A cat.", "Why?"], []) for i in part])
    assert re.fullmatch(r"<s>.*USER:\s+What\? ASSISTANT:\s+A cat\.</s>\s*USER:\s+Why\? ASSISTANT:", text.strip()), text


def test_padding_changes_nothing(model):
    alone = [model.supervised(model.training_batch([sample]))[0] for sample in SAMPLES]
    together = model.supervised(model.training_batch(SAMPLES))[0]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_padding_that_is_not_masked_changes_the_answers(model):
    """Positive control."""
    batch = model.generation_batch(DIALOGUES)
    right = model.generate(batch, 4)
    wrong = model.generate({**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}, 4)
    assert right != wrong


def right_padded(batch):
    ids, mask = torch.zeros_like(batch["input_ids"]), torch.zeros_like(batch["attention_mask"])
    for row, (tokens, used) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
        count = int(used.sum())
        ids[row, :count], mask[row, :count] = tokens[used.bool()], 1
    return {**batch, "input_ids": ids, "attention_mask": mask}


def test_prompts_are_padded_on_the_left(model):
    batch = model.generation_batch(DIALOGUES)
    alone = [model.generate(model.generation_batch([dialogue]), 6)[0] for dialogue in DIALOGUES]
    assert model.generate(batch, 6) == alone
    assert model.generate(right_padded(batch), 6) != alone, "positive control"


def test_generation_is_hugging_faces_own(model):
    for dialogue in DIALOGUES[:3]:
        batch = model.generation_batch([dialogue])
        ours = model.generate(batch, 8)
        theirs = model.module.generate(**batch, max_new_tokens=8, do_sample=False)[0, batch["input_ids"].shape[1] :]
        assert ours[0][0] == model._tokenizer.decode(theirs, skip_special_tokens=True).strip()
        assert ours[0][1] == len(theirs) - int(theirs[-1] == model._tokenizer.eos_token_id)


def test_finished_rows_leave_the_batch(model):
    """Each row has its own limit and its own end, and does not affect the others."""
    batch = model.generation_batch(DIALOGUES)
    limits = [1 + row % 5 for row in range(len(DIALOGUES))]
    free, limited = model.generate(batch, 5), model.generate(batch, limits)
    assert [tokens for _, tokens, _ in limited] == [
        min(n, limit) for (_, n, _), limit in zip(free, limits, strict=True)
    ]
    alone = [model.generate(model.generation_batch([d]), n)[0] for d, n in zip(DIALOGUES, limits, strict=True)]
    assert limited == alone


def test_the_last_layer_skips_positions_that_are_not_used(model):
    batch = model.generation_batch(DIALOGUES)
    decoder, embeddings = model.module.model.language_model, model.input_embeddings(batch)
    with torch.inference_mode():
        expected = decoder(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).last_hidden_state
        with last_position_only(decoder):
            spared = decoder(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).last_hidden_state
        again = decoder(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(spared[:, -1], expected[:, -1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(spared[:, -2], expected[:, -2], atol=1e-2), "positive control"
    assert torch.equal(again, expected), "only within the block"


def test_a_stop_token_ends_a_row(model):
    batch = model.generation_batch(DIALOGUES)
    inner = model.module.model
    embeddings = inner.get_input_embeddings()(batch["input_ids"])

    def run(stops: frozenset[int]):
        with torch.inference_mode():
            mask = batch["attention_mask"]
            head, limits = model.module.lm_head, [6] * len(mask)
            positions = default_position_ids(mask)
            return greedy_decode(inner.language_model, head, embeddings, mask, positions, limits, stops)

    free = run(frozenset())
    assert all(len(ids) == 6 and not ended for ids, ended in free)
    stop = Counter(token for ids, _ in free for token in ids[1:5]).most_common(1)[0][0]
    for (ids, ended), (unstopped, _) in zip(run(frozenset({stop})), free, strict=True):
        assert ended == (stop in unstopped)
        assert ids == (unstopped[: unstopped.index(stop)] if ended else unstopped)


def test_pictures_change_the_answer(model):
    texts, _ = as_dialogue(conversation(3))
    answers = {model.generate(model.generation_batch([(texts, (picture(seed),))]), 6)[0][0] for seed in range(8)}
    assert len(answers) > 1


def test_cached_pictures_give_the_same_answers(model, monkeypatch):
    seen: list[int] = []
    encode = LlavaVisionEncoder._run_tower
    monkeypatch.setattr(
        LlavaVisionEncoder, "_run_tower", lambda self, m, p: (seen.append(len(p)), encode(self, m, p))[1]
    )
    cache = TensorCache()
    plain = model.generate(model.generation_batch(DIALOGUES), 6)
    seen.clear()
    assert model.generate(model.generation_batch(DIALOGUES, cache), 6) == plain
    assert seen == [8]
    assert model.generate(model.generation_batch(DIALOGUES, cache), 6) == plain
    assert seen == [8], "encoded once"


def test_a_pictures_features_do_not_depend_on_other_pictures(model):
    pictures = [picture(seed) for seed in range(11)]
    together = model.vision_encoder.cached_features(model.module, pictures, TensorCache())["encoded"].unflatten(
        0, (len(pictures), -1)
    )
    for place, shown in enumerate(pictures):
        assert torch.equal(
            model.vision_encoder.cached_features(model.module, [shown], TensorCache())["encoded"], together[place]
        )
    assert not torch.equal(together[0], together[1]), "positive control"


def test_the_cache_belongs_to_one_state_of_the_tower(tiny_model):
    cache = tiny_model.vision_cache()
    tiny_model.generation_batch(DIALOGUES, cache)
    assert tiny_model.vision_cache() is cache
    shown = next(sample.pictures[0] for sample in SAMPLES if sample.pictures)
    assert cache.get(shown.sha256) is not None
    with torch.no_grad():
        tiny_model.module.model.language_model.norm.weight.mul_(1.5)
    assert tiny_model.vision_cache() is cache, "it does not depend on the decoder"
    with torch.no_grad():
        next(tiny_model.module.model.vision_tower.parameters()).view(-1)[0] += 1e-3
    assert tiny_model.vision_cache().get(shown.sha256) is None


def test_cached_pictures_give_the_same_loss(model):
    batch, again = model.training_batch(SAMPLES), model.training_batch(SAMPLES, model.vision_cache())
    assert "pixel_values" not in again
    torch.testing.assert_close(model.supervised(again)[0], model.supervised(batch)[0], rtol=1e-4, atol=1e-5)


def test_a_picture_without_image_tokens_is_refused(model):
    batch = model.training_batch(SAMPLES)
    with pytest.raises(UserError, match="places for pictures"):
        model.supervised({**batch, "pixel_values": batch["pixel_values"][:-1]})


def test_a_preallocated_cache_equals_a_growing_one():
    plain, preallocated = DynamicLayer(), PreallocatedKVCache()
    draw = torch.Generator().manual_seed(0)
    for step, tokens in enumerate([7, *[1] * (CACHE_GROWTH + 3)]):
        rows = 3 if step < 5 else 2
        keys, values = (torch.randn(rows, 2, tokens, 4, generator=draw) for _ in range(2))
        for ours, theirs in zip(preallocated.update(keys, values), plain.update(keys, values), strict=True):
            assert torch.equal(ours, theirs)
        assert preallocated.get_seq_length() == plain.get_seq_length()
        if step == 4:
            for layer in (plain, preallocated):
                layer.batch_select_indices(torch.tensor([2, 0]))


def test_a_picture_is_processed_once(model, monkeypatch):
    decoded: list[str] = []
    pixels = Picture.pixels
    monkeypatch.setattr(Picture, "pixels", lambda self: (decoded.append(self.sha256), pixels(self))[1])
    fresh = [conversation(77_000), conversation(77_001)]
    copy = Conversation("copy", fresh[0].turns, (Picture(fresh[0].pictures[0].encoded),))
    for _ in range(2):
        model.training_batch([*fresh, copy])
    assert sorted(decoded) == sorted(shown.sha256 for sample in fresh for shown in sample.pictures)


def test_the_cache_drops_the_least_recently_used():
    cache = TensorCache(limit=3 * 40)
    for key in "abc":
        cache.put(key, torch.zeros(10))
    assert cache.get("a") is not None
    cache.put("d", torch.zeros(10))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]


def test_calibration_gets_first_turns_only(model):
    turns = (
        Turn("user", f"{IMAGE}\nWhat?"),
        Turn("assistant", "A cat."),
        Turn("user", f"{IMAGE} And this?"),
        Turn("assistant", "No."),
    )
    sample = Conversation("two", turns, (picture(1), picture(2)))
    batch = model.prompt_batch([sample, conversation(4)])
    assert batch["pixel_values"].shape[0] == 2
    first = batch["input_ids"][0][batch["attention_mask"][0].bool()].tolist()
    assert first == model.generation_batch([([turns[0].text], sample.pictures[:1])])["input_ids"][0].tolist()
    assert batch["attention_mask"][:, 0].all(), "padded on the right"


def test_targets_are_the_decoders_linear_layers(model):
    names = [name for name, part in model.module.named_modules() if isinstance(part, torch.nn.Linear)]
    hit = [name for name in names if re.fullmatch(model.linear_targets, name)]
    assert len(hit) == 7 * 2
    assert not any("vision" in name or "projector" in name or "lm_head" in name for name in hit)
    naive = [name for name in names if re.fullmatch(r".*\.(q|k|v|o|gate|up|down)_proj", name)]
    assert any("vision" in name for name in naive), "positive control: a lazy pattern hits the tower"


def test_the_fingerprint_depends_on_the_content(tiny_folder, tmp_path):
    def fresh(folder: Path) -> LlavaModel:
        return LlavaModel.load(folder, torch.device("cpu"), torch.float32)

    model, copy = fresh(tiny_folder), tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, copy)
    base = model.fingerprint()
    assert fresh(copy).fingerprint() == base
    with torch.no_grad():
        weight = model.module.model.language_model.layers[1].mlp.up_proj.weight
        bits = weight.view(torch.int32)
        bits[0, 0] ^= 1
        assert model.fingerprint() != base, "one bit of one weight"
        bits[0, 0] ^= 1
        assert model.fingerprint() == base
    config = copy / "processor_config.json"
    config.write_text(config.read_text().replace('"resample": 3', '"resample": 2'))
    assert fresh(copy).fingerprint() != base, "the processor's settings"


def test_half_precision_weights_run_in_half_precision(tiny_folder):
    half = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.bfloat16)
    assert half.module.dtype == torch.bfloat16
    logits, targets = half.supervised(half.training_batch(SAMPLES))
    assert logits.dtype == torch.float32
    assert len(half.generate(half.generation_batch(DIALOGUES, TensorCache()), 2)) == len(DIALOGUES)
    assert torch.isfinite(cross_entropy(logits, targets))
