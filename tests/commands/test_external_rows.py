"""Rows that were trained elsewhere: PEFT adapters of several kinds, and whole models."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import IA3Config, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from benchmarks.errors import UserError
from harness.commands import export
from harness.commands.compare import compare
from harness.commands.verify import verify
from harness.config.settings import Request, parse_rows, resolve
from helpers import small_runs
from reports.record import from_json

TARGETS = r".*language_model.*\.(q_proj|v_proj|down_proj)"
KINDS = {
    "lora": LoraConfig(r=4, target_modules=TARGETS, init_lora_weights=False),
    "dora": LoraConfig(r=4, target_modules=TARGETS, use_dora=True, init_lora_weights=False),
    "oft": OFTConfig(r=0, oft_block_size=4, target_modules=TARGETS, init_weights=False),
    "ia3": IA3Config(target_modules=TARGETS, feedforward_modules=r".*down_proj", init_ia3_weights=False),
}


@pytest.fixture
def preset(tmp_path, tiny_folder):
    return small_runs.write_preset(tmp_path, tiny_folder, old="mini")


def write_adapter(folder, base, config, *, factor=1.0):
    """An adapter made by plain PEFT, with random weights."""
    torch.manual_seed(3)
    model = get_peft_model(AutoModelForImageTextToText.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "oft_" in name or "ia3_" in name:
                parameter.add_(0.05 * torch.randn_like(parameter)).mul_(factor)
    model.save_pretrained(folder)
    return folder


def run(preset, out, methods=("vanilla",), adapters=(), rows=()):
    flags = parse_rows([f"{name}={folder}" for name, folder in adapters], [f"{name}={folder}" for name, folder in rows])
    compare(Request(tuple(methods), resolve(str(preset), (), flags), out))
    record = from_json((out / "results.json").read_bytes())
    return {cell.label: cell for cell in record.cells}


def answers(cell):
    return [item.answer for result in cell.scores.values() for item in result.items]


@pytest.mark.slow
def test_adapters_of_any_kind_stand_in_the_table(preset, tiny_folder, tmp_path):
    adapters = [(f"their-{kind}", write_adapter(tmp_path / kind, tiny_folder, KINDS[kind])) for kind in KINDS]
    cells = run(preset, tmp_path / "run", adapters=adapters)
    for name, _ in adapters:
        cell = cells[name]
        assert cell.status == "ok", cell.reason
        assert cell.ranked
        assert cell.data == "elsewhere"
        assert cell.cost.optimiser_steps == 0
        assert set(cell.settings) == {"folder"}
        assert str(tmp_path) not in json.dumps({name: one.value for name, one in cell.settings.items()})
    assert not verify(tmp_path / "run").differences


@pytest.mark.slow
def test_an_exported_row_that_comes_back_is_the_same_row(preset, tiny_folder, tmp_path):
    first = run(preset, tmp_path / "run", methods=("lora", "full-ft"))
    adapter = export.export(tmp_path / "run", "lora", tmp_path / "adapter").folder
    merged = export.export(tmp_path / "run", "full-ft", tmp_path / "merged", form="merged").folder
    again = run(preset, tmp_path / "run", adapters=[("back", adapter)], rows=[("model", merged)])
    assert answers(again["back"]) == answers(first["lora"])
    assert answers(again["model"]) == answers(first["full-ft"])
    assert answers(again["back"]) != answers(again["vanilla"]), "control"


@pytest.mark.slow
def test_other_content_is_another_row(preset, tiny_folder, tmp_path):
    adapter = write_adapter(tmp_path / "theirs", tiny_folder, KINDS["lora"])
    before = run(preset, tmp_path / "run", adapters=[("theirs", adapter)])["theirs"]
    same = run(preset, tmp_path / "run", adapters=[("theirs", shutil.copytree(adapter, tmp_path / "copy"))])["theirs"]
    assert same.signature == before.signature, "the folder's place does not count"
    write_adapter(adapter, tiny_folder, KINDS["lora"], factor=3.0)
    after = run(preset, tmp_path / "run", adapters=[("theirs", adapter)])["theirs"]
    assert after.signature != before.signature


def test_an_adapter_that_changes_nothing_is_a_failed_row(preset, tiny_folder, tmp_path):
    config = LoraConfig(r=4, target_modules=TARGETS)
    get_peft_model(AutoModelForImageTextToText.from_pretrained(tiny_folder), config).save_pretrained(tmp_path / "zero")
    cell = run(preset, tmp_path / "run", adapters=[("zero", tmp_path / "zero")])["zero"]
    assert cell.status == "failed"
    assert "changes no logit" in cell.reason


def refused(preset, tmp_path, folder, kind="adapter"):
    pairs = {"adapters" if kind == "adapter" else "rows": [("theirs", folder)]}
    with pytest.raises(UserError) as error:
        run(preset, tmp_path / "run", **pairs)
    assert not (tmp_path / "run" / "results.json").exists()
    return str(error.value)


def test_folders_that_are_not_adapters_are_refused_before_the_run(preset, tiny_folder, tmp_path):
    assert "adapter_config.json is missing" in refused(preset, tmp_path, tiny_folder)
    adapter = write_adapter(tmp_path / "a", tiny_folder, KINDS["lora"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(tensors, adapter / "adapter_model.bin")
    assert "pickled" in refused(preset, tmp_path, adapter)
    (adapter / "adapter_model.bin").unlink()
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for change, words in (
        ({"peft_type": "PREFIX_TUNING"}, "not supported"),
        ({"peft_type": "UNHEARD_OF"}, "cannot be read"),
    ):
        (adapter / "adapter_config.json").write_text(json.dumps(config | change))
        assert words in refused(preset, tmp_path, adapter)
    (adapter / "adapter_config.json").write_text("{")
    assert "cannot be read" in refused(preset, tmp_path, adapter)
    assert "config.json is missing" in refused(preset, tmp_path, tmp_path / "nowhere", kind="model")


@pytest.mark.slow
def test_an_adapter_for_another_model_is_a_failed_row_and_the_others_go_on(preset, tiny_folder, tmp_path):
    adapter = write_adapter(tmp_path / "a", tiny_folder, KINDS["lora"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_A" in name)
    save_file(tensors | {name: torch.zeros(4, 999)}, adapter / "adapter_model.safetensors")
    elsewhere = shutil.copytree(adapter, tmp_path / "b")
    config = json.loads((elsewhere / "adapter_config.json").read_text())
    (elsewhere / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["no_such_layer"]}))
    cells = run(preset, tmp_path / "run", methods=("lora",), adapters=[("wide", adapter), ("lost", elsewhere)])
    assert cells["wide"].status == cells["lost"].status == "failed"
    assert name.removeprefix("base_model.") in cells["wide"].reason
    assert "no_such_layer" in cells["lost"].reason
    assert cells["lora"].status == "ok"


@pytest.mark.parametrize(
    ("adapters", "rows", "words"),
    [
        (["theirs"], [], "NAME=FOLDER"),
        (["a b=x"], [], "NAME=FOLDER"),
        (["one=x"], ["one=y"], "name of its own"),
    ],
)
def test_wrong_flags_are_named(adapters, rows, words):
    with pytest.raises(UserError, match=words):
        parse_rows(adapters, rows)


@pytest.mark.parametrize("name", ["lora", "vanilla", "kore"])
def test_a_name_that_is_taken_is_refused(name, preset, tiny_folder, tmp_path):
    with pytest.raises(UserError, match="another name"):
        run(preset, tmp_path / "run", adapters=[(name, tiny_folder)])
