"""Both families against plain Hugging Face calls, one sample at a time, on folders with the hub's layout."""

from __future__ import annotations

import copy
import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration, Qwen2_5_VLForConditionalGeneration

from benchmarks.records import IMAGE, Conversation, Turn
from harness.models.greedy import PrefixCache, cache_argument
from harness.models.qwen2_5_vl import QwenModel
from harness.models.registry import load_model
from harness.models.vision import TensorCache
from helpers.published_models import SMALL, TALL, WIDE, llava_processor, qwen_processor, write_llava, write_qwen

CPU = torch.device("cpu")
NEW = 8
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


SAMPLES = {
    "one image": ((f"{IMAGE}\nWhat is shown?", "A flag of Chad."), (WIDE,)),
    "several images": ((f"{IMAGE}\n{IMAGE}\n{IMAGE}\nAre they alike?", "No."), (TALL, SMALL, WIDE)),
    "no image": (("Describe the flag.", "Blue, yellow and red."), ()),
    "several turns": (
        (f"{IMAGE}\nIs this a cat?", "No.", "And how many dogs are there?", "3", "Why?", "The picture."),
        (TALL,),
    ),
    "an image in a later turn": (("A cat?", "Yes.", f"{IMAGE}\nAnd this?", "A flag."), (SMALL,)),
}


def sample(name: str) -> Conversation:
    texts, pictures = SAMPLES[name]
    turns = [Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]
    return Conversation(name, tuple(turns), pictures)


@dataclass
class Plain:
    """The plain call: Hugging Face's processor and model, one sample at a time."""

    processor: Any
    model: Any
    official: bool
    """Whether to use LLaVA-1.5's own text, written out here, instead of the processor's template."""

    def inputs(self, name: str, turns: int) -> Any:
        texts, pictures = SAMPLES[name]
        pictures = pictures[: sum(text.count(IMAGE) for text in texts[:turns])]
        text = self._official(texts[:turns]) if self.official else self._templated(texts[:turns])
        images = [picture.pixels() for picture in pictures] or None
        extra = {"add_special_tokens": False} if self.official else {}
        return self.processor(text=[text], images=images, return_tensors="pt", **extra)

    def _official(self, texts: tuple[str, ...]) -> str:
        parts = [f" {text}</s>" if index % 2 else f"USER: {text} ASSISTANT:" for index, text in enumerate(texts)]
        return "<s>" + SYSTEM + "".join(parts)

    def _templated(self, texts: tuple[str, ...]) -> str:
        messages = []
        for place, text in enumerate(texts):
            parts = [{"type": "image"}] * text.count(IMAGE)
            content = [*parts, {"type": "text", "text": text.replace(f"{IMAGE}\n", "")}]
            messages.append({"role": ("user", "assistant")[place % 2], "content": content})
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(texts) % 2 == 1)

    def answer(self, name: str, turns: int) -> str:
        inputs = self.inputs(name, turns)
        with torch.inference_mode():
            ids = self.model.generate(**inputs, max_new_tokens=NEW)[0, inputs["input_ids"].shape[1] :]
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.fixture(scope="module", params=["llava", "qwen"])
def both(request, tmp_path_factory):
    """Ours and the plain one."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llava":
        write_llava(folder)
        model_class, processor = LlavaForConditionalGeneration, llava_processor(folder)
    else:
        write_qwen(folder, repetition_penalty=1.2)
        model_class, processor = Qwen2_5_VLForConditionalGeneration, qwen_processor(folder)
    theirs = Plain(processor, model_class.from_pretrained(folder, dtype=torch.float32).eval(), request.param == "llava")
    return load_model(folder, CPU, torch.float32), theirs, folder


def dialogue(name: str, turns: int):
    texts, pictures = SAMPLES[name]
    return texts[:turns], pictures[: sum(text.count(IMAGE) for text in texts[:turns])]


ONE_PICTURE = [((f"{IMAGE}\nThe flag of Chad has three stripes: {word}?",), (WIDE,)) for word in ("blue", "red", "9 0")]
PROMPTS = [(name, turns) for name, (texts, _) in SAMPLES.items() for turns in range(1, len(texts), 2)]


def test_folders_have_the_layout_of_the_hub(both):
    folder = both[2]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1, "shards"
    own = {"model.layers.0.self_attn.q_proj.weight", "visual.blocks.0.attn.qkv.weight", "lm_head.weight"}
    llava = {"language_model.model.layers.0.self_attn.q_proj.weight", "multi_modal_projector.linear_1.weight"}
    assert own <= index["weight_map"].keys() or llava <= index["weight_map"].keys()
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize("name", SAMPLES)
def test_logits_are_those_of_the_plain_call(both, name):
    ours, theirs, _ = both
    for cache in (None, TensorCache()):
        batch = ours.training_batch([sample(name)], cache)
        logits, targets = ours.supervised(batch)
        inputs = theirs.inputs(name, len(SAMPLES[name][0]))
        assert torch.equal(inputs["input_ids"], batch["input_ids"])
        with torch.no_grad():
            expected = theirs.model(**inputs).logits[0]
        supervised = batch["labels"][0] != -100
        torch.testing.assert_close(logits, expected[:-1][supervised[1:]], rtol=1e-4, atol=1e-4)
        assert torch.equal(targets, inputs["input_ids"][0][supervised])


@pytest.mark.parametrize(("name", "turns"), PROMPTS)
def test_text_is_that_of_the_plain_call(both, name, turns):
    ours, theirs, _ = both
    batch = ours.generation_batch([dialogue(name, turns)], TensorCache())
    assert ours.generate(batch, NEW)[0][0] == theirs.answer(name, turns)


def test_a_padded_batch_gives_the_answers_of_single_prompts(both):
    ours, theirs, _ = both
    alone = [theirs.answer(*prompt) for prompt in PROMPTS]
    assert len(set(alone)) > len(alone) // 2, "positive control"
    for cache in (None, TensorCache()):
        batch = ours.generation_batch([dialogue(*prompt) for prompt in PROMPTS], cache)
        assert [text for text, _, _ in ours.generate(batch, NEW)] == alone


def test_a_padded_batch_has_the_logits_of_single_samples(both):
    ours = both[0]
    alone = [ours.supervised(ours.training_batch([sample(name)]))[0] for name in SAMPLES]
    together, _ = ours.supervised(ours.training_batch([sample(name) for name in SAMPLES]))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def ask_about_one_picture(model) -> list[tuple[str, int, bool]]:
    """Answers to a batch of questions that share a prefix."""
    return model.generate(model.generation_batch(ONE_PICTURE, TensorCache()), NEW)


def test_shared_prefixes_give_the_same_answers(both, monkeypatch):
    """Several questions about one picture in one batch, and several turns."""
    ours = both[0]
    selected: list[int] = []
    select = PrefixCache.select_rows
    monkeypatch.setattr(
        PrefixCache, "select_rows", lambda self, rows: (selected.append(len(rows)), select(self, rows))[1]
    )
    together = ask_about_one_picture(ours)
    assert selected == [3]
    assert together == [ours.generate(ours.generation_batch([dialogue]), NEW)[0] for dialogue in ONE_PICTURE]
    texts, pictures = SAMPLES["several turns"]
    prefix = PrefixCache()
    for turns in (1, 3, 5):
        batch = ours.generation_batch([(texts[:turns], pictures)], TensorCache())
        assert ours.generate(batch, NEW, prefix) == ours.generate(batch, NEW)
        assert prefix.ids == batch["input_ids"].tolist()


def test_generation_uses_no_deprecated_argument(both):
    """With and without a shared prefix, in several turns, and in training."""
    ours = both[0]
    prefix = PrefixCache()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        ask_about_one_picture(ours)
        for prompt in (("several turns", 1), ("several turns", 3)):
            ours.generate(ours.generation_batch([dialogue(*prompt)]), NEW, prefix)
        ours.supervised(ours.training_batch([sample("one image")]))


def test_the_cache_argument_is_that_of_the_installed_version():
    def before_5_24(self, inputs_embeds=None, past_key_values=None): ...
    def since_5_24(self, inputs_embeds=None, cache=None): ...

    assert [cache_argument(forward) for forward in (before_5_24, since_5_24)] == ["past_key_values", "cache"]


def test_window_attention_is_that_of_the_library(both):
    """In windows of one size and of several; fails if a new transformers computes something else."""
    ours, theirs, _ = both
    if not isinstance(ours, QwenModel):
        return
    tower, plain = ours.module.model.visual, theirs.model.model.visual
    assert all(block.attn.forward.__func__ is not type(block.attn).forward for block in tower.blocks), "it is in use"
    assert all(block.attn.forward.__func__ is type(block.attn).forward for block in plain.blocks)
    for grid in ([1, 8, 8], [1, 10, 14]):
        pixels, grids = torch.randn(grid[1] * grid[2], 3 * 2 * 14 * 14), torch.tensor([grid])
        with torch.no_grad():
            found, expected = (each(pixels, grid_thw=grids).last_hidden_state for each in (tower, plain))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_defaults_of_the_plain_call_are_followed(both):
    """Positive controls: without Qwen's positions or its repetition penalty, the comparisons above would fail."""
    ours = both[0]
    batch = ours.training_batch([sample("one image")])
    if "position_ids" not in batch:
        assert ours.inner.generation_config.repetition_penalty in (None, 1.0)
        return
    without_positions = {name: part for name, part in batch.items() if name != "position_ids"}
    assert not torch.allclose(ours.supervised(batch)[0], ours.supervised(without_positions)[0], atol=1e-2)
    batch = ours.generation_batch([dialogue(*prompt) for prompt in PROMPTS])
    answers, settings = ours.generate(batch, NEW), ours.inner.generation_config
    settings.repetition_penalty, penalty = None, settings.repetition_penalty
    try:
        assert ours.generate(batch, NEW) != answers
    finally:
        settings.repetition_penalty = penalty


def test_each_question_has_its_own_repetition_penalty(both):
    ours = both[0]
    own = ours.inner.generation_config.repetition_penalty
    batch = ours.generation_batch([dialogue(*prompt) for prompt in PROMPTS])
    folder = ours.generate(batch, NEW)
    without = ours.generate(batch, NEW, None, [1.0] * len(PROMPTS))
    assert (folder != without) == (own not in (None, 1.0))
    mixed = ours.generate(batch, NEW, None, [None if row % 2 else 1.0 for row in range(len(PROMPTS))])
    assert mixed == [(folder if row % 2 else without)[row] for row in range(len(PROMPTS))]


def test_only_answers_are_supervised_each_with_its_end(both):
    ours = both[0]
    batch = ours.training_batch([sample(name) for name in SAMPLES])
    end = ours._tokenizer.eos_token
    for name, labels in zip(SAMPLES, batch["labels"], strict=True):
        text = ours._tokenizer.decode(labels[labels != -100])
        assert [part.strip() for part in text.split(end)] == [*SAMPLES[name][0][1::2], ""]


def test_targets_are_the_decoders_and_the_projector_is_found(both):
    from methods.components.lora_layers import target_layers

    ours = both[0]
    layers = target_layers(ours)
    assert len(layers) == 2 * 7
    assert not any(ours.towers & set(name.split(".")) for name in layers)
    assert [name for name, _ in ours.module.named_modules() if name.split(".")[-1] == ours.projector]


def test_an_adapter_is_attached_and_detached(both):
    from methods.components.lora_layers import (
        TRAINED,
        attach_lora,
        detach_adapter,
        lora_ab,
        lora_layers,
        without_adapter,
    )
    from methods.lora import LoRA

    ours = both[0]
    samples = [sample(name) for name in SAMPLES]
    fingerprint, cache = ours.fingerprint(), ours.vision_cache()
    before, _ = ours.supervised(ours.training_batch(samples, cache))
    attach_lora(ours, LoRA.Settings(rank=4, alpha=8, dropout=0.0, projector_learning_rate=1e-3))
    try:
        assert not ours.vision_is_trained
        trained = [name for name, weight in ours.module.named_parameters() if weight.requires_grad]
        assert {TRAINED in name and (ours.projector in name or "lora_" in name) for name in trained} == {True}
        for _, layer in lora_layers(ours.module):
            torch.nn.init.normal_(lora_ab(layer)[1], std=0.5)
        assert ours.vision_cache() is cache, "it does not depend on the projector"
        logits, _ = ours.supervised(ours.training_batch(samples, cache))
        assert not torch.allclose(logits, before, atol=1e-2)
        with without_adapter(ours):
            torch.testing.assert_close(ours.supervised(ours.training_batch(samples, cache))[0], before)
    finally:
        detach_adapter(ours)
    assert ours.fingerprint() == fingerprint


def test_a_copy_uses_its_own_projector(both):
    ours = both[0]
    batch = ours.training_batch([sample("one image")])
    cached = ours.training_batch([sample("one image")], ours.vision_cache())
    before, _ = ours.supervised(batch)
    other = copy.copy(ours)
    other.module = copy.deepcopy(ours.module)
    assert torch.equal(other.supervised(batch)[0], before)
    with torch.no_grad():
        for name, weight in other.module.named_parameters():
            if other.projector in name:
                weight.mul_(1.5)
    for each in (batch, cached):
        assert not torch.allclose(other.supervised(each)[0], before, atol=1e-2)
    assert torch.equal(ours.supervised(batch)[0], before)


def test_half_precision_weights_run_in_half_precision(both):
    half = load_model(both[2], CPU, torch.bfloat16)
    for cache in (None, half.vision_cache()):
        batch = half.training_batch([sample(name) for name in SAMPLES], cache)
        logits, targets = half.supervised(batch)
        assert logits.dtype == torch.float32
        assert torch.isfinite(torch.nn.functional.cross_entropy(logits, targets))
        answers = half.generate(half.generation_batch([dialogue(*prompt) for prompt in PROMPTS], cache), 2)
        assert len(answers) == len(PROMPTS)


def test_calibration_supports_both(both):
    from methods.components.covariance import covariances

    parts = list(covariances(both[0], [sample(name) for name in SAMPLES]))
    ends = [[re.sub(r".*\.", "", layer) for layer in part.layers] for part in parts]
    assert ends == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]] * 2
