"""Prompts for vLLM: token ids with one place for each picture, and pictures under names that say their content."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.serving.prompts import ShownPicture, collapsed, image_token, served_prompts
from helpers.plain_loop import attach, make
from helpers.tiny import as_dialogue, conversations, picture
from methods.components.lora_layers import saved_modules

IMAGE = 7
SAMPLES = conversations(12, seed=3)


@given(st.lists(st.one_of(st.integers(0, 6), st.tuples(st.integers(1, 5))), max_size=12))
def test_collapsed_undoes_the_expansion_of_pictures(parts):
    sizes = [part[0] for part in parts if isinstance(part, tuple)]
    expanded = [token for part in parts for token in ([IMAGE] * part[0] if isinstance(part, tuple) else [part])]
    assert collapsed(expanded, IMAGE, sizes) == [IMAGE if isinstance(part, tuple) else part for part in parts]


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 image tokens"):
        collapsed([1, IMAGE, IMAGE, IMAGE, 2], IMAGE, [2])
    with pytest.raises(ValueError, match="3 image tokens"):
        collapsed([1, IMAGE, IMAGE, IMAGE, 2], IMAGE, [4])


def prompts(model, samples=SAMPLES):
    dialogues = [as_dialogue(sample) for sample in samples]
    return served_prompts(model, dialogues, model.vision_cache(), [""] * len(dialogues)), dialogues


def test_ids_and_embeddings_are_those_of_the_built_in_engine(tiny_model):
    found, dialogues = prompts(tiny_model)
    token, embed = image_token(tiny_model), tiny_model.inner.get_input_embeddings()
    for prompt, dialogue in zip(found, dialogues, strict=True):
        batch = tiny_model.generation_batch([dialogue])
        shown, parts = iter(prompt.pictures), []
        for one in prompt.ids:
            parts.append(next(shown).embeddings if one == token else embed(torch.tensor([one])))
        assert next(shown, None) is None
        assert torch.allclose(torch.cat(parts), tiny_model.input_embeddings(batch)[0], atol=1e-6)
    assert any(prompt.pictures for prompt in found)


def names(model, *pictures):
    dialogues = [(["<image>\nWhat is it?"], [each]) for each in pictures]
    found = served_prompts(model, dialogues, model.vision_cache(), [""] * len(dialogues))
    return [prompt.pictures[0].name for prompt in found]


def test_a_pictures_name_says_picture_and_projector(tiny_model):
    one, other = names(tiny_model, picture(1), picture(2))
    assert one != other
    assert names(tiny_model, picture(1), picture(2)) == [one, other]
    method = make("lora")
    attach(method, tiny_model)
    assert names(tiny_model, picture(1), picture(2)) == [one, other], "the projector's copy is not trained yet"
    (wrapper,) = saved_modules(tiny_model.module).values()
    with torch.no_grad():
        next(wrapper.modules_to_save["default"].parameters()).add_(1e-3)
    changed = names(tiny_model, picture(1), picture(2))
    assert not {*changed} & {one, other}
    method.detach(tiny_model)
    assert names(tiny_model, picture(1), picture(2)) == [one, other]


def test_a_pictures_name_says_its_grid():
    values = torch.arange(12.0).reshape(6, 2)
    found = [ShownPicture(values, grid).name for grid in (None, (1, 4, 6), (1, 6, 4))]
    assert len(set(found)) == 3
    assert ShownPicture(values.clone(), (1, 4, 6)).name == found[1]
