"""The protocol "vlmevalkit-llava": text for text and id for id what VLMEvalKit's own class feeds to LLaVA."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.records import IMAGE
from benchmarks.retention import Retention, questions_batch
from benchmarks.retention_specs import CLASS_OF_LLAVA, SPEC_BY_NAME, SPECS
from harness.models.chat_template import VICUNA_V1, VLMEVALKIT_LLAVA, ChatEncoder
from helpers import synthetic
from helpers.paths import PYTHONPATH, TESTS

EIGHT = [spec.name for spec in SPECS if not spec.llava]
NAMES = [spec.name for spec in SPECS]
REPLY = "A cat and a dog."
PICTURE = -200
GREEDY = {
    **{"do_sample": False, "temperature": 0, "top_p": None, "num_beams": 1},
    **{"max_new_tokens": 2048, "use_cache": True},
}
SPECIALS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def llama_tokenizer(folder, scheme):
    """A small one with Llama's marks for spaces: before each piece of text, or before the first alone."""
    tokenizer = Tokenizer(models.BPE())
    if scheme == "each":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    texts = [
        VICUNA_V1,
        VLMEVALKIT_LLAVA,
        REPLY,
        "Which colour has it? Answer with the option's letter directly.",
        "A. red",
    ]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[*SPECIALS.values(), IMAGE])
    tokenizer.train_from_iterator([text for text in texts for _ in range(3)], trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=[IMAGE], **SPECIALS)
    made.save_pretrained(folder)
    return made


def choices(split=""):
    """Hints, an open question, Chinese, options that end early."""
    rows, _ = synthetic._choices(split)
    rows = [row | {"hint": ""} for row in rows]
    rows[2] |= {"hint": "Look at the left side."}
    rows[3] |= {"A": "", "B": "", "C": "", "D": ""} if split else {}
    rows[4] |= {"question": "什么颜色？", "hint": "Look."}
    rows[5] |= {"C": "", "D": "", "question": " Two lines:\n with spaces ", "answer": "B"}
    return rows


def mmmu():
    rows = choices("validation")
    pictures = {"image": repr([synthetic.png(90 + number) for number in range(3)])}
    rows[0] |= {"question": "Compare <image 2> with <image 1> now.", "A": "<image 3>", **pictures}
    rows[1] |= {"question": "No picture is named.", "hint": "Compare <image 1>.", **pictures}
    rows[3] |= {"answer": "seventeen"}
    rows[6] |= {"question": "只有中文", "A": "", "B": "", "C": "", "D": "", "answer": "七"}
    return rows


def mmdu():
    """A picture first, in the middle and last, two in one turn, and a turn without any."""
    turns = ["<ImageHere> What is in it?", "And in <ImageHere>\nand <ImageHere>", "Why?", "Or <ImageHere>, then?"]
    pictures = repr([synthetic.png(50 + number) for number in range(4)])
    return [{"index": 0, "image": pictures, "question": repr(turns), "answer": repr(["x"] * 4)}]


OWN = {"SEEDBench2_Plus": choices, "ScienceQA": choices, "MMMU": mmmu, "MMDU": mmdu}
# VLMEvalKit reads the first four as empty and the last as 7.0; ours reads text.
OTHERWISE = {"None": "owl", "NA": "fox", "none": "owl", "['None']": "owl", "7": "seven"}


@pytest.fixture(scope="module", params=["each", pytest.param("first", marks=pytest.mark.slow)])
def both(request, tmp_path_factory):
    """Our questions and what the class does with the same tables; the encoder over the same tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = llama_tokenizer(folder / "tokenizer", request.param)
    opened, tables = [], {}
    for name in NAMES:
        rows = OWN[name]() if name in OWN else synthetic.TABLES[name]()[0]
        rows = [{key: OTHERWISE.get(value, value) for key, value in row.items()} for row in rows]
        tables[name] = str(synthetic.write(rows, folder / f"{name}.tsv"))
        opened.append(Retention(folder / f"{name}.tsv", folder / "w", SPEC_BY_NAME[name], protocol=CLASS_OF_LLAVA))
    job = {"tokenizer": str(folder / "tokenizer"), "reply": REPLY, "tables": tables}
    (folder / "jobs.json").write_text(json.dumps(job))
    environment = dict(os.environ, PYTHONPATH=PYTHONPATH, HOME=str(folder))
    command = [sys.executable, str(TESTS / "helpers/official_llava.py"), str(folder / "jobs.json")]
    done = subprocess.run([*command, str(folder / "out.json")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    asked = dict(zip(NAMES, questions_batch(opened), strict=True))
    encoder = ChatEncoder(tokenizer, IMAGE, VICUNA_V1, protocols={CLASS_OF_LLAVA: VLMEVALKIT_LLAVA})
    return asked, json.loads((folder / "out.json").read_text()), encoder, request.param


def dialogue(question, turns):
    """The first turns of a question, each but the last with the reply."""
    return [text for turn in question.turns[:turns] for text in (turn, REPLY)][:-1]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_pictures_and_ids_are_those_of_the_class(both, name):
    asked, theirs, encoder, _ = both
    assert {question.id for question in asked[name]} == set(theirs[name])
    for question in asked[name]:
        calls = theirs[name][question.id]
        assert len(calls) == len(question.turns)
        shown = [hashlib.sha256(picture.pixels().tobytes()).hexdigest() for picture in question.pictures]
        for turns, call in enumerate(calls, 1):
            texts = dialogue(question, turns)
            assert call["prompt"] == encoder._render(tuple(texts), VLMEVALKIT_LLAVA)
            markers = sum(text.count(IMAGE) for text in texts)
            assert call["pictures"] == shown[:markers]
            ids = encoder.prompt(texts, [1] * markers, CLASS_OF_LLAVA)
            assert ids == [encoder.image_id if i == PICTURE else i for i in call["ids"]]
            assert encoder._tokenizer.unk_token_id not in ids or name != "MMDU"


@pytest.mark.parametrize("name", EIGHT)
def test_decoding_is_that_of_the_class(both, name):
    asked, theirs, _, _ = both
    options = [call["options"] for calls in theirs[name].values() for call in calls]
    assert [each for each in options if each != GREEDY] == []
    decoding = {(question.max_new_tokens, question.repetition_penalty, question.template) for question in asked[name]}
    assert decoding == {(2048, None, CLASS_OF_LLAVA)}


def test_what_the_class_changes(both):
    """Positive controls, written out."""
    asked = both[0]
    letter = "Answer with the option's letter from the given choices directly."
    by_id = {(name, question.id): question for name in NAMES for question in asked[name]}
    hinted = by_id["SEEDBench2_Plus", "2"].turns
    options = "A. red\nB. green\nC. seven\nD. blue"
    assert hinted == (f" {IMAGE} Look at the left side.\nWhich colour has 2?\n{options}\n{letter}",)
    several = by_id["MMMU", "0"].turns[0]
    assert several.startswith(f" {IMAGE}  {IMAGE}  {IMAGE} Compare <image 2> with <image 1> now.\nA. <image 3>\n")
    assert by_id["MMMU", "3"].turns[0].endswith("\nAnswer the question directly.")
    assert by_id["MMMU", "6"].turns[0].endswith("\n请直接回答问题。")
    assert by_id["OCRVQA", "0"].turns == (f" {IMAGE} Who?\nAnswer the question using a single word or phrase.",)
    assert by_id["MMDU", "0"].turns[1] == f"And in  {IMAGE} \nand  {IMAGE} "


def test_the_text_is_tokenized_as_a_whole_after_one_start_token(both):
    """Positive controls: other ways give other ids."""
    asked, _, encoder, scheme = both
    texts = dialogue(asked["MMDU"][0], 2)
    ids = encoder.prompt(texts, [1] * 3, CLASS_OF_LLAVA)
    with_start = encoder._tokenize("<s>" + encoder._render(tuple(texts), VLMEVALKIT_LLAVA))
    assert (ids == with_start) == (scheme == "each")
    first = encoder.prompt(texts[:1], [1], CLASS_OF_LLAVA)
    assert ids[: len(first)] != first, "the space after ASSISTANT: and the reply are one token"
    assert encoder.prompt(texts, [1] * 3) != ids
    assert encoder.prompt(texts, [3, 1, 1], CLASS_OF_LLAVA).count(encoder.image_id) == 5
