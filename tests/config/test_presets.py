"""The presets for real models: the paper's settings, paths without a network, and what doctor reports about them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.aggregate import TWELVE
from benchmarks.errors import UserError
from benchmarks.retention_specs import SPEC_BY_NAME, VLMEVALKIT_PENALTY, VLMEVALKIT_TOKENS
from harness import cli
from harness.commands import doctor
from harness.config import hub
from harness.config.method_settings import method_settings
from harness.config.schema import PictureSettings
from harness.config.settings import resolve
from harness.config.sweep import parse_axes
from harness.data.requirements import check_requirements, select_requirements
from harness.experiment.rows import list_cells
from harness.models.registry import target_shapes
from harness.presets import preset_names
from helpers import synthetic
from helpers.shapes import write_shapes

REAL = ("llava-1.5-7b", "llava-1.5-13b", "qwen2.5-vl-7b")
POOLS = ("calibration-pool", "replay-pool")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home with nothing in it."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def cached(home, repository, kind, files):
    """Create a repository in the hub's cache, in the layout of the hub's library."""
    folder = home / ".cache/huggingface/hub" / f"{kind}s--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123abc"
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(content)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abc")
    return snapshot


KORE_74K = ("kailinjiang/KORE-74K", "dataset", {"json/jsonl/KORE-74K-training_data.json": b"[]"})

# Table 7 of the paper: rank, epochs, warmup, learning rate of KORE; the batch is per device there.
TABLE_7 = {
    "llava-1.5-7b": (235, 6, 0.03, 2e-4, 54 * 4),
    "llava-1.5-13b": (235, 6, 0.03, 2e-4, 32 * 4),
    "qwen2.5-vl-7b": (274, 6, 0.1, 1e-4, 24 * 8 * 4),  # 1e-4: the released YAML files; the table has 2e-4
}


@pytest.mark.parametrize("name", REAL)
def test_settings_are_the_paper_s(name, home, tmp_path):
    there = cached(home, *KORE_74K)
    assert name in preset_names()
    resolved = resolve(name)
    settings = resolved.settings
    folder = write_shapes(tmp_path, name)
    kore, lora = (
        method_settings(resolved, method, layers=lambda: target_shapes(folder)).values for method in ("kore", "lora")
    )
    found = (kore.rank, settings.training.epochs, settings.training.warmup, kore.learning_rate)
    assert (*found, settings.training.batch_size) == TABLE_7[name]
    assert (kore.calibration_samples, kore.norm) == (256, "official")
    assert kore.learning_rate == lora.learning_rate
    assert kore.data == str(there)
    for control, setting in (("kore-data", "data"), ("equal-steps", "equal_steps")):
        row = method_settings(resolved, "lora", control, layers=lambda: target_shapes(folder)).values
        assert getattr(row, setting) == kore.data
    assert kore.weight_decay == lora.weight_decay == 0
    assert (lora.rank, lora.alpha) == (128, 256)
    assert settings.benchmarks == ("EVOKE", *TWELVE)
    assert settings.data.published
    llava = name.startswith("llava")
    assert settings.protocol == ("llava" if llava else "vlmevalkit")
    asked = {spec.name: spec.protocol(settings.protocol) for spec in SPEC_BY_NAME.values()}
    scripts = {"MME", "MMBench", "POPE", "ScienceQA"}  # of LLaVA's; VLMEvalKit's class for LLaVA asks the other eight
    expected = {name: "llava" if name in scripts else "vlmevalkit-llava" for name in TWELVE}
    assert asked == (expected if llava else dict.fromkeys(TWELVE, "vlmevalkit"))
    assert settings.pictures.aspect == ("pad" if llava else "folder")
    assert settings.pictures.max_pixels == (None if llava else 262144)
    shown = settings.answering.pictures
    assert shown.adaptation == (None if llava else PictureSettings())
    bounds = PictureSettings(min_pixels=1280 * 28 * 28, max_pixels=16384 * 28 * 28)
    assert shown.retention == (None if llava else bounds)
    assert lora.projector_learning_rate == (2e-5 if llava else 0)
    for method in ("replay", "ewc", "lwf", "moelora", "o-lora", "sefe", "full-ft"):
        assert method_settings(resolved, method)


@pytest.mark.parametrize(
    ("preset", "lora", "kore"), [("llava-1.5-7b", 50 * 4, 54 * 4), ("qwen2.5-vl-7b", 6 * 8 * 4, 24 * 8 * 4)]
)
def test_batches_are_the_authors_for_each_method(preset, lora, kore, tmp_path):
    names = ("lora", "replay", "ewc", "lora:kore-data", "lora:equal-steps", "kore", "kore:no-constraint")
    resolved = resolve(preset, ["kore.data=kore"], {"model": str(write_shapes(tmp_path / "model", preset))})
    cells = list_cells(names, resolved)[1:]
    assert [cell.training.get("batch_size", kore) for cell in cells] == [lora] * 3 + [kore] * 4


@pytest.mark.parametrize("preset", ["mini", "mini-qwen"])
def test_on_the_miniatures_kore_without_its_constraint_is_the_control_of_its_data(preset):
    """The documented results have one row for both."""
    names = ("lora:kore-data", "kore:no-constraint", "lora")
    control, ablation, lora = list_cells(names, resolve(preset))[1:]
    assert ablation.training == control.training != lora.training
    shared = ("data", "rank", "alpha", "dropout", "learning_rate", "projector_learning_rate", "weight_decay")
    first, second, third = (
        [getattr(one.settings.values, name) for name in shared] for one in (control, ablation, lora)
    )
    assert first == second != third


@pytest.mark.parametrize("name", REAL)
def test_what_the_presets_do_not_use_is_a_named_row(name, tmp_path):
    resolved = resolve(name, ["kore.data=kore"], {"model": str(write_shapes(tmp_path / "model", name))})
    rows = ["kore", "kore:norm-token-mean", "kore:rate-2e-4", "lora", "lora:rate-2e-4", "replay:rate-2e-4"]
    found = {cell.label: cell.settings.values for cell in list_cells(rows, resolved) if cell.settings}
    assert (found["kore"].norm, found["kore:norm-token-mean"].norm) == ("official", "token-mean")
    other_rate = found.keys() & {"kore:rate-2e-4", "lora:rate-2e-4", "replay:rate-2e-4"}
    if name.startswith("qwen"):
        assert {found[row].learning_rate for row in other_rate} == {2e-4}
    assert found.keys() == {"kore", "kore:norm-token-mean", "lora", *other_rate}


@pytest.mark.parametrize("name", REAL)
def test_small_settings_are_those_of_the_authors_code(name):
    resolved, llava = resolve(name, ["kore.rank=8", "kore.data=kore"]), name.startswith("llava")
    dropout = 0.05 if llava else 0.0  # LLaVA's train.py and LLaMA-Factory
    for row in ("lora", "replay", "ewc", "lwf", "moelora", "o-lora", "sefe", "kore:no-constraint"):
        assert method_settings(resolved, *row.split(":")).values.dropout == dropout
    for row in ("kore", "kore:unfrozen-a", "kore:constraint-MME"):
        values = method_settings(resolved, *row.split(":")).values
        assert (values.dropout, values.calibration_text) == (0, "question")
    assert resolved.settings.training.warmup_from_zero
    assert resolved.settings.pictures.line_break is not llava


@pytest.mark.parametrize("name", ["mini", "mini-no-extraction", "mini-qwen"])
def test_the_miniatures_keep_their_own_small_settings(name):
    resolved = resolve(name, ["kore.rank=8"])
    assert method_settings(resolved, "lora").values.dropout == 0
    assert method_settings(resolved, "kore", "constraint-MME").values.calibration_text == "prompt"
    assert not any((resolved.settings.training.warmup_from_zero, resolved.settings.pictures.line_break))


@pytest.mark.parametrize("name", [*REAL, "mini", "mini-no-extraction", "mini-qwen"])
def test_moelora_at_parity_has_five_experts_at_the_rank_of_loras_size(name, tmp_path):
    resolved = resolve(name)
    shapes = target_shapes(write_shapes(tmp_path / "model", name) if name in REAL else resolved.settings.model)
    values = method_settings(resolved, "moelora", "parity", layers=lambda: shapes).values
    assert (values.experts, values.rank) == (5, 125 if name in REAL else 30)
    assert values.rank % values.experts == 0


def test_a_language_model_may_be_a_folder_or_an_id(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vicuna").mkdir()
    for text, place in (("vicuna", tmp_path / "vicuna"), ("owner/Vicuna", hub.snapshot("owner/Vicuna", "model"))):
        resolved = resolve("mini", [f"o-lora.language_base={text}"])
        assert method_settings(resolved, "o-lora", "weight-difference").values.language_base == str(place)


def test_presets_explain_where_paper_and_code_differ():
    text = (Path(doctor.FOLDER) / "qwen2.5-vl-7b.yaml").read_text()
    assert "2e-4" in text
    assert "1e-4" in text
    assert "freezes B" in text


def test_a_hub_id_is_a_folder_in_the_cache(home):
    absent = resolve("llava-1.5-7b").settings.model
    assert not absent.exists()
    assert hub.repository_of(absent) == ("llava-hf/llava-1.5-7b-hf", "model")
    there = cached(home, "llava-hf/llava-1.5-7b-hf", "model", {"config.json": b"{}"})
    assert resolve("llava-1.5-7b").settings.model == there
    assert resolve("llava-1.5-7b").settings.data.knowledge == hub.snapshot("kailinjiang/EVOKE", "dataset")


def test_the_model_flag_takes_a_folder_or_an_id(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "model").mkdir(parents=True)
    for text, place, label in (
        ("some/model", tmp_path / "some/model", "model"),
        (str(tmp_path / "some"), tmp_path / "some", "some"),
        ("owner/Net-7B", hub.snapshot("owner/Net-7B", "model"), "Net-7B"),
    ):
        resolved = resolve("mini", (), {"model": text})
        assert resolved.settings.model == place
        assert resolved.settings.label == label  # not that of the preset's own model
        assert resolved.origin("model") == "--model"
    assert resolve("mini", ["label=mine"], {"model": "owner/Net-7B"}).settings.label == "mine"
    assert resolve("mini").settings.label == "mini-LLaVA"


def states(preset, *assignments):
    checks = {check.what: check for check in doctor.examine(Path(), preset, None, assignments)}
    return {name: checks[name].state for name in ("model", "EVOKE", *POOLS, "POPE", "MME")}, checks


def test_the_doctor_reports_what_a_preset_lacks_and_how_to_get_it(home, tmp_path):
    found, checks = states("llava-1.5-7b")
    assert set(found.values()) == {"missing"}
    assert checks["kore.data"].hint == "python -m harness fetch --preset llava-1.5-7b --only kore.data"
    assert checks["model"].hint == "python -m harness fetch --preset llava-1.5-7b --only model"
    assert "14 GB" in checks["model"].found
    assert "Llama 2" in checks["model"].found
    assert "5,127 rows (unverified); licence: MIT (unverified)" in checks["POPE"].found
    assert "951 rows; licence: BSD-3-Clause (unverified)" in checks["HallusionBench"].found
    assert "not known; ask its authors" in checks["MME"].found
    assert checks["GPU"].state == ("ok" if torch.cuda.is_available() else "warning")
    assert checks["judge"].state == "warning"
    cached(home, "llava-hf/llava-1.5-7b-hf", "model", {"config.json": b"{}", "model.safetensors": b""})
    names = {"json/jsonl/evoke_injection_data.json": b"[]", "json/jsonl/evoke_evaluation_data.jsonl": b""}
    cached(home, "kailinjiang/EVOKE", "dataset", {**names, "imgs/injection/x.zip": b""})
    rows, _ = synthetic.TABLES["POPE"]()
    (home / "LMUData").mkdir(parents=True)
    synthetic.write(rows, home / "LMUData" / "POPE.tsv")
    found, checks = states("llava-1.5-7b")
    assert found == {
        "model": "ok",
        "EVOKE": "ok",
        **dict.fromkeys(POOLS, "missing"),
        "POPE": "missing",
        "MME": "missing",
    }
    assert "not the published table" in checks["POPE"].found
    assert states("llava-1.5-7b", "data.published=false")[0]["POPE"] == "ok"
    assert [need.name for need in select_requirements(resolve("llava-1.5-7b"), None)][:3] == [
        *POOLS,
        "kore.data",
    ]
    with pytest.raises(UserError, match="nothing called 'POP'"):
        select_requirements(resolve("llava-1.5-7b"), "POP")


def test_a_model_without_one_of_its_shards_is_missing(home):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index, "model-1.safetensors": b""}
    folder = cached(home, "llava-hf/llava-1.5-7b-hf", "model", files)
    assert "model" in [need.name for need in select_requirements(resolve("llava-1.5-7b"), None)]
    (folder / "model-2.safetensors").write_bytes(b"")
    assert "model" not in [need.name for need in select_requirements(resolve("llava-1.5-7b"), None)]


def test_training_data_on_the_hub_is_reported_too_and_the_command_repeats_the_flags(home):
    assignments = ["kore.data=hub:owner/KORE-74K", "label=a b"]
    checks = {check.what: check for check in doctor.examine(Path(), "llava-1.5-7b", "owner/net", assignments)}
    assert checks["kore.data"].state == "missing"
    flags = "--preset llava-1.5-7b --model owner/net --set kore.data=hub:owner/KORE-74K --set 'label=a b'"
    assert checks["kore.data"].hint == f"python -m harness fetch {flags} --only kore.data"
    need = select_requirements(resolve("llava-1.5-7b", assignments), "kore.data")[0]
    assert (need.kind, need.source) == ("dataset", "owner/KORE-74K")
    there = cached(home, "owner/KORE-74K", "dataset", {"json/jsonl/KORE-74K-training_data.json": b"[]"})
    resolved = resolve("llava-1.5-7b", assignments)
    assert method_settings(resolved, "kore", layers=lambda: [(64, 64)]).values.data == str(there)
    assert not select_requirements(resolved, "kore.data")[0].problem


def test_training_data_may_be_named_relative_to_where_the_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "aug").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("mini", ["kore.data=aug"]).settings.methods["kore"]["data"] == str(tmp_path / "aug")
    assert resolve("mini", ["kore.data=kore"]).settings.methods["kore"]["data"] == "kore"
    crossed = resolve("mini", (), {"cross": parse_axes("evoke,./aug", ["learning_rate=1e-3,1e-2"])}).settings.cross
    assert [axis.values for axis in crossed] == [("evoke", str(tmp_path / "aug")), (1e-3, 1e-2)]


def test_the_doctor_says_how_each_benchmark_is_asked():
    def said(preset):
        return [check.found for check in doctor.examine(Path(), preset) if check.what == "answering"]

    twelve = ", ".join(SPEC_BY_NAME)
    assert said("qwen2.5-vl-7b") == [
        "EVOKE: EVOKE's script, at most 128 new tokens, the model's own repetition penalty, "
        "pictures as the model's folder says.",
        f"{twelve}: protocol vlmevalkit, at most 2,048 new tokens, repetition penalty 1.0, "
        "pictures min_pixels 1003520, max_pixels 12845056.",
    ]
    lines = said("llava-1.5-7b")
    assert all(line.endswith("pictures aspect pad.") for line in lines)
    assert sorted(name for line in lines for name in line.partition(":")[0].split(", ")) == sorted(
        ["EVOKE", *SPEC_BY_NAME]
    )
    assert not said("mini")


def test_without_a_preset_the_doctor_is_content_with_the_miniature(tmp_path):
    checks = {check.what: check for check in doctor.examine(tmp_path)}
    assert checks["preset mini"].state == "ok"
    assert checks["preset llava-1.5-7b"].state == "warning"
    assert checks["preset llava-1.5-7b"].hint == "python -m harness doctor --preset llava-1.5-7b"


def test_a_run_that_lacks_something_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    flags = ["--methods", "lora", "--preset", "llava-1.5-7b", "--benchmarks", "EVOKE,POPE"]
    for command in ("plan", "compare"):
        monkeypatch.setattr(sys, "argv", ["harness", command, *flags, "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == cli.USER_ERROR
        stderr = capsys.readouterr().err
        assert "preset llava-1.5-7b: model, EVOKE, POPE: not there" in stderr
        assert "python -m harness doctor" in stderr
    assert not (tmp_path / "out").exists()
    for rows, pools, named in (
        ("lora", "", False),
        ("replay", "replay-pool, ", False),
        ("kore:no-augmentation", "calibration-pool, ", False),
        ("kore", "calibration-pool, ", True),
        ("lora:equal-steps", "", True),
        ("o-lora:pseudo-task", "replay-pool, ", False),
    ):
        with pytest.raises(UserError, match=f"EVOKE, {pools}(kore.data, )?MME") as error:
            check_requirements(resolve("llava-1.5-7b"), ("vanilla", rows))
        assert ("kore.data" in str(error.value)) == named, rows


def test_on_a_miniature_the_hint_names_its_own_table():
    with pytest.raises(UserError, match="MME, POPE: not there") as error:
        check_requirements(resolve("mini", (), {"benchmarks": ["mini-EVOKE", "MME", "POPE"]}), ["lora"])
    assert error.value.hint.startswith("this preset has mini-MME, mini-POPE; `python -m harness doctor`")


def test_the_command_line_reaches_it(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "doctor", "--preset", "qwen2.5-vl-7b"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == cli.USER_ERROR
    assert "--only MathVista" in " ".join(capsys.readouterr().out.split())


def test_resolving_a_preset_uses_no_network(home):
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from harness.config.settings import resolve\nfrom harness.data.requirements import list_requirements\n"
        f"print(sum(bool(need.problem) for name in {REAL!r} for need in list_requirements(resolve(name))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == str(3 * 17), done.stderr


def _vlmevalkit() -> Path:
    """The package's folder; its files are read as text, because importing it takes seconds."""
    import importlib.util

    return Path(importlib.util.find_spec("vlmeval").submodule_search_locations[0])


def test_pictures_and_decoding_are_those_of_vlmevalkit_s_classes():
    listed = (_vlmevalkit() / "config.py").read_text().partition('"Qwen2.5-VL-7B-Instruct": partial(')[2]
    assert "min_pixels=1280 * 28 * 28,\n        max_pixels=16384 * 28 * 28," in listed.partition("),")[0]
    qwen = (_vlmevalkit() / "vlm/qwen2_vl/model.py").read_text().partition("class Qwen2VLChat(")[2]
    assert f"max_new_tokens={VLMEVALKIT_TOKENS},\n" in qwen
    assert f"repetition_penalty={VLMEVALKIT_PENALTY},\n" in qwen
    llava = (_vlmevalkit() / "vlm/llava/llava.py").read_text().partition("class LLaVA(")[2].partition("\nclass ")[0]
    assert f"max_new_tokens={VLMEVALKIT_TOKENS},\n" in llava
    assert "repetition_penalty" not in llava


def test_the_declared_md5s_are_vlmevalkit_s():
    folder = _vlmevalkit() / "dataset"
    files = ("image_yorn", "image_mcq", "image_vqa", "image_mt", "miabench")
    text = "".join((folder / f"{name}.py").read_text() for name in files)
    for spec in SPEC_BY_NAME.values():
        assert spec.md5 in text
        assert spec.url in text
