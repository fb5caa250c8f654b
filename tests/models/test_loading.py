"""Model folders that must not be loaded, and their error messages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.models.llava import LlavaModel
from harness.models.registry import describe_model, load_model, target_shapes
from helpers.published_models import write_llava, write_qwen

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shard(folder: Path) -> None:
    """Split the weights into two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remote_code(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModel": "evil.Model"})


def remote_processor(folder: Path) -> None:
    edit(folder / "processor_config.json", auto_map={"AutoProcessor": "evil.Processor"})


def missing_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def shard_elsewhere(folder: Path) -> None:
    shard(folder)
    edit(folder / "model.safetensors.index.json", weight_map={"a": "../outside.safetensors"})


def unknown_architecture(folder: Path) -> None:
    edit(folder / "config.json", architectures=["MambaForCausalLM"])


def no_architecture(folder: Path) -> None:
    edit(folder / "config.json", architectures=[])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def lost_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["multi_modal_projector.linear_1.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def wrong_image_token(folder: Path) -> None:
    edit(folder / "config.json", image_token_index=5, image_token_id=5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pickled, "pytorch_model.bin.*pickled|pickled.*pytorch_model.bin"),
        (remote_code, r"config\.json: .*auto_map"),
        (remote_processor, r"processor_config\.json: .*auto_map"),
        (missing_shard, "model-00002-of-00002.safetensors missing"),
        (shard_elsewhere, "outside.safetensors missing"),
        (
            unknown_architecture,
            "MambaForCausalLM is not supported(.|\n)*family of your own",
        ),
        (no_architecture, "names no architecture"),
        (no_weights, "weights are missing"),
        (cut_short, r"model\.safetensors: the weights are damaged"),
        (lost_tensor, "multi_modal_projector"),
        (broken_config, r"config\.json: it cannot be read"),
        (no_config, "config.json is missing"),
        (no_tokenizer, "cannot be loaded"),
        (wrong_image_token, "tokenizer does not know <image>"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "message",
)
def test_bad_folders_are_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder, CPU, torch.float32)
    assert str(folder) in str(caught.value)
    assert caught.value.hint


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return write_qwen(tmp_path / "qwen")


def without_template(folder: Path) -> None:
    (folder / "chat_template.json").unlink()


def without_a_shard(folder: Path) -> None:
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def without_image_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def another_image_token(folder: Path) -> None:
    edit(folder / "config.json", image_token_id=7)


def pickled_shards(folder: Path) -> None:
    (folder / "model.safetensors.index.json").unlink()
    for shard in folder.glob("model-*.safetensors"):
        shard.rename(shard.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_template, "chat template is missing"),
        (without_a_shard, r"model-00002-of-\d+\.safetensors missing"),
        (without_image_processor, "image processor cannot be loaded"),
        (another_image_token, r"does not know <\|image_pad\|>"),
        (pickled_shards, "pickled"),
        (remote_code, "auto_map"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "message",
)
def test_bad_qwen_folders_are_refused(qwen, damage, message):
    load_model(qwen, CPU, torch.float32)
    damage(qwen)
    with pytest.raises(UserError, match=message) as caught:
        load_model(qwen, CPU, torch.float32)
    assert str(qwen) in str(caught.value)


@pytest.mark.parametrize(
    ("config", "way"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq"}}}, "gptq"),
    ],
    ids=lambda value: value if isinstance(value, str) else "config",
)
@pytest.mark.parametrize("use", [lambda folder: load_model(folder, CPU, torch.float32), describe_model, target_shapes])
def test_quantised_weights_are_refused_before_they_are_read(folder, config, way, use):
    """F24: they were reported as a bug."""
    use(folder)
    edit(folder / "config.json", quantization_config=None)
    use(folder)
    whole = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", **{key: {**(whole.get(key) or {}), **value} for key, value in config.items()})
    with pytest.raises(UserError, match=rf"config\.json: the weights are quantised already \({way}\)") as caught:
        use(folder)
    assert "the unquantised model" in caught.value.hint
    assert "precision=nf4" in caught.value.hint


def test_processor_config_may_be_missing_as_in_older_revisions_on_the_hub(tmp_path):
    from helpers.tiny import conversation

    folder = write_llava(tmp_path / "llava")
    newer = load_model(folder, CPU, torch.float32).training_batch([conversation(1)])
    (folder / "processor_config.json").unlink()
    older = load_model(folder, CPU, torch.float32).training_batch([conversation(1)])
    assert all(torch.equal(older[name], newer[name]) for name in newer)


def test_good_folders_load(folder, capfd):
    """Positive control; whole or in shards, pickles beside safetensors are not even looked at."""
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    whole = load_model(folder, CPU, torch.float32)
    assert isinstance(whole, LlavaModel)
    shard(folder)
    assert load_model(folder, CPU, torch.float32).fingerprint() == whole.fingerprint()
    assert not any(parameter.requires_grad for parameter in whole.module.parameters())
    assert not whole.module.training
    assert "Loading" not in capfd.readouterr().err


def test_a_picture_of_the_wrong_size_is_reported(folder):
    path = folder / "processor_config.json"
    path.write_text(path.read_text().replace("64", "32"))
    from helpers.tiny import conversation

    model = load_model(folder, CPU, torch.float32)
    with pytest.raises(UserError, match="takes 64 x 64"):
        model.training_batch([conversation(1)])
