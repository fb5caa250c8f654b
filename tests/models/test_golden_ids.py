"""Our prompts have exactly the token ids that the published models get, by the real tokenizers.

``tools/golden_tokens.py`` wrote the files: ids of prompts that are written out there, by the whole tokenizer; and the
part of the tokenizer that is needed for them. Here our encoders make the same dialogues with that part.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from harness.models.chat_template import VICUNA_V1, ChatEncoder, llava_template
from harness.models.llava import LlavaModel
from harness.models.processor_chat import ProcessorChat
from helpers.architectures.templates import QWEN3_VL
from helpers.published_models import CHATML, PARTS

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("llava-1.5", "qwen2.5-vl", "qwen3-vl")
CASES = [
    (name, number)
    for name in NAMES
    for number in range(len(json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))["prompts"]))
]
# From elsewhere, each the beginning of a published prompt's ids, or a part of them.
SYSTEM = [
    319,
    13563,
    1546,
    263,
    12758,
    1404,
    322,
    385,
    23116,
    21082,
    20255,
    29889,
    450,
    20255,
    4076,
    8444,
    29892,
    13173,
]
SYSTEM += [29892, 322, 1248, 568, 6089, 304, 278, 1404, 29915, 29879, 5155, 29889, 3148, 1001, 29901]
ANSWER = [2688, 29915, 276, 476, 1662, 322, 402, 2267, 29920, 1335, 515, 19584, 13564, 436, 29889, 2]
NEXT = [3148, 1001, 29901, 1724, 526, 896, 2599, 29973, 319, 1799, 9047, 13566, 29901]
CHAT = [151644, 872, 198, 151652, 151655]
ELSEWHERE = {
    # LLaVA's tokenizer_image_token, in comments of programs built on it: a space before the picture and one after it.
    ("llava-1.5", 0): [[1, *SYSTEM, 29871, 32000, 29871, 13]],
    # LLaMA-Factory prints the ids of the first sample of its mllm_demo.json: the same two turns.
    ("llava-1.5", 4): [[*ANSWER, *NEXT]],
    # expected_input_ids in transformers' own tests of Qwen2_5_VLForConditionalGeneration and Qwen3VLMoe...
    ("qwen2.5-vl", 0): [
        [151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198, 151652, 151655]
    ],
    ("qwen3-vl", 0): [CHAT],
}


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def real_tokenizer(name):
    tokenizer = Tokenizer.from_str(json.dumps(golden(name)["tokenizer"]))
    named = {"llava-1.5": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": PARTS}}
    chat = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named.get(name, chat))


def our_ids(name, prompt, tokenizer):
    """By the encoder of the model's family."""
    texts, pictures = prompt["texts"], sum(text.count("<image>") for text in prompt["texts"])
    if name == "llava-1.5":
        template = llava_template(tokenizer)
        assert template == VICUNA_V1, "the published folder's own template leaves parts out"
        encoder = ChatEncoder(tokenizer, "<image>", template, protocols=LlavaModel.protocols)
        return encoder.prompt(texts, [1] * pictures, prompt["template"])
    if name == "qwen2.5-vl":
        encoder = ChatEncoder(tokenizer, "<|image_pad|>", tokenizer.chat_template, parts=True)
        return encoder.prompt(texts, [1] * pictures)
    processor = SimpleNamespace(tokenizer=tokenizer, image_token="<|image_pad|>", chat_template=QWEN3_VL)  # noqa: S106
    chat = ProcessorChat(processor, [tokenizer.eos_token_id])
    return tokenizer(chat.prompt(texts), add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_ids_are_those_of_the_published_prompt(name, number):
    prompt = golden(name)["prompts"][number]
    assert our_ids(name, prompt, real_tokenizer(name)) == prompt["ids"]


@pytest.mark.parametrize(("name", "number"), ELSEWHERE)
def test_the_golden_ids_are_those_that_others_print(name, number):
    ids = golden(name)["prompts"][number]["ids"]
    for part in ELSEWHERE[name, number]:
        assert any(ids[start : start + len(part)] == part for start in range(len(ids)))
        assert ids[: len(part)] == part or number == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_part_of_the_tokenizer_can_show_a_difference(name):
    """Positive control: with one character changed, no prompt has its golden ids."""
    tokenizer = real_tokenizer(name)
    for prompt in golden(name)["prompts"]:
        other = {**prompt, "texts": [*prompt["texts"][:-1], prompt["texts"][-1].replace("?", "!").replace("is", "si")]}
        assert our_ids(name, other, tokenizer) != prompt["ids"]
    assert golden(name)["licence"]
    assert "sha256" in golden(name)["source"]


def test_each_picture_takes_as_many_tokens_as_it_has():
    tokenizer, prompt = real_tokenizer("llava-1.5"), golden("llava-1.5")["prompts"][0]
    encoder = ChatEncoder(tokenizer, "<image>", VICUNA_V1)
    wide = encoder.prompt(prompt["texts"], [576])
    place = prompt["ids"].index(32000)
    assert wide == [*prompt["ids"][:place], *[32000] * 576, *prompt["ids"][place + 1 :]]
