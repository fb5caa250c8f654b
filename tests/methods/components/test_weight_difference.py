"""What a base's own training changed in its language model: oracles in float64, and files that are refused."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.conformance.tiny_model import write_tiny_model
from helpers.plain_loop import RANK, FakeResources, attach, make, same, train
from helpers.tiny import conversations, knowledge
from methods.components import lora_layers as adapters
from methods.components.stored_weights import StoredWeights, weights_identity
from methods.components.weight_difference import (
    ROW_NORM,
    earlier_directions,
    top_right_singular_vectors,
    weight_differences,
)

SAMPLES = conversations(6, seed=1)
WEIGHTS = "model.safetensors"


@pytest.fixture
def language_base(tiny_model, tmp_path):
    """The tiny model's decoder as a language model's folder names it, in float16, a little different."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, layer in adapters.target_layers(tiny_model).items():
        noise = 0.05 * torch.randn(layer.weight.shape, generator=generator)
        tensors[f"model.{name[name.index('layers.') :]}.weight"] = (layer.weight.detach() + noise).half()
    save_file({**tensors, "lm_head.weight": torch.ones(3, 3)}, tmp_path / WEIGHTS)
    return tmp_path


def differences(model, folder):
    """Literally: the model's weights minus those of the file, in float64."""
    stored = load_file(folder / WEIGHTS)
    return {
        name: layer.weight.detach().double() - stored[f"model.{name[name.index('layers.') :]}.weight"].double()
        for name, layer in adapters.target_layers(model).items()
    }


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_the_directions_are_those_of_the_singular_value_decomposition(shape):
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = top_right_singular_vectors(matrix, 5)
    expected = torch.linalg.svd(matrix, full_matrices=False).Vh
    torch.testing.assert_close(found @ found.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.T @ found, expected[:5].T @ expected[:5], rtol=0, atol=1e-10)
    lowest = expected[-5:].T @ expected[-5:]
    assert float((found.T @ found - lowest).abs().max()) > 0.1  # control: the order matters


def test_a_difference_of_low_rank_has_no_more_directions_than_its_rank():
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(size, dtype=torch.float64, generator=generator) for size in ((30, 3), (3, 50)))
    for matrix, sought in ((left @ right, right), ((left @ right).T, left.T)):
        found = top_right_singular_vectors(matrix, 8)
        assert found.shape == (3, matrix.shape[1])
        basis = torch.linalg.qr(sought.T).Q
        torch.testing.assert_close(found.T @ found, basis @ basis.T, rtol=0, atol=1e-8)


def test_the_differences_are_exact_and_the_directions_as_long_as_loras(tiny_model, language_base):
    expected = differences(tiny_model, language_base)
    found = dict(weight_differences(tiny_model, language_base))
    assert found.keys() == expected.keys()
    for name, difference in found.items():
        torch.testing.assert_close(difference.double(), expected[name], rtol=1e-6, atol=1e-9)
    for name, a in earlier_directions(tiny_model, language_base, RANK).items():
        vectors = torch.linalg.svd(expected[name.removesuffix(".A")]).Vh[:RANK]
        wanted = vectors.T @ vectors / 3
        torch.testing.assert_close(a.double().T @ a.double(), wanted, rtol=0, atol=1e-5)
    attach(make("lora"), tiny_model)
    rows = torch.cat(
        [adapters.lora_ab(layer)[0].detach().norm(dim=1) for _, layer in adapters.lora_layers(tiny_model.module)]
    )
    assert float(rows.square().mean().sqrt()) == pytest.approx(ROW_NORM, rel=0.1)


def test_a_model_in_half_precision_is_compared_as_it_is_stored(tiny_folder, tiny_model, language_base):
    from harness.models.llava import LlavaModel

    half = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.bfloat16)
    expected = differences(tiny_model, language_base)
    for name, difference in weight_differences(half, language_base):
        torch.testing.assert_close(difference.double(), expected[name], rtol=1e-6, atol=1e-9)
        rounded = adapters.target_layers(half)[name].weight.double() - (
            adapters.target_layers(tiny_model)[name].weight.double() - expected[name]
        )
        assert float((rounded - expected[name]).abs().max()) > 1e-4  # control: bfloat16 would have mattered


@pytest.mark.parametrize("row", ["o-lora:weight-difference", "sefe:weight-difference"])
def test_the_first_stage_is_held_away_from_the_difference(row, tiny_model, language_base):
    results, resources = {}, FakeResources()
    for label, method in {
        "lora": make("lora"),
        "zero": make(row, language_base=str(language_base), coefficient=0.0),
        "some": make(row, language_base=str(language_base)),
    }.items():
        prepared = attach(method, tiny_model, resources)
        results[label] = train(method, tiny_model, SAMPLES, steps=4), method.export(tiny_model), prepared
        method.detach(tiny_model)
    assert results["lora"][0] == results["zero"][0]  # I8
    assert same(results["lora"][1], results["zero"][1])
    assert results["zero"][2] == {}
    assert not same(results["lora"][1], results["some"][1])
    assert len(resources.store) == 1
    assert resources.asked == []  # no old data is read
    prepared = results["some"][2]
    for name, difference in differences(tiny_model, language_base).items():
        if row.startswith("sefe"):
            count = int(0.02 * difference.numel())
            wanted = difference.abs().flatten().topk(count).indices.sort().values
            assert prepared[f"{name}.held"].tolist() == wanted.tolist()
        else:
            assert prepared[f"{name}.A"].shape == (RANK, difference.shape[1])


def test_without_a_language_model_the_row_is_refused_before_anything_is_computed():
    for row in ("o-lora:weight-difference", "sefe:weight-difference"):
        method = make(row)
        for refused in (lambda method=method: method.check_data(knowledge(2)), method.settings.cache_key):
            with pytest.raises(UserError, match=r"needs that model(?s:.*)language_base=FOLDER"):
                refused()
    with pytest.raises(UserError, match="weight_difference cannot be True"):
        make("o-lora:weight-difference", pseudo_ratio=0.1)


def test_the_language_model_is_known_by_its_content(language_base, tmp_path):
    def key(row, folder):
        return make(row, language_base=str(folder)).settings.cache_key()

    row, other, changed = "o-lora:weight-difference", tmp_path / "other", tmp_path / "changed"
    for folder in (other, changed):
        folder.mkdir()
        save_file(load_file(language_base / WEIGHTS), folder / WEIGHTS)
    save_file(load_file(language_base / WEIGHTS) | {"lm_head.weight": torch.zeros(3, 3)}, changed / WEIGHTS)
    assert key(row, other) == key(row, language_base) != key(row, changed)
    assert str(tmp_path) not in repr(key(row, other))
    assert key("o-lora", other) == key("o-lora", changed)  # it is not read there
    assert weights_identity(other) == key(row, other)["language_base"]


def damaged(folder, change):
    """The language model's folder with other tensors."""
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name in tensors if "q_proj" in name)
    change(tensors, name)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, name: tensors.pop(name), "q_proj is missing"),
        (
            lambda tensors, name: tensors.update({name: tensors[name][:-1].contiguous()}),
            "q_proj is 31 x 32 and not 32 x 32",
        ),
        (lambda tensors, name: tensors[name][0].fill_(torch.nan), "no finite numbers"),
        (lambda tensors, name: tensors.update({name: tensors[name].int()}), "no finite numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, said, tiny_model, language_base):
    damaged(language_base, change)
    method = make("o-lora:weight-difference", language_base=str(language_base))
    with pytest.raises(UserError, match=f"{said}(?s:.*)give the model that the base was trained from"):
        method.prepare(tiny_model, FakeResources())


def test_files_that_cannot_be_trusted_are_refused(language_base, tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match=r"no weights in safetensors; pickled ones \(.bin\) are never opened"):
        StoredWeights(pickled)
    whole = (language_base / WEIGHTS).read_bytes()
    header = json.dumps(
        {"model.layers.0.x.weight": {"dtype": "F16", "shape": [9], "data_offsets": [0, 10**12]}}
    ).encode()
    for content in (whole[:-100], b"", struct.pack("<Q", len(header)) + header):
        (pickled / WEIGHTS).write_bytes(content)
        with pytest.raises(UserError, match="the weights are damaged"):
            StoredWeights(pickled)
    save_file({"vision_tower.encoder.layers.0.self_attn.q_proj.weight": torch.ones(2, 2)}, pickled / WEIGHTS)
    with pytest.raises(UserError, match="no decoder layers"):
        StoredWeights(pickled)
    (pickled / "second.safetensors").write_bytes(whole)
    (pickled / WEIGHTS).write_bytes(whole)
    with pytest.raises(UserError, match="is there twice"):
        StoredWeights(pickled)


def test_a_model_that_was_not_trained_from_it_differs_and_the_same_one_is_refused(tiny_model, tmp_path):
    other = write_tiny_model(tmp_path / "other", seed=5, tower_layers=1)
    assert StoredWeights(other).read(next(iter(adapters.target_layers(tiny_model))), (32, 32)).shape == (32, 32)
    with pytest.raises(UserError, match="is the same in both models"):
        next(weight_differences(tiny_model, tiny_model.folder))
