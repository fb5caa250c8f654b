"""The second miniature before training: the first one's decoder with another vision tower."""

from __future__ import annotations

import pytest
import torch

from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from benchmarks.records import IMAGE, Conversation, Turn
from harness.miniature.batches import InstructionEncoder, collate, pixel_values
from harness.miniature.qwen import load_architecture, new_architecture, new_image_processor, to_patches
from harness.models.registry import load_model
from helpers.tiny import conversation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The architecture, and the model loaded from its folder."""
    torch.manual_seed(0)
    architecture, folder = new_architecture(DATA / "model"), tmp_path_factory.mktemp("second")
    architecture.save(folder)
    architecture.model.float()
    return architecture, load_model(folder, CPU, torch.float32)


def test_its_decoder_is_that_of_the_first(made):
    """For text it gives the first one's logits, up to half precision and the embeddings of new tokens."""
    first = load_model(DATA / "model", CPU, torch.float32)
    sample = Conversation("text", (Turn("user", "What is the capital of Ghana?"), Turn("assistant", "Accra")))
    logits, targets = made[1].supervised(made[1].training_batch([sample]))
    expected, wanted = first.supervised(first.training_batch([sample]))
    torch.testing.assert_close(logits[:, : expected.shape[1]], expected, rtol=1e-2, atol=1e-2)
    assert torch.equal(targets, wanted)


def test_samples_are_encoded_like_conversations(made):
    architecture, model = made
    lessons = Lessons(load_world(), 3)
    encoder = InstructionEncoder(architecture.tokenizer, lessons.label_names(), architecture.chat_format)
    shown = 0
    for index in range(12):
        sample = lessons.sample(index, 1.0)
        expected = model.training_batch([sample.conversation("one")])
        batch = collate([encoder.encode(sample)], encoder.pad)
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["weights"] > 0, expected["labels"] != -100)
        assert torch.equal(architecture.position_ids(batch), expected["position_ids"])
        if "pixel_values" in batch:
            shown += 1
            assert torch.allclose(to_patches(batch["pixel_values"]), expected["pixel_values"], atol=1e-6)
            features = architecture.image_features(batch["pixel_values"]).flatten(0, 1)
            torch.testing.assert_close(
                features, model.vision_encoder.features(model.module, expected), rtol=2e-2, atol=2e-2
            )
    assert shown > 3


def test_a_miniature_picture_is_sixteen_tokens(made):
    assert made[1].vision_encoder.tokens(conversation(1).pictures[0]) == 16
    assert made[1].encode(conversation(1))[0].count(made[1]._chat_encoder.image_id) == 16
    pixels = torch.rand(2, 3, 64, 64)
    assert to_patches(pixels).shape == (2 * 64, 3 * 2 * 8 * 8)


def test_patches_have_the_processors_layout():
    lessons = Lessons(load_world(), 5)
    shown = [lessons.labelled_picture(index)[0] for index in range(3)]
    expected = new_image_processor()(shown, return_tensors="pt")["pixel_values"]
    assert torch.allclose(to_patches(pixel_values(shown)), expected, atol=1e-6)


def test_control_tokens_surround_each_picture(made):
    texts = [f"{IMAGE}\n{IMAGE}\nWhich is a flag?"]
    ids = [i for part in made[1]._chat_encoder.segments(texts, [2, 1]) for i in part]
    assert made[1]._tokenizer.decode(ids).replace(" ", "") == (
        "<|im_start|><|user|><|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
        "<|vision_start|><|image_pad|><|vision_end|>Whichisaflag?<|assistant|>"
    )


def test_a_saved_one_is_loaded_as_it_was(made, tmp_path):
    """So stage 4 can start from the folder of stage 3: same tokens, features and decoder, and the same files again."""
    architecture, _ = made
    architecture.save(tmp_path / "one")
    architecture.model.float()
    again = load_architecture(tmp_path / "one")
    pixels = torch.rand(2, 3, 64, 64) * 2 - 1
    for (name, one), (other_name, other) in zip(
        architecture.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other), name
    # Saving rounds the frequencies of positions, which are no parameters, in the model that stays.
    torch.testing.assert_close(again.image_features(pixels), architecture.image_features(pixels), rtol=1e-2, atol=1e-2)
    assert again.tokenizer.get_vocab() == architecture.tokenizer.get_vocab()
    assert again.teacher_features(pixels) is None
    assert architecture.teacher_features(pixels) is not None
    again.save(tmp_path / "two")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


@pytest.mark.slow
def test_all_three_stages_run(tmp_path):
    from harness.miniature.pretrain import PretrainingPlan, pretrain

    plan = PretrainingPlan(look_steps=1, look_batch=4, lesson_steps=1, lesson_batch=4, drill_steps=1, drill_batch=4)
    folder = pretrain(tmp_path, "qwen", plan)
    assert load_model(folder, CPU, torch.float32).architecture == "Qwen2_5_VLForConditionalGeneration"
