"""The checks of a model family pass on ours and name the fault of each broken one."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.errors import UserError
from harness.cli import app
from harness.commands.doctor import examine
from harness.conformance.model_runner import run_model_check, run_model_checks
from harness.conformance.model_scenarios import ModelScenarios
from harness.conformance.registry import MODEL_CHECKS
from harness.models import base, registry
from harness.models.processor_model import ProcessorModel
from harness.models.registry import family_of
from helpers.broken_families import BROKEN
from helpers.missing_libraries import replace_missing_libraries
from helpers.tiny_architectures import ARCHITECTURES, write
from methods import entry_points

CPU = torch.device("cpu")
SMALL = "llava-siglip"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return ModelScenarios(write(SMALL, tmp_path_factory.mktemp(SMALL)), ProcessorModel, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("family", BROKEN, ids=lambda family: family.__name__)
def test_each_broken_family_is_named_by_its_check(sound, family):
    name, pattern = BROKEN[family]
    assert run_model_check(MODEL_CHECKS[name], sound).state == "passed", "control"
    scenarios = ModelScenarios(sound.folder, family, CPU)
    vars(scenarios)["plain"] = sound.plain
    outcome = run_model_check(MODEL_CHECKS[name], scenarios)
    assert outcome.state == "failed", outcome
    assert re.search(pattern, outcome.detail), outcome.detail


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_passes_all_checks(name, tmp_path):
    replace_missing_libraries()
    folder = write(name, tmp_path / name)
    outcomes = run_model_checks(folder, family_of(folder), CPU)
    assert {outcome.check.id: outcome.detail for outcome in outcomes if not outcome.ok} == {}
    passed = {outcome.check.id for outcome in outcomes if outcome.state == "passed"}
    assert passed >= {"check_token_ids", "check_logits", "check_text", "check_adapter", "check_targets"}


def test_the_generic_family_has_the_ids_and_logits_of_the_plain_call(sound):
    for name in ("check_token_ids", "check_logits", "check_supervised_tokens"):
        outcome = run_model_check(MODEL_CHECKS[name], sound)
        assert outcome.state == "passed", outcome.detail


@pytest.mark.slow
def test_the_command_prints_each_failure_with_its_hint_and_exits_with_1(sound, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from helpers.broken_families import NoEnd\n\n\n"
        "class Own(NoEnd):\n    architecture = 'LlavaForConditionalGeneration'\n"
    )
    before = dict(base.FAMILIES)
    try:
        done = CliRunner().invoke(app, ["check-model", str(sound.folder), "--device", "cpu", "--plugin", str(file)])
    finally:
        base.FAMILIES.clear()
        base.FAMILIES.update(before)
    assert done.exit_code == 1, done.output
    shown = " ".join(done.output.split())
    assert "by Own · check_supervised_tokens: failed" in shown
    assert MODEL_CHECKS["check_supervised_tokens"].hint in shown
    assert re.search(r"1 failed, \d+ passed", shown)


@pytest.mark.parametrize(
    ("arguments", "problem"), [(["nowhere"], "not a model folder"), (["x", "--device", "tpu"], "tpu")]
)
def test_the_command_explains_what_it_cannot_check(arguments, problem):
    done = CliRunner().invoke(app, ["check-model", *arguments])
    assert isinstance(done.exception, UserError)
    assert problem in str(done.exception)


def test_a_package_whose_family_does_not_load_is_a_warning(monkeypatch, caplog, tmp_path):
    class Entry:
        name, value = "mine", "mine:Family"

        def load(self):
            raise ImportError("no module")

    def forget():
        entry_points.load_installed.cache_clear()
        registry._load_families.cache_clear()

    forget()
    monkeypatch.setattr(entry_points, "entry_points", lambda group: [Entry()] if group == "harness.models" else [])
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MambaForCausalLM"]}))
    try:
        for _ in range(2):
            with pytest.raises(UserError, match=r"mine = mine:Family: it does not load \(ImportError: no module\)"):
                registry.family_of(tmp_path)
        assert "warning" in {check.state for check in examine(tmp_path) if check.what.startswith("entry point mine")}
    finally:
        forget()
    assert caplog.text.count("entry point mine = mine:Family") == 1
