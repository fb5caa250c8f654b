"""Both families against the plain Hugging Face call, one sample at a time, on folders laid out like the hub's."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration, Qwen2_5_VLForConditionalGeneration

from benchmarks.records import IMAGE, Conversation, Turn
from harness.models.greedy import PrefixCache
from harness.models.pictures import TensorCache
from harness.models.registry import load_model
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
    """Whether the text is LLaVA-1.5's own, written out here; the processor's template otherwise."""

    def inputs(self, name: str, turns: int) -> Any:
        texts, pictures = SAMPLES[name]
        shown = pictures[: sum(text.count(IMAGE) for text in texts[:turns])]
        text = self._official(texts[:turns]) if self.official else self._templated(texts[:turns])
        images = [picture.pixels() for picture in shown] or None
        extra = {"add_special_tokens": False} if self.official else {}
        return self.processor(text=[text], images=images, return_tensors="pt", **extra)

    def _official(self, texts: tuple[str, ...]) -> str:
        said = [f" {text}</s>" if place % 2 else f"USER: {text} ASSISTANT:" for place, text in enumerate(texts)]
        return "<s>" + SYSTEM + "".join(said)

    def _templated(self, texts: tuple[str, ...]) -> str:
        messages = []
        for place, text in enumerate(texts):
            parts = [{"type": "image"}] * text.count(IMAGE)
            content = [*parts, {"type": "text", "text": text.replace(f"{IMAGE}\n", "")}]
            messages.append({"role": ("user", "assistant")[place % 2], "content": content})
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=len(texts) % 2 == 1)

    def says(self, name: str, turns: int) -> str:
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
        kind, processor = LlavaForConditionalGeneration, llava_processor(folder)
    else:
        write_qwen(folder, repetition_penalty=1.2)
        kind, processor = Qwen2_5_VLForConditionalGeneration, qwen_processor(folder)
    theirs = Plain(processor, kind.from_pretrained(folder, dtype=torch.float32).eval(), request.param == "llava")
    return load_model(folder, CPU, torch.float32), theirs, folder


def dialogue(name: str, turns: int):
    texts, pictures = SAMPLES[name]
    return texts[:turns], pictures[: sum(text.count(IMAGE) for text in texts[:turns])]


PROMPTS = [(name, turns) for name, (texts, _) in SAMPLES.items() for turns in range(1, len(texts), 2)]


def test_folders_are_laid_out_as_on_the_hub(both):
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
    for memory in (None, TensorCache()):
        batch = ours.training_batch([sample(name)], memory)
        logits, targets = ours.supervised(batch)
        inputs = theirs.inputs(name, len(SAMPLES[name][0]))
        assert torch.equal(inputs["input_ids"], batch["input_ids"])
        with torch.no_grad():
            whole = theirs.model(**inputs).logits[0]
        learnt = batch["labels"][0] != -100
        torch.testing.assert_close(logits, whole[:-1][learnt[1:]], rtol=1e-4, atol=1e-4)
        assert torch.equal(targets, inputs["input_ids"][0][learnt])


@pytest.mark.parametrize(("name", "turns"), PROMPTS)
def test_text_is_that_of_the_plain_call(both, name, turns):
    ours, theirs, _ = both
    batch = ours.generation_batch([dialogue(name, turns)], TensorCache())
    assert ours.generate(batch, NEW)[0][0] == theirs.says(name, turns)


def test_a_padded_batch_says_what_each_says_alone(both):
    ours, theirs, _ = both
    alone = [theirs.says(*prompt) for prompt in PROMPTS]
    assert len(set(alone)) > len(alone) // 2, "positive control"
    for memory in (None, TensorCache()):
        batch = ours.generation_batch([dialogue(*prompt) for prompt in PROMPTS], memory)
        assert [text for text, _, _ in ours.generate(batch, NEW)] == alone


def test_a_padded_batch_has_the_logits_of_each_alone(both):
    ours = both[0]
    alone = [ours.supervised(ours.training_batch([sample(name)]))[0] for name in SAMPLES]
    together, _ = ours.supervised(ours.training_batch([sample(name) for name in SAMPLES]))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_what_is_read_once_is_read_right(both, monkeypatch):
    """Many questions about one picture, in one batch, and turn after turn."""
    ours = both[0]
    begun: list[int] = []
    take = PrefixCache.keep
    monkeypatch.setattr(PrefixCache, "keep", lambda self, rows: (begun.append(len(rows)), take(self, rows))[1])
    asked = [((f"{IMAGE}\nThe flag of Chad has three stripes: {word}?",), (WIDE,)) for word in ("blue", "red", "9 0")]
    together = ours.generate(ours.generation_batch(asked, TensorCache()), NEW)
    assert begun == [3]
    assert together == [ours.generate(ours.generation_batch([one]), NEW)[0] for one in asked]
    texts, pictures = SAMPLES["several turns"]
    past = PrefixCache()
    for turns in (1, 3, 5):
        batch = ours.generation_batch([(texts[:turns], pictures)], TensorCache())
        assert ours.generate(batch, NEW, past) == ours.generate(batch, NEW)
        assert past.ids == batch["input_ids"].tolist()


def test_the_plain_calls_own_ways_are_followed(both):
    """Positive controls: without Qwen's positions or its repetition penalty, the comparisons above would fail."""
    ours = both[0]
    batch = ours.training_batch([sample("one image")])
    if "position_ids" not in batch:
        assert ours.inner.generation_config.repetition_penalty in (None, 1.0)
        return
    counted = {name: part for name, part in batch.items() if name != "position_ids"}
    assert not torch.allclose(ours.supervised(batch)[0], ours.supervised(counted)[0], atol=1e-2)
    batch = ours.generation_batch([dialogue(*prompt) for prompt in PROMPTS])
    said, settings = ours.generate(batch, NEW), ours.inner.generation_config
    settings.repetition_penalty, penalty = None, settings.repetition_penalty
    try:
        assert ours.generate(batch, NEW) != said
    finally:
        settings.repetition_penalty = penalty


def test_only_answers_are_learnt_each_with_its_end(both):
    ours = both[0]
    batch = ours.training_batch([sample(name) for name in SAMPLES])
    end = ours._tokenizer.eos_token
    for name, labels in zip(SAMPLES, batch["labels"], strict=True):
        said = ours._tokenizer.decode(labels[labels != -100])
        assert [part.strip() for part in said.split(end)] == [*SAMPLES[name][0][1::2], ""]


def test_targets_are_the_decoders_and_the_projector_is_found(both):
    from methods.components.lora_layers import VISION, target_layers

    ours = both[0]
    layers = target_layers(ours)
    assert len(layers) == 2 * 7
    assert not any(VISION & set(name.split(".")) for name in layers)
    assert [name for name, _ in ours.module.named_modules() if name.split(".")[-1] == ours.projector]


def test_an_adapter_comes_and_goes(both):
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
    print_before, memory = ours.fingerprint(), ours.memory()
    before, _ = ours.supervised(ours.training_batch(samples, memory))
    attach_lora(ours, LoRA.Settings(rank=4, alpha=8, dropout=0.0, projector_learning_rate=1e-3))
    try:
        assert not ours.vision_is_trained
        trained = [name for name, weight in ours.module.named_parameters() if weight.requires_grad]
        assert {TRAINED in name and (ours.projector in name or "lora_" in name) for name in trained} == {True}
        for _, layer in lora_layers(ours.module):
            torch.nn.init.normal_(lora_ab(layer)[1], std=0.5)
        assert ours.memory() is memory, "a trained projector has no part in it"
        logits, _ = ours.supervised(ours.training_batch(samples, memory))
        assert not torch.allclose(logits, before, atol=1e-2)
        with without_adapter(ours):
            torch.testing.assert_close(ours.supervised(ours.training_batch(samples, memory))[0], before)
    finally:
        detach_adapter(ours)
    assert ours.fingerprint() == print_before


def test_a_copy_looks_with_its_own_weights(both):
    ours = both[0]
    batch = ours.training_batch([sample("one image")])
    cached_features = ours.training_batch([sample("one image")], ours.memory())
    before, _ = ours.supervised(batch)
    other = copy.copy(ours)
    other.module = copy.deepcopy(ours.module)
    assert torch.equal(other.supervised(batch)[0], before)
    with torch.no_grad():
        for name, weight in other.module.named_parameters():
            if other.projector in name:
                weight.mul_(1.5)
    for each in (batch, cached_features):
        assert not torch.allclose(other.supervised(each)[0], before, atol=1e-2)
    assert torch.equal(ours.supervised(batch)[0], before)


def test_half_precision_weights_run_in_half_precision(both):
    half = load_model(both[2], CPU, torch.bfloat16)
    for memory in (None, half.memory()):
        batch = half.training_batch([sample(name) for name in SAMPLES], memory)
        logits, targets = half.supervised(batch)
        assert logits.dtype == torch.float32
        assert torch.isfinite(torch.nn.functional.cross_entropy(logits, targets))
        said = half.generate(half.generation_batch([dialogue(*prompt) for prompt in PROMPTS], memory), 2)
        assert len(said) == len(PROMPTS)


def test_calibration_takes_both(both):
    from methods.components.covariance import covariances

    parts = list(covariances(both[0], [sample(name) for name in SAMPLES]))
    ends = [[re.sub(r".*\.", "", layer) for layer in part.layers] for part in parts]
    assert ends == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]] * 2
