"""Every architecture through our code against the plain Hugging Face call: ids, logits, texts, targets, adapters."""

from __future__ import annotations

import pytest
import torch

from benchmarks.records import IMAGE, Conversation, Turn
from harness.models.registry import load_model
from helpers.plain_call import PlainCall
from helpers.published_models import SMALL, TALL, WIDE
from helpers.tiny_architectures import ARCHITECTURES, write

CPU = torch.device("cpu")
NEW = 6
FAST = ("qwen3-vl",)
"""The others are tested with the slow tests."""
SAMPLES = {
    "one picture": ((f"{IMAGE}\nWhat is shown?", "A flag of Chad."), (WIDE,)),
    "several pictures": ((f"{IMAGE}\n{IMAGE}\n{IMAGE}\nAre they alike?", "No."), (TALL, SMALL, WIDE)),
    "no picture": (("Describe the flag.", "Blue, yellow and red."), ()),
    "several turns": (
        (f"{IMAGE}\nIs this a cat?", "No.", "And how many dogs are there?", "3", "Why?", "The picture."),
        (TALL,),
    ),
    "a picture in a later turn": (("A cat?", "Yes.", f"{IMAGE}\nAnd this?", "A flag."), (SMALL,)),
}
WITHOUT_DIALOGUES = ("paligemma",)
"""It has no chat template: one question about at least one picture."""
ENDS_NO_ANSWER = {"llava-next": "</s>"}
"""Its template ends no answer, so this is learned after each."""
LINEAR_LAYERS = {"qwen3.5": 3 * 8 + 7}
"""In three of its layers, eight: five of linear attention, three of the MLP. All others have twice seven."""


def names_for(architecture: str) -> list[str]:
    return ["one picture", "several pictures"] if architecture in WITHOUT_DIALOGUES else list(SAMPLES)


def prompts_for(architecture: str) -> list[tuple[tuple[str, ...], tuple]]:
    dialogues = []
    for texts, pictures in (SAMPLES[name] for name in names_for(architecture)):
        for turns in range(1, len(texts), 2):
            shown = sum(text.count(IMAGE) for text in texts[:turns])
            dialogues.append((texts[:turns], pictures[:shown]))
    return dialogues


def sample(name: str) -> Conversation:
    texts, pictures = SAMPLES[name]
    turns = [Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]
    return Conversation(name, tuple(turns), pictures)


class Both:
    """One checkpoint, opened by us and by the plain call."""

    def __init__(self, name: str, folder) -> None:
        self.name, self.folder = name, write(name, folder)
        self.plain = PlainCall(self.folder)
        self.ours = load_model(self.folder, CPU, torch.float32)
        self.samples = [sample(each) for each in names_for(name)]

    def dialogue(self, name: str):
        texts, pictures = SAMPLES[name]
        end = ENDS_NO_ANSWER.get(self.name, "")
        return [text + end * (place % 2) for place, text in enumerate(texts)], pictures

    def batch(self):
        return self.ours.training_batch(self.samples)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in ARCHITECTURES],
)
def both(request, tmp_path_factory):
    return Both(request.param, tmp_path_factory.mktemp(request.param))


def test_ids_and_logits_are_those_of_the_plain_call(both):
    for each in both.samples:
        batch = both.ours.training_batch([each])
        inputs = both.plain.inputs(both.dialogue(each.id))
        assert torch.equal(batch["input_ids"], inputs["input_ids"]), each.id
        logits, targets = both.ours.supervised(batch)
        expected, supervised = both.plain.logits(both.dialogue(each.id)), batch["labels"][0] != -100
        torch.testing.assert_close(logits, expected[:-1][supervised[1:]], rtol=1e-4, atol=1e-4)
        assert torch.equal(targets, inputs["input_ids"][0][supervised])


def test_answers_are_those_of_the_plain_call_alone_and_in_a_padded_batch(both):
    prompts = prompts_for(both.name)
    expected = [both.plain.answer(each, NEW) for each in prompts]
    assert len(set(expected)) > len(expected) // 2, "positive control"
    ours = both.ours
    assert [ours.generate(ours.generation_batch([each]), NEW)[0][0] for each in prompts] == expected
    together = ours.generate(ours.generation_batch(prompts), NEW)
    assert [text for text, _, _ in together] == expected
    limits = [1 + place % NEW for place in range(len(prompts))]
    for limit, (_, new, cut), (_, all_new, _) in zip(
        limits, ours.generate(ours.generation_batch(prompts), limits), together, strict=True
    ):
        assert new <= limit
        assert cut or new < limit or all_new == new


def test_a_padded_batch_has_the_logits_of_single_samples(both):
    alone = [both.ours.supervised(both.ours.training_batch([each]))[0] for each in both.samples]
    together, _ = both.ours.supervised(both.batch())
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_only_answers_are_supervised_each_with_its_end(both):
    tokenizer = both.plain.processor.tokenizer
    ends = [both.ours.inner.generation_config.eos_token_id, tokenizer.eos_token_id]
    ends = {each for end in ends for each in (end if isinstance(end, list) else [end])}
    rows = iter(both.batch()["labels"])
    for each in both.samples:
        labels = next(rows)
        parts: list[list[int]] = [[]]
        for token in labels[labels != -100].tolist():
            if token in ends:
                parts.append([])
            else:
                parts[-1].append(token)
        assert [tokenizer.decode(part).strip() for part in parts] == [*SAMPLES[each.id][0][1::2], ""]


def test_targets_are_all_linear_layers_of_the_decoder_and_the_projector_is_found(both):
    from methods.components.lora_layers import target_layers

    layers = target_layers(both.ours)
    assert len(layers) == LINEAR_LAYERS.get(both.name, 2 * 7)
    inside = dict(both.ours.decoder.named_modules())
    linears = [part for name, part in inside.items() if "layers." in name and isinstance(part, torch.nn.Linear)]
    assert {id(layer) for layer in layers.values()} == {id(part) for part in linears}
    assert [name for name, _ in both.ours.module.named_modules() if name.split(".")[-1] == both.ours.projector]


def test_another_picture_gives_other_logits(both):
    texts, _ = SAMPLES["one picture"]
    turns = (Turn("user", texts[0]), Turn("assistant", texts[1]))
    one, other = (
        both.ours.supervised(both.ours.training_batch([Conversation("x", turns, (picture,))]))[0]
        for picture in (WIDE, TALL)
    )
    assert (one - other).abs().max() > 0.02


def test_an_adapter_changes_the_logits_and_leaves_no_trace(both):
    from methods.components.lora_layers import attach_lora, detach_adapter, lora_ab, lora_layers
    from methods.lora import LoRA

    fingerprint = both.ours.fingerprint()
    before, _ = both.ours.supervised(both.batch())
    attach_lora(both.ours, LoRA.Settings(rank=4, alpha=8, dropout=0.0, projector_learning_rate=1e-3))
    try:
        assert not both.ours.vision_is_trained
        for _, layer in lora_layers(both.ours.module):
            torch.nn.init.normal_(lora_ab(layer)[1], std=0.5)
        logits, _ = both.ours.supervised(both.batch())
        assert not torch.allclose(logits, before, atol=1e-2)
        logits.logsumexp(-1).sum().backward()
        trained = {name: each.grad for name, each in both.ours.module.named_parameters() if each.requires_grad}
        assert all(grad is not None and grad.any() for grad in trained.values()), "every weight that is trained"
        assert any(both.ours.projector in name for name in trained)
    finally:
        detach_adapter(both.ours)
    assert both.ours.fingerprint() == fingerprint
    torch.testing.assert_close(both.ours.supervised(both.batch())[0], before)


def test_half_precision_weights_run_in_half_precision(both):
    half = load_model(both.folder, CPU, torch.bfloat16)
    logits, targets = half.supervised(half.training_batch(both.samples))
    assert logits.dtype == torch.float32
    assert torch.isfinite(torch.nn.functional.cross_entropy(logits, targets))
    prompts = prompts_for(both.name)
    assert len(half.generate(half.generation_batch(prompts), 2)) == len(prompts)
