"""Methods from outside: a new file, a plug-in, an installed package; and the messages about bad ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from benchmarks.errors import UserError
from harness.cli import app
from harness.commands.compare import compare
from harness.commands.new_method import new_method
from harness.config.settings import Request, resolve
from harness.conformance.checks import CHECKS
from harness.conformance.runner import run_checks
from harness.conformance.subject import MethodUnderTest
from helpers.paths import ROOT
from helpers.small_runs import write_preset
from helpers.tiny_architectures import write
from methods import registry
from methods.entry_points import load_installed
from methods.registry import registered

PACKAGE = ROOT / "tests" / "plugin_package"
HEAD = "from methods.base import InjectionMethod\nfrom methods.lora import LoRA\nclass Mine(LoRA):\n    name = '{}'\n"


@pytest.fixture(autouse=True)
def restored_registry(monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))


def written(folder, name, body):
    path = folder / f"{name.replace('-', '_')}.py"
    path.write_text(HEAD.format(name) + "".join(f"    {line}\n" for line in body.splitlines()))
    return path


@pytest.mark.slow
def test_a_new_method_is_short_and_keeps_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new-method", "my_idea"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "my_idea.py"
    assert len(path.read_text().splitlines()) <= 40
    checked = CliRunner().invoke(app, ["check-method", "my-idea", "--plugin", str(path)])
    assert checked.exit_code == 0, checked.output
    assert re.search(r"^my-idea: \d+ passed, 8 not applicable$", checked.output, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", str(path)], check=True)


@pytest.mark.slow
def test_a_new_method_without_training_keeps_what_applies_of_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new-method", "my_idea", "--without-training"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "my_idea.py"
    checked = CliRunner().invoke(app, ["check-method", "my-idea", "--plugin", str(path)])
    assert checked.exit_code == 0, checked.output
    passed, not_applicable = map(int, re.search(r"my-idea: (\d+) passed, (\d+) not", checked.output).groups())
    assert not_applicable == 5 + sum(check.training for check in CHECKS.values())
    assert passed + not_applicable == len(CHECKS)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", str(path)], check=True)


def test_a_method_without_training_is_a_row(tmp_path, tiny_folder, short_answers):
    """It is asked and ranked, has no training data and no steps, and knows the items that it is about."""
    path = new_method("my-idea", tmp_path, trains=False)
    path.write_text(
        path.read_text() + "\n    def diagnostics(self, prepared):\n"
        "        return {'items': float(prepared['items'])}\n"
        "\n    def prepare(self, model, resources):\n        import torch\n\n"
        "        return {'items': torch.tensor(float(len(resources.knowledge)))}\n"
    )
    registry.load_file(path)
    preset = write_preset(tmp_path, tiny_folder)
    row = compare(Request(("my-idea",), resolve(str(preset), ("my-idea.rank=4",)), tmp_path / "run")).run.cells[-1]
    assert (row.status, row.reason, row.label) == ("ok", "", "my-idea")
    assert row.scores
    assert row.ranked
    assert (row.training, row.cost.optimiser_steps) == ((), 0)
    assert row.diagnostics["items"] > 0


@pytest.mark.parametrize("name", ["", "My Idea", "../idea", "9lives", "lora", "full_ft", "a__b"])
def test_a_bad_name_is_refused(tmp_path, name):
    with pytest.raises(UserError):
        new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = new_method("my-idea", tmp_path)
    path.write_text("mine")
    with pytest.raises(UserError, match="there already"):
        new_method("my-idea", tmp_path)
    assert path.read_text() == "mine"


def test_check_method_explains_each_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    unsound = written(tmp_path, "unsound-idea", "variants = {}\ndef regularise(self):\n    return 1")
    done = CliRunner().invoke(app, ["check-method", "unsound-idea", "--plugin", str(unsound)])
    assert done.exit_code == 1
    for message in (
        "check_no_unknown_hooks: failed",
        "nothing calls regularise",
        "check_docstring: failed",
        "Rename it to the hook",
    ):
        assert message in done.output


def test_the_reason_of_inconclusive_checks_is_printed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    idle = written(tmp_path, "idle-idea", "variants = {}\ndef parameter_groups(self, model):\n    return iter(())")
    done = CliRunner().invoke(app, ["check-method", "idle-idea", "--plugin", str(idle)])
    assert done.exit_code == 1
    assert "parameter_groups gives no parameter" in done.output
    assert done.output.count("it trains nothing") == 1
    assert re.search(r"they: .*check_loss_decreases, .*check_stage_state_tensors", done.output)


@pytest.mark.slow
def test_check_method_takes_a_model_of_another_family(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = write("llava-siglip", tmp_path / "model")
    broken = str(written(tmp_path, "broken-idea", "def detach(self, model):\n    return"))
    on_model = ["--model", str(folder)]
    sound = CliRunner().invoke(app, ["check-method", "lora", *on_model])
    unsound = CliRunner().invoke(app, ["check-method", "broken-idea", "--plugin", broken, *on_model])
    assert sound.exit_code == 0, sound.output
    assert unsound.exit_code == 1
    assert re.search(r"check_detach\w*: failed", unsound.output)


def test_a_folder_without_a_model_is_an_error_of_the_user_and_not_of_the_method(tmp_path):
    done = CliRunner().invoke(app, ["check-method", "lora", "--model", str(tmp_path / "nothing")])
    assert isinstance(done.exception, UserError)
    assert str(tmp_path / "nothing") in str(done.exception)


def test_an_unknown_method_is_a_user_error():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check-method", "lorra"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean 'lora'?" in done.stderr


def test_a_scaled_row_has_no_code_of_its_own_to_check():
    done = CliRunner().invoke(app, ["check-method", "lora:scaled-0.5"])
    assert isinstance(done.exception, UserError)
    assert done.exception.hint == "name lora instead"


def test_a_file_with_a_misspelt_hook_is_refused_and_one_may_be_loaded_twice(tmp_path):
    with pytest.raises(UserError, match="did you mean 'penalty'"):
        registry.load_file(written(tmp_path, "misspelt", "def penalties(self, model, batch, logits):\n    return None"))
    assert "misspelt" not in registered()
    for _ in range(2):
        registry.load_file(written(tmp_path, "spelt", "variants = {}"))
    assert "spelt" in registered()


BAD = {
    "trains-nothing": ("def parameter_groups(self, model):\n    return iter(())", "failed", "trains nothing"),
    "not-a-number": (
        "def penalty(self, model, batch, logits):\n    return logits.sum() * float('nan')",
        "diverged",
        "the method's penalty is nan",
    ),
    "no-scalar": ("def penalty(self, model, batch, logits):\n    return logits", "failed", "not a scalar"),
    "changes-base": (
        "def attach(self, model, prepared):\n"
        "    next(model.module.parameters()).data.add_(1)\n"
        "    super().attach(model, prepared)",
        "failed",
        "the base model has changed",
    ),
    "leaves-a-part": (
        "def attach(self, model, prepared):\n"
        "    import torch\n"
        "    super().attach(model, prepared)\n"
        "    model.module.register_parameter('stray', torch.nn.Parameter(torch.ones(1)))",
        "failed",
        "the base model has changed",
    ),
    "pickles": (
        "def export(self, model):\n    return {**super().export(model), 'settings': self.settings}",
        "failed",
        "never pickles",
    ),
    "blows-up": (
        "def penalty(self, model, batch, logits):\n"
        "    b = [p for n, p in model.module.named_parameters() if 'lora_B' in n]\n"
        "    return (1e30 * sum(p.square().sum() for p in b)) ** 2",
        "diverged",
        "diverged",
    ),
}


@pytest.mark.slow
def test_bad_methods_are_marked_rows_that_do_not_stop_the_others(tmp_path, tiny_folder, short_answers):
    for name, (body, _, _) in BAD.items():
        registry.load_file(written(tmp_path, name, body))
    preset = write_preset(tmp_path, tiny_folder)
    assignments = ["training.epochs=1"]
    result = compare(Request((*BAD, "lora"), resolve(str(preset), assignments), tmp_path / "run"))
    outputs = {output.cell.method: output for output in result.outputs}
    for name, (_, status, reason) in BAD.items():
        assert (outputs[name].status, reason in outputs[name].reason) == (status, True), outputs[name].reason
        assert not outputs[name].trace
    assert outputs["lora"].status == "ok"
    assert {cell.method: cell.status for cell in result.run.cells} == {
        "vanilla": "ok", "lora": "ok", **{name: status for name, (_, status, _) in BAD.items()}
    }  # fmt: skip


@pytest.mark.slow
def test_an_installed_package_is_found_and_used(tmp_path, tiny_folder, short_answers, monkeypatch):
    """It is built, and installed into its own folder."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, tmp_path / "package")  # building leaves files beside the sources
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(tmp_path / "package")], check=True, timeout=300)

    listed = [sys.executable, "-m", "harness", "list"]
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    done = subprocess.run(listed, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "sparse-lora:strong" in done.stdout
    assert re.search("colours +from an installed package", done.stdout)
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sparse-lora" not in done.stdout, "control: without the package it is not there"
    assert "colours" not in done.stdout

    monkeypatch.syspath_prepend(str(site))
    load_installed.cache_clear()
    try:
        method, _ = registry.get_method("sparse-lora:strong")
        outcomes = run_checks(MethodUnderTest(method, "strong"), slow=False)
        assert not [(outcome.check.id, outcome.detail) for outcome in outcomes if not outcome.ok]
        preset = resolve(
            str(write_preset(tmp_path, tiny_folder, items=4, benchmarks="mini-EVOKE, colours")), ["training.epochs=1"]
        )
        result = compare(Request(("sparse-lora",), preset, tmp_path / "run"))
        assert {cell.method: cell.status for cell in result.run.cells} == {"vanilla": "ok", "sparse-lora": "ok"}
        assert all(cell.scores["colours"].n == 12 for cell in result.run.cells)
    finally:
        sys.modules.pop("sparse_lora", None)
        sys.modules.pop("colours_benchmark", None)
        monkeypatch.undo()
        load_installed.cache_clear()
