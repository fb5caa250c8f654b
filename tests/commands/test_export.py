"""Rows that leave the program: PEFT folders and whole models that others load without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.commands import export
from harness.commands.compare import compare
from harness.config.settings import Request, resolve
from harness.experiment.context import IntegrityError
from helpers import small_runs

pytestmark = pytest.mark.slow
ROWS = ("lora", "kore", "kore:unfrozen-a", "full-ft", "moelora", "sefe", "oplora", "oft")
PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

ids = [3, 5, 7, 11, 13]
for base, folder in json.loads(sys.argv[1]):
    model = AutoModelForImageTextToText.from_pretrained(base)
    if folder:
        model = PeftModel.from_pretrained(model, folder)
    inputs = torch.tensor([ids])
    logits = model.eval()(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
    print(json.dumps(logits[0, -1].tolist()))
assert "harness" not in sys.modules and "methods" not in sys.modules
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder):
    """A finished run of all rows on a tiny model."""
    folder = tmp_path_factory.mktemp("finished")
    preset = small_runs.write_preset(folder, tiny_folder, old="mini")
    result = compare(Request(ROWS, resolve(str(preset), ["moelora.experts=2"]), folder / "run"))
    assert not [output.reason for output in result.outputs if output.status != "ok"]
    return folder / "run"


def load_plainly(*pairs):
    """Logits after a text for each base and adapter folder, from a process that imports PEFT and transformers only."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN, json.dumps([[str(base), str(folder)] for base, folder in pairs])],
        capture_output=True, text=True, env=environment, cwd=pairs[0][0], timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.tensor(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("row", ["lora", "kore", "sefe", "oplora", "oft"])
def test_an_adapter_loads_in_plain_peft_with_the_same_bits(row, finished, tmp_path):
    exported = export.export(finished, row, tmp_path / "out")
    assert exported.difference == 0
    assert {path.name for path in exported.folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    kind = json.loads((exported.folder / "adapter_config.json").read_text())["peft_type"]
    assert kind == ("OFT" if row == "oft" else "LORA")


def test_what_is_written_loads_without_this_program(finished, tiny_folder, tmp_path):
    adapter = export.export(finished, "lora", tmp_path / "adapter").folder
    merged = export.export(finished, "lora", tmp_path / "merged", form="merged").folder
    full = export.export(finished, "full-ft", tmp_path / "full", form="merged")
    assert full.difference == 0
    base, *others = load_plainly((tiny_folder, ""), (tiny_folder, adapter), (merged, ""), (full.folder, ""))
    assert all(not torch.equal(base, other) for other in others), "control"
    assert torch.allclose(others[0], others[1], atol=1e-4)
    resolve("mini", {"model": merged})


def test_two_adapters_are_written_as_one(finished, tmp_path):
    exported = export.export(finished, "kore:unfrozen-a", tmp_path / "out")
    config = json.loads((exported.folder / "adapter_config.json").read_text())
    assert config["r"] == 2 * resolve_rank(finished)
    assert 0 <= exported.difference < 1e-4


def resolve_rank(run):
    results = json.loads((run / "results.json").read_text())
    return next(cell for cell in results["cells"] if cell["label"] == "kore:unfrozen-a")["settings"]["rank"]["value"]


def test_without_the_projector_the_adapter_is_of_the_language_model_only(finished, tmp_path):
    exported = export.export(finished, "lora", tmp_path / "out", form="without-projector")
    assert exported.difference == 0
    names = load_file(exported.folder / "adapter" / "adapter_model.safetensors")
    assert names
    assert all("projector" not in name for name in names)
    assert json.loads((exported.folder / "adapter" / "adapter_config.json").read_text())["modules_to_save"] is None


def test_the_card_has_the_scores_of_the_record(finished, tmp_path):
    folder = export.export(finished, "kore", tmp_path / "out").folder
    card = (folder / "README.md").read_text("utf-8")
    results = json.loads((finished / "results.json").read_text())
    cell = next(cell for cell in results["cells"] if cell["label"] == "kore")
    for name, score in cell["scores"].items():
        assert name in card
        if score["headline"] is not None:
            assert f"value: {round(score['headline'], 2)}" in card
    assert cell["signature"] in card
    assert "PeftModel.from_pretrained" in card
    assert 'from_pretrained("BASE", dtype="float32")' in card, "a base that is stored in half precision computes so"
    assert "library_name: peft" in card


def test_a_mixture_of_experts_is_refused_and_says_why(finished, tmp_path):
    for form in ("adapter", "merged", "without-projector"):
        with pytest.raises(UserError, match="not a plain LoRA layer"):
            export.export(finished, "moelora", tmp_path / "out", form=form)
    assert not list(tmp_path.iterdir())


def test_full_fine_tuning_is_no_adapter(finished, tmp_path):
    with pytest.raises(UserError, match="--merge"):
        export.export(finished, "full-ft", tmp_path / "out")


@pytest.mark.parametrize(
    ("row", "seed", "message"), [("kroe", 0, "kore"), ("lora", 7, "choose from 0"), ("vanilla", 0, "row")]
)
def test_a_wrong_row_or_seed_is_named(finished, tmp_path, row, seed, message):
    with pytest.raises(UserError, match=message):
        export.export(finished, row, tmp_path / "out", seed=seed)


def test_nothing_is_overwritten(finished, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="--to"):
        export.export(finished, "lora", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_what_does_not_give_the_runs_logits_is_removed(finished, tmp_path, monkeypatch):
    write = export._write_adapter

    def damaged(folder, peft, base):
        write(folder, peft, base)
        tensors = load_file(folder / "adapter_model.safetensors")
        name = next(name for name in tensors if "lora_B" in name)
        save_file(tensors | {name: tensors[name] + 0.1}, folder / "adapter_model.safetensors")

    monkeypatch.setattr(export, "_write_adapter", damaged)
    with pytest.raises(IntegrityError, match="logits differ"):
        export.export(finished, "lora", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("short_answers")
def test_a_scaled_row_is_exported_with_its_scaled_update(tiny_folder, tmp_path):
    preset = small_runs.write_preset(tmp_path, tiny_folder, old="mini")
    rows = ("lora", "lora:scaled-0.5", "kore:scaled-0.5", "full-ft", "full-ft:scaled-0.25")
    result = compare(Request(rows, resolve(str(preset)), tmp_path / "run"))
    assert not [output.reason for output in result.outputs if output.status != "ok"]

    def exported(row, form):
        return export.export(tmp_path / "run", row, tmp_path / f"{row.replace(':', '-')}-{form}", form=form)

    whole, half = exported("lora", "adapter"), exported("lora:scaled-0.5", "adapter")
    assert whole.difference == half.difference == 0
    one, other = updates(whole.folder), updates(half.folder)
    assert one.keys() == other.keys()
    assert len(one) > 4
    assert all(torch.allclose(other[name], 0.5 * one[name], rtol=1e-5, atol=1e-8) for name in one)
    assert any(update.abs().max() > 1e-4 for update in one.values()), "control"
    assert "lora:scaled-0.5" in (half.folder / "README.md").read_text("utf-8")
    assert exported("lora:scaled-0.5", "without-projector").difference == 0
    assert exported("lora:scaled-0.5", "merged").difference < 1e-4
    assert exported("kore:scaled-0.5", "adapter").difference < 1e-4
    base, full, quarter = (
        load_file(folder / "model.safetensors")
        for folder in (
            tiny_folder,
            exported("full-ft", "merged").folder,
            exported("full-ft:scaled-0.25", "merged").folder,
        )
    )
    moved = [name for name in base if not torch.equal(base[name], full[name])]
    assert moved
    for name in moved:
        expected = base[name] + 0.25 * (full[name] - base[name])
        assert torch.allclose(quarter[name], expected, rtol=1e-5, atol=1e-7)


def updates(folder):
    """The product of the factors of each layer of an adapter, with its scaling."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    scaling = config["lora_alpha"] / config["r"]
    return {
        name: scaling * (tensors[name.replace("lora_A", "lora_B")] @ down)
        for name, down in tensors.items()
        if "lora_A" in name
    }


def test_the_command_writes_and_reports(finished, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "export", str(finished), "--row", "lora", "--to", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "differ from the run's by at most 0" in done.stdout
