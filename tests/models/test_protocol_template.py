"""Questions in a protocol's own chat template: answered in it, keyed by it, and refused by a model that has none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Question
from benchmarks.retention_specs import CLASS_OF_LLAVA
from harness.models.batched_generation import answer
from harness.models.chat_template import VLMEVALKIT_LLAVA
from harness.models.registry import load_model
from harness.models.vision import TensorCache
from harness.storage.digests import questions_digest
from helpers.published_models import SMALL, TALL, WIDE, write_llava, write_qwen

CPU = torch.device("cpu")


def asked(name: str, *turns: str, pictures=(), template: str = CLASS_OF_LLAVA) -> Question:
    return Question(name, "MMDU", turns, pictures, "", max_new_tokens=6, template=template)


QUESTIONS = [
    asked("one", f" {IMAGE} What is shown?", pictures=(WIDE,)),
    asked("several", f" {IMAGE}  {IMAGE} Are they alike?", pictures=(TALL, SMALL)),
    asked("dialogue", f"Is {IMAGE} a cat?", "Why?", f"And {IMAGE} ?", pictures=(TALL, WIDE)),
    asked("own", f"{IMAGE}\nWhat is shown?", pictures=(WIDE,), template=""),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_llava(tmp_path_factory.mktemp("llava")), CPU, torch.float32)


def plain(model, question):
    """The answers, turn by turn, from text that is put together here."""
    said: list[str] = []
    for count in range(1, len(question.turns) + 1):
        turns = question.turns[:count]
        text = "".join(f"USER: {turn} ASSISTANT: {reply}</s>" for turn, reply in zip(turns, said, strict=False))
        system = VLMEVALKIT_LLAVA.split("{%")[0]
        text = f"<s>{system}{text}USER: {turns[-1]} ASSISTANT: "
        pictures = question.pictures[: text.count(IMAGE)]
        ids = model._tokenizer(text.replace(IMAGE, IMAGE * 16), add_special_tokens=False)["input_ids"]
        batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        batch |= model.vision_encoder.pixel_values(pictures)
        found = model.inner.generate(**batch, max_new_tokens=6, do_sample=False)[0, len(ids) :]
        said.append(model._tokenizer.decode(found, skip_special_tokens=True).strip())
    return tuple(said)


@pytest.mark.parametrize("size", [1, 4])
def test_answers_are_those_of_the_plain_call(model, size):
    """Alone and in a batch with a question in the model's own template, which is another answer."""
    found = {each.question_id: each.texts for batch in answer(model, QUESTIONS, batch_size=size) for each in batch}
    assert {name: texts for name, texts in found.items() if name != "own"} == {
        question.id: plain(model, question) for question in QUESTIONS[:3]
    }
    own = model.generation_batch([(QUESTIONS[3].turns, (WIDE,))], TensorCache())
    assert found["own"] == (model.generate(own, 6)[0][0],) != found["one"]


def test_the_length_is_that_of_the_template(model):
    for question in QUESTIONS[:2]:
        texts = (question.turns, question.pictures)
        batch = model.generation_batch([texts], None, [question.template])
        assert batch["input_ids"].shape[1] == model.prompt_length(*texts, question.template)
        assert model.prompt_length(*texts, question.template) != model.prompt_length(*texts)


def test_the_template_is_in_the_answers_key():
    other = dataclasses.replace(QUESTIONS[0], template="")
    assert questions_digest([QUESTIONS[0]]) != questions_digest([other])


def test_a_model_without_the_template_refuses(tmp_path):
    qwen = load_model(write_qwen(tmp_path), CPU, torch.float32)
    assert qwen.prompt_length(("",), ())
    with pytest.raises(UserError, match="no chat template for this protocol") as refused:
        qwen.prompt_length(("",), (), CLASS_OF_LLAVA)
    assert "--protocol vlmevalkit" in refused.value.hint
