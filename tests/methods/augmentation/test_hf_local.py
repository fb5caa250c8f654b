"""A language model and an entailment model in local folders; tiny random ones stand in."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from benchmarks.errors import UserError
from harness.augment.options import Options
from harness.commands.augment import augment
from helpers import tiny
from helpers.tiny_llama import write_llama
from methods.augmentation.generators.hf_local import LocalChat
from methods.augmentation.grounding import EntailmentChecker

LABELS = {0: "contradiction", 1: "entailment", 2: "neutral"}


def test_a_local_model_says_what_transformers_generates(tmp_path):
    folder = write_llama(tmp_path, LlamaForCausalLM)
    chat = LocalChat(folder)
    said = chat.complete([{"role": "user", "content": "Which flag?"}], {}, 12)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer("<s><|user|>Which flag?<|assistant|>", return_tensors="pt", add_special_tokens=False)["input_ids"]
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[
        0, ids.shape[1] :
    ]
    assert said.text == tokenizer.decode(made, skip_special_tokens=True)
    assert said.prompt_tokens == ids.shape[1]
    assert said.completion_tokens == len(made)
    assert chat.complete([{"role": "user", "content": "flag " * 900}], {}, 12).prompt_tokens <= 256
    assert chat.identity == LocalChat(folder).identity
    weights = tmp_path / "generation_config.json"
    weights.write_text(json.dumps({**json.loads(weights.read_text()), "note": 1}))
    assert chat.identity != LocalChat(folder).identity


def test_what_a_model_babbles_is_refused_and_reported(tmp_path):
    model = write_llama(tmp_path / "model", LlamaForCausalLM)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.png").write_bytes(tiny.picture(0).encoded)
    (mine / "items.jsonl").write_text(json.dumps({"image": "a.png", "name": "A", "text": "A is a flag of Ghana."}))
    options = Options(mine, tmp_path / "out", generator=f"local:{model}", workers=2)
    report = augment(options).report
    assert set(report["branches"]) == {"recognition"}
    assert [fault["branch"] for fault in report["faults"]] == ["dialogue", "caption", "vqa"]
    assert report["made_by"]["generator"] == "local:model"
    again = augment(options)
    assert again.budget.calls == 0
    assert again.report == report


@pytest.mark.parametrize(("favoured", "verdict"), [("entailment", True), ("neutral", False)])
def test_an_entailment_model_tells_support(tmp_path, favoured, verdict):
    folder = write_llama(tmp_path, LlamaForSequenceClassification, id2label=LABELS, num_labels=3)
    judge = EntailmentChecker(folder)
    weights = judge._model.score.weight
    item = tiny.knowledge(1)[0]
    with torch.no_grad():  # a random body, and a head that favours one label whatever it reads
        hidden = judge._model.model(**judge._tokenizer(f"{item.name}. {item.text}", "x", return_tensors="pt"))
        direction = hidden.last_hidden_state[0, -1]
        weights.zero_()
        weights[{label: number for number, label in LABELS.items()}[favoured]] = 100 * direction
    assert judge.supported(item, ["x"]) == [verdict]
    assert len(judge.supported(item, ["x", "y z"])) == 2


def test_a_model_without_an_entailment_label_is_refused(tmp_path):
    folder = write_llama(tmp_path, LlamaForSequenceClassification, id2label={0: "good", 1: "bad"}, num_labels=2)
    with pytest.raises(UserError, match="none of its labels is called entailment: good, bad"):
        EntailmentChecker(folder)
