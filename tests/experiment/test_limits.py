"""What is too long for the model, or of a shape that its processor refuses, is found before anything is computed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.data.json_rows import MAX_LISTED
from benchmarks.errors import UserError
from benchmarks.records import Conversation, Question, Turn
from harness.commands.compare import compare
from harness.commands.plan import plan
from harness.config.schema import PictureSettings
from harness.config.settings import Request, resolve
from harness.data.inputs import BenchmarkTask
from harness.experiment import limits
from harness.experiment.context import build_context
from harness.experiment.finite_logits import only_finite_logits
from harness.experiment.stages import Stage
from harness.models import registry
from harness.models.batched_generation import answer
from harness.models.llava import LlavaModel
from helpers import tiny
from helpers.pool_files import write_pool
from helpers.published_models import write_qwen
from helpers.small_runs import write_preset

CPU = torch.device("cpu")
WINDOW = 512


@pytest.fixture
def preset(tmp_path, tiny_folder):
    return write_preset(tmp_path / "bench", tiny_folder)


def lengthen(folder, questions=(), items=()):
    """Put 600 words before some questions, and into some items."""
    (asked,) = folder.glob("*.jsonl")
    rows = [json.loads(line) for line in asked.read_text("utf-8").splitlines()]
    for number in questions:
        rows[number]["text"] = "blue " * 600 + rows[number]["text"]
    asked.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (injected,) = folder.glob("*injection*.json")
    taught = json.loads(injected.read_text("utf-8"))
    for number in items:
        taught[number]["conversations"][1]["value"] += " blue" * 600
    injected.write_text(json.dumps(taught), "utf-8")


def request(preset, out, *assignments):
    return Request(("lora",), resolve(str(preset), assignments), out)


def test_all_that_is_too_long_is_named_before_any_work(preset, tmp_path):
    lengthen(tmp_path / "bench" / "data", questions=(1, 4), items=(2,))
    with pytest.raises(UserError, match=f"3 texts are longer than the model's window of {WINDOW} tokens") as caught:
        compare(request(preset, tmp_path / "run"))
    text = str(caught.value)
    for place in ("mini-EVOKE, question 1: ", "mini-EVOKE, question 4: ", "lora seed 0, conversation "):
        assert place in text
    assert "answering.allow_long=true and training.allow_long=true" in caught.value.hint
    assert not list((tmp_path / "run" / "store").glob("training/*"))
    (line,) = plan(request(preset, tmp_path / "run")).limits
    assert "mini-EVOKE, question 4: " in line


def test_rows_whose_training_data_cannot_be_made_are_named_before_any_work(preset, tmp_path):
    pool = write_pool(tmp_path, {"old": 20})

    def both(ratio):
        resolved = resolve(str(preset), [f"data.replay={pool}", f"replay.ratio={ratio}"])
        return Request(("lora", "replay"), resolved, tmp_path / "run")

    limits.check_limits(build_context(both(1)))  # control: 8 of 18 samples
    with pytest.raises(UserError, match="the training data of 1 rows cannot be made") as caught:
        compare(both(3))
    problem = "data.replay: 24 different samples are needed for replay, but the replay pool has only 18 left"
    assert f"replay seed 0: {problem}" in str(caught.value)
    assert not list((tmp_path / "run" / "store").glob("training/*"))
    with pytest.raises(UserError, match=problem):
        plan(both(3))


def test_what_fits_is_not_refused_and_counted_once(preset, tmp_path, monkeypatch):
    limits.check_limits(build_context(request(preset, tmp_path / "run")))
    monkeypatch.setattr(registry, "describe_model", None)  # a second count would call it
    context = build_context(request(preset, tmp_path / "run"))
    limits.check_limits(context)
    assert limits.limit_notes(context) == ()


def test_another_division_into_stages_is_counted_again(preset, tmp_path, monkeypatch):
    context = build_context(request(preset, tmp_path / "run"))
    items = context.inputs.knowledge

    def conversations(first):
        parts = (items[:first], items[first:])
        stages = lambda context, cell: [Stage(cell, part, number, 2) for number, part in enumerate(parts, 1)]  # noqa: E731
        monkeypatch.setattr(limits, "list_stages", stages)
        return [each.total for each in limits.count_limits(context) if each.unit == "conversation"]

    assert [conversations(2), conversations(6)] == [[2, 6], [6, 2]]


def test_what_the_settings_allow_is_counted_in_the_notes(preset, tmp_path):
    lengthen(tmp_path / "bench" / "data", questions=(1, 4), items=(2,))
    allowed = ("answering.allow_long=true", "training.allow_long=true")
    context = build_context(request(preset, tmp_path / "run", *allowed))
    limits.check_limits(context)
    asked, trained = limits.limit_notes(context)
    assert asked.startswith("mini-EVOKE: 2 of 8 questions are longer than the model's window of 512 tokens")
    assert trained.startswith("lora seed 0: 1 of 8 conversations are longer")
    with pytest.raises(UserError, match="1 texts"):
        limits.check_limits(build_context(request(preset, tmp_path / "run", allowed[0])))


def test_a_prompt_leaves_room_for_one_token(tiny_model, monkeypatch):
    """A window of one token more than the prompt is enough, whatever the limit of new tokens; the prompt's is not."""
    question = dataclasses.replace(tiny.question(1), max_new_tokens=2048)
    tokens = tiny_model.prompt_length(question.turns, question.pictures)
    monkeypatch.setattr("harness.models.context_window.context_window", lambda model: tokens + 1)
    assert not limits.long_questions(tiny_model, [question])
    monkeypatch.setattr("harness.models.context_window.context_window", lambda model: tokens)
    (found,) = limits.long_questions(tiny_model, [question])
    assert found.tokens == tokens


class CountingModel:
    """A model with a window of 10 tokens, which are the letters of all turns."""

    window = 10

    def prompt_length(self, texts, pictures, template=None):
        return sum(map(len, texts))

    def pictures_as(self, options):
        return contextlib.nullcontext()


UNITS = ("question", "conversation")
LENGTHS = st.lists(st.one_of(st.sampled_from([9, 10, 11]), st.integers(2, 40)), max_size=15)


def counted_context(asked, taught, allowed):
    """A run with questions and training rows of these lengths, in two turns each."""
    texts = [[("x" * (length - 1), "y") for length in lengths] for lengths in (asked, taught)]
    questions = tuple(Question(f"q{n}", "POPE", turns, (), "") for n, turns in enumerate(texts[0]))
    samples = [
        Conversation(f"c{n}", (Turn("user", turns[0]), Turn("assistant", turns[1]))) for n, turns in enumerate(texts[1])
    ]
    method = SimpleNamespace(trains=True, training_data=lambda knowledge, resources: samples)
    cell = SimpleNamespace(has_adapter=True, scale=None, make=lambda: method, training_key=lambda inputs: {})
    entries = {}
    return SimpleNamespace(
        inputs=SimpleNamespace(tasks=[BenchmarkTask(SimpleNamespace(name="POPE"), "", questions)]),
        cells=[cell],
        cache_inputs=SimpleNamespace(base="base"),
        store=SimpleNamespace(
            read_json=lambda kind, key: entries.get(str(key)),
            write_json=lambda kind, key, value: entries.update({str(key): value}),
        ),
        settings=SimpleNamespace(
            pictures=PictureSettings(),
            model="model",
            answering=SimpleNamespace(allow_long=allowed[0]),
            training=SimpleNamespace(allow_long=allowed[1]),
        ),
    )


def test_a_text_is_refused_exactly_if_it_is_beyond_the_window(monkeypatch):
    """A prompt needs one token of the window for its answer; a training row may fill it."""
    stage = lambda cell: SimpleNamespace(cell=cell, title="lora", knowledge=(), number=1, count=1)  # noqa: E731
    monkeypatch.setattr(limits, "list_stages", lambda context, cell: [stage(cell)])
    monkeypatch.setattr(limits, "core_digest", lambda file: "")
    monkeypatch.setattr(limits, "make_resources", lambda context, stage: None)
    monkeypatch.setattr(registry, "describe_model", lambda folder, options: CountingModel())
    monkeypatch.setattr("harness.models.context_window.context_window", lambda model: model.window)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(LENGTHS, LENGTHS, st.tuples(st.booleans(), st.booleans()))
    def test(asked, taught, allowed):
        context = counted_context(asked, taught, allowed)
        long = [
            [f"POPE, question q{n}: {length} tokens" for n, length in enumerate(asked) if length >= 10],
            [f"lora, conversation c{n}: {length} tokens" for n, length in enumerate(taught) if length > 10],
        ]
        refused = [line for lines, allow in zip(long, allowed, strict=True) if not allow for line in lines]
        for _ in range(2):  # counted, and from the store
            message = ""
            try:
                limits.check_limits(context)
            except UserError as error:
                message = error.message
            assert bool(message) == bool(refused)
            if refused:
                assert message.startswith(f"{len(refused):,} texts are longer than the model's window of 10 tokens:")
                more = [f"and {len(refused) - MAX_LISTED} more"] if len(refused) > MAX_LISTED else []
                assert message.splitlines()[1:] == [f"  {line}" for line in [*refused[:MAX_LISTED], *more]]
            notes = limits.limit_notes(context) if any(allowed) else ()
            allowed_long = [
                f"{len(lines)} of {len(lengths)} {unit}s are longer .* with {max(lengths)} tokens"
                for lines, lengths, allow, unit in zip(long, (asked, taught), allowed, UNITS, strict=True)
                if lines and allow
            ]
            if not refused:
                assert len(notes) == len(allowed_long)
            for pattern in allowed_long:
                assert any(re.search(pattern, note) for note in notes)

    test()


def test_a_picture_that_the_processor_refuses_is_named_with_its_row_and_file(tmp_path):
    preset = write_preset(tmp_path / "bench", write_qwen(tmp_path / "model"))
    data = tmp_path / "bench" / "data"
    for name in ("3.png", "5-other.png"):
        Image.new("RGB", (4000, 10)).save(data / name)
    with pytest.raises(UserError, match="refuses 2 pictures") as caught:
        limits.check_limits(build_context(request(preset, tmp_path / "run")))
    assert f"mini-EVOKE, question 5: {data / '5-other.png'}: " in str(caught.value)
    assert "lora seed 0, conversation " in str(caught.value)
    assert f"{data / '3.png'}: " in str(caught.value)
    for name in ("3.png", "5-other.png"):
        Image.new("RGB", (200, 10 + len(name))).save(data / name)
    limits.check_limits(build_context(request(preset, tmp_path / "run")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_base_with_a_weight_that_is_not_finite_is_refused_by_name(tiny_folder, tmp_path, value):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.0.mlp.up_proj.weight"))
    tensors[name][1, 2] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights hold NaN .*layers\.0\.mlp\.up_proj\.weight") as caught:
        LlavaModel.load(folder, CPU, torch.float32)
    assert caught.value.location == str(folder)


def test_logits_that_are_not_finite_are_an_error_of_their_own_answer(tiny_model):
    questions = [tiny.question(number, pictures=0) for number in range(4)]
    good = {each.question_id: each for batch in answer(tiny_model, questions, batch_size=4) for each in batch}
    bad = questions[2]
    others = {token for each in questions if each is not bad for token in prompt_ids(tiny_model, each)}
    own = next(token for token in prompt_ids(tiny_model, bad) if token not in others)
    embeddings = tiny_model.inner.get_input_embeddings()
    embeddings.register_forward_hook(lambda _, ids, out: out.masked_fill((ids[0] == own)[..., None], float("nan")))
    with only_finite_logits(tiny_model):
        found = {each.question_id: each for batch in answer(tiny_model, questions, batch_size=4) for each in batch}
    assert "not finite" in found[bad.id].error
    assert not [each.error for name, each in found.items() if name != bad.id and each.error]
    assert all(found[each.id].texts == good[each.id].texts for each in questions if each is not bad)
    assert not tiny_model.inner.lm_head._forward_hooks


def prompt_ids(model, question):
    return model.generation_batch([(question.turns, ())])["input_ids"][0].tolist()


@pytest.mark.slow
def test_the_record_and_verify_agree_on_what_was_allowed(preset, tmp_path, short_answers):
    from harness.commands.verify import verify

    lengthen(tmp_path / "bench" / "data", questions=(1,))
    result = compare(request(preset, tmp_path / "run", "answering.allow_long=true", "limit=3"))
    assert [note for note in result.run.notes if "1 of 3 questions are longer" in note]
    assert not verify(tmp_path / "run").differences
