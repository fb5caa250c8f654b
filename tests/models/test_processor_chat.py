"""Where the answers are in the text of a chat template, whatever the template does around them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from harness.models.answer_tokens import ImagesOnce, first_tokens
from harness.models.processor_chat import ProcessorChat
from helpers.architectures.templates import GEMMA3, MISTRAL3, ONEVISION, QWEN3_5, QWEN3_VL, VICUNA
from helpers.published_models import train_tokenizer

TURNS = (f"{IMAGE}\nIs No. 3 a cat?", "No.", "No. 3?", " No. 3 is a flag. ")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    tokens = ("<pad>", "<bos>", "</s>", "<|im_start|>", "<|im_end|>", "<image>", "[IMG]")
    return train_tokenizer(tokens, eos="</s>", pad="<pad>", bos="<bos>")


def chat(tokenizer, template, picture="<image>", stops=("</s>", "<|im_end|>"), **options):
    processor = SimpleNamespace(tokenizer=tokenizer, chat_template=template, image_token=picture)
    return ProcessorChat(processor, tokenizer.convert_tokens_to_ids(list(stops)), **options)


@pytest.mark.parametrize(
    ("template", "picture", "end"),
    [
        (QWEN3_VL, "<|image_pad|>", ""),
        (QWEN3_5, "<|image_pad|>", ""),
        (GEMMA3, "<start_of_image>", "</s>"),
        (ONEVISION, "<image>", ""),
        (VICUNA, "<image>", "</s>"),
        (MISTRAL3, "[IMG]", ""),
    ],
    ids=["qwen3-vl", "thinking and trimmed", "trimmed", "another start", "without an end", "date"],
)
def test_answers_are_found_where_the_template_writes_them(tokenizer, template, picture, end):
    made = chat(tokenizer, template, picture)
    text, spans = made.dialogue(TURNS)
    assert [text[start:stop].strip() for start, stop in spans] == [turn.strip() for turn in TURNS[1::2]]
    assert spans[0][0] > text.index("a cat?"), "not in the question, which has the same words"
    assert made.added_end == end
    assert all(re.match(r"\s*(</s>|<\|im_end\|>)", text[stop:]) for _, stop in spans)


def test_the_prompt_is_the_template_s_own_without_an_added_end(tokenizer):
    made = chat(tokenizer, VICUNA)
    assert made.prompt(TURNS[:3]) == "USER: <image>\nIs No. 3 a cat? ASSISTANT: No. USER: No. 3? ASSISTANT:"


def test_a_date_is_always_the_same(tokenizer):
    assert "The current date is 2025-01-01." in chat(tokenizer, MISTRAL3, "[IMG]").prompt(("Hi?",))


def test_control_tokens_in_texts_are_dropped(tokenizer):
    made = chat(tokenizer, QWEN3_VL, "<|image_pad|>")
    dirty = (f"a<|im_end|> b{IMAGE}<|image_pad|>", f"c</s> {IMAGE}d")
    clean = (f"a b{IMAGE}", "c d")
    assert made.dialogue(dirty) == made.dialogue(clean)
    assert made.prompt(dirty[:1]).count("<|image_pad|>") == 1


def test_the_line_break_after_a_picture_is_kept_on_request(tokenizer):
    with_break = chat(tokenizer, QWEN3_VL, "<|image_pad|>", line_break=True)
    assert "<|vision_end|>\nIs No." in with_break.prompt(TURNS[:1])
    assert "<|vision_end|>Is No." in chat(tokenizer, QWEN3_VL, "<|image_pad|>").prompt(TURNS[:1])


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, "chat template is missing"),
        (
            "{% for m in messages %}{% for p in m.content %}{{ p.text if p.text else '' }}{% endfor %}</s>{% endfor %}",
            "no picture",
        ),
        (
            "{% for m in messages %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else '' }}"
            "{{ (p.text|upper if m.role == 'assistant' else p.text) if p.text else '' }}{% endfor %}</s>{% endfor %}",
            "changes the assistant's answers",
        ),
        (
            "{% for m in messages %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else '' }}"
            "{{ p.text if p.text and m.role == 'user' else '' }}{% endfor %}</s>{% endfor %}",
            "changes the assistant's answers",
        ),
    ],
    ids=["none", "no picture", "upper case", "answers left out"],
)
def test_a_template_that_cannot_be_used_is_refused(tokenizer, template, problem):
    with pytest.raises(UserError, match=problem):
        chat(tokenizer, template)


def test_the_first_token_of_an_answer_may_begin_before_it():
    def encode(text):  # a word with the space before it is one token; a picture is three
        words = re.findall(r" ?[^ ]+", text.replace("<image>", " P P P"))
        return [hash(word) for word in words]

    text = "<image> Q: a? A: one two. Q: b? A: one."
    spans = [(text.index("one"), text.index(" Q: b")), (text.rindex("one"), len(text))]
    assert first_tokens(text, spans, encode(text), encode) == [6, 11]


def test_pictures_are_prepared_once():
    calls = []

    def prepare(images, **options):
        calls.append(options)
        return SimpleNamespace(data={"pixel_values": [1]})

    images = ImagesOnce(prepare)
    first = images(["a"], size=1)
    first.data.pop("pixel_values")
    assert images(["a"], size=1).data == {"pixel_values": [1]}, "the caller may change what it got"
    images(["a"], size=2)
    assert calls == [{"size": 1}, {"size": 2}]
