"""How pictures are prepared, and the target layers of a model of the published size."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture, Turn
from harness.config.settings import resolve
from harness.data.inputs import answering_pictures
from harness.experiment.context import picture_options
from harness.models.qwen2_5_vl import QwenModel
from harness.models.registry import load_model
from harness.models.vision import PictureOptions
from helpers.published_models import SMALL, TALL, WIDE, painted, qwen_processor, write_llava, write_qwen

CPU = torch.device("cpu")
LONG = painted(9, 210, 1)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return write_qwen(tmp_path_factory.mktemp("qwen"))


def expand2square(picture: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """As in LLaVA's own code (llava/mm_utils.py)."""
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new(picture.mode, (side, side), colour)
    square.paste(picture, (0, (width - height) // 2) if width > height else ((height - width) // 2, 0))
    return square


@pytest.mark.parametrize("picture", [WIDE, TALL, SMALL, painted(4, 61, 60)])
def test_pad_is_what_llavas_own_code_does(llava, picture):
    plain = load_model(llava, CPU, torch.float32)
    padded = load_model(llava, CPU, torch.float32, PictureOptions(aspect="pad"))
    mean = tuple(int(value * 255) for value in plain.vision_encoder.processor.image_mean)
    expected = plain.vision_encoder.processor(expand2square(picture.pixels(), mean), return_tensors="pt")[
        "pixel_values"
    ]
    found = padded.vision_encoder.process([picture])
    assert torch.equal(found, expected)
    square = picture.size[0] == picture.size[1]
    assert torch.equal(plain.vision_encoder.process([picture]), expected) == square, "the published processor crops"


def test_options_are_part_of_the_fingerprint(llava, qwen):
    of_qwen = (PictureOptions(max_pixels=6272), PictureOptions(line_break=True))
    for folder, options in ((llava, PictureOptions(aspect="pad")), *((qwen, each) for each in of_qwen)):
        plain, other = (load_model(folder, CPU, torch.float32, each) for each in (PictureOptions(), options))
        assert plain.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("bounds", [{}, {"max_pixels": 56 * 56 * 3}, {"min_pixels": 112 * 112, "max_pixels": 20_000}])
def test_a_picture_has_as_many_tokens_as_the_processor_gives_it(qwen, bounds):
    model, processor = load_model(qwen, CPU, torch.float32, PictureOptions(**bounds)), qwen_processor(qwen, **bounds)
    draw = np.random.default_rng(3)
    for number in range(12):
        picture = painted(number, *(int(side) for side in draw.integers(20, 300, 2)))
        grid = processor.image_processor(picture.pixels(), return_tensors="pt")["image_grid_thw"]
        assert model.vision_encoder.grid(picture) == tuple(grid[0].tolist())
        assert model.prompt_length([f"{IMAGE}\nWhat?"], (picture,)) == model.prompt_length(["What?"], ()) + 2 + int(
            grid.prod() // 4
        )


def test_the_line_break_after_a_picture_is_kept_in_training_alone(qwen):
    """As LLaMA-Factory writes it: the picture's tokens take the place of ``<image>``, and the rest stays as it is."""
    options = PictureOptions(line_break=True)
    plain, kept = (load_model(qwen, CPU, torch.float32, each) for each in (PictureOptions(), options))
    turns = (Turn("user", f"{IMAGE}\nWhat is it?"), Turn("assistant", "A flag.\n"), Turn("user", f"And {IMAGE}?"))
    sample = Conversation("x", (*turns, Turn("assistant", "Two.")), (SMALL, WIDE))
    pads = ["<|image_pad|>" * kept.vision_encoder.tokens(picture) for picture in sample.pictures]
    framed = [f"<|vision_start|>{pad}<|vision_end|>" for pad in pads]
    written = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{framed[0]}\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA flag.\n<|im_end|>\n"
        f"<|im_start|>user\nAnd {framed[1]}?<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n"
    )
    expected = kept._tokenizer(written, add_special_tokens=False)["input_ids"]
    assert kept.encode(sample)[0] == kept.training_batch([sample])["input_ids"][0].tolist() == expected
    assert (
        plain.encode(sample)[0]
        == kept._tokenizer(written.replace("<|vision_end|>\nWhat", "<|vision_end|>What"), add_special_tokens=False)[
            "input_ids"
        ]
    )
    dialogue = ([turn.text for turn in sample.turns[:3]], sample.pictures)
    for batch in ("generation_batch", "prompt_batch"):
        given = [dialogue] if batch == "generation_batch" else [sample]
        assert torch.equal(*(getattr(model, batch)(given)["input_ids"] for model in (plain, kept)))


def test_unsupported_options_are_refused(llava, qwen):
    with pytest.raises(UserError, match="pictures of one size alone"):
        load_model(llava, CPU, torch.float32, PictureOptions(max_pixels=10_000))
    with pytest.raises(UserError, match="takes any shape"):
        load_model(qwen, CPU, torch.float32, PictureOptions(aspect="pad"))
    with pytest.raises(UserError, match="at least 20000 and at most 10000 pixels"):
        load_model(qwen, CPU, torch.float32, PictureOptions(min_pixels=20_000, max_pixels=10_000))


def test_a_picture_that_cannot_be_processed_is_named_and_still_has_a_length(qwen):
    model = load_model(qwen, CPU, torch.float32)
    for bad, said in ((LONG, "cannot be shown"), (Picture(b"nothing"), "damaged")):
        with pytest.raises(UserError, match=said):
            model.generation_batch([([f"{IMAGE}\nWhat?"], (bad,))])
        assert model.prompt_length([f"{IMAGE}\nWhat?"], (bad,)) > 0


# Image tokens in training, of EVOKE and of the twelve.
TOKENS = {(640, 480): (315, 391, 1302), (1000, 800): (320, 1044, 1280), (1920, 1080): (312, 2691, 2691)}


def test_the_qwen_preset_shows_pictures_as_each_benchmark_s_own_script_does(qwen, tmp_path):
    """With the published processor's bounds; the weights are loaded once."""
    folder = tmp_path / "published"
    shutil.copytree(qwen, folder)
    described = json.loads((folder / "preprocessor_config.json").read_text())
    described |= {"min_pixels": 3136, "max_pixels": 12845056}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    settings = resolve("qwen2.5-vl-7b").settings
    model = load_model(folder, CPU, torch.float32, picture_options(settings.pictures))
    shown = [settings.pictures, *(answering_pictures(settings, name) for name in ("EVOKE", "MME"))]
    for size, expected in TOKENS.items():
        picture, found = painted(1, *size), []
        for options in shown:
            with model.pictures_as(picture_options(options)):
                found.append(model.vision_encoder.tokens(picture))
                assert int((model.generation_batch([([IMAGE], (picture,))])["pixel_values"]).shape[0]) == 4 * found[-1]
        assert tuple(found) == expected
    assert model.vision_encoder.tokens(painted(1, 640, 480)) == 315, "training's again after the block"


def test_pictures_of_answering_have_a_cache_of_their_own(qwen):
    model = load_model(qwen, CPU, torch.float32)
    cache, dialogue = model.vision_cache(), [([f"{IMAGE}\nWhat?"], (WIDE,))]
    plain = model.generation_batch(dialogue, cache)["encoded"]
    with model.pictures_as(PictureOptions(max_pixels=3136)):
        small = model.generation_batch(dialogue, model.vision_cache())["encoded"]
    assert len(small) < len(plain)
    assert model.vision_cache() is cache
    assert torch.equal(model.generation_batch(dialogue, cache)["encoded"], plain)
    with pytest.raises(UserError, match="takes any shape"):
        model.encoder_for(PictureOptions(aspect="pad"))


def test_a_qwen_of_7b_has_196_targets():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        vision_config={"hidden_size": 1280, "out_hidden_size": 3584},
        text_config={
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
        },
    )
    with torch.device("meta"):
        module = Qwen2_5_VLForConditionalGeneration(config)
    linears = {name: part for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)}
    hit = {name: part for name, part in linears.items() if re.fullmatch(QwenModel.linear_targets, name)}
    assert len(hit) == 28 * 7 == 196
    assert sum(128 * (part.in_features + part.out_features) for part in hit.values()) == 322_961_408, "LoRA, rank 128"
    assert not any("visual" in name or "lm_head" in name for name in hit)
    lazy = [name for name in linears if re.fullmatch(r".*\.(gate|up|down)_proj", name)]
    assert any("visual" in name for name in lazy), "positive control: a lazy pattern hits the tower"
