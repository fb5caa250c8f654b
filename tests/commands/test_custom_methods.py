"""A method from outside: a new file, a plug-in, an installed package; and what a bad one is told."""

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
from harness.conformance.runner import good, run
from harness.conformance.subject import MethodUnderTest
from helpers.paths import ROOT
from helpers.small_runs import lay_out
from methods import registry as catalogue
from methods.registry import registered

PACKAGE = ROOT / "tests" / "plugin_package"
HEAD = "from methods.base import InjectionMethod\nfrom methods.lora import LoRA\nclass Mine(LoRA):\n    name = '{}'\n"


@pytest.fixture(autouse=True)
def registry_kept(monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))


def written(folder, name, body):
    path = folder / f"{name.replace('-', '_')}.py"
    path.write_text(HEAD.format(name) + "".join(f"    {line}\n" for line in body.splitlines()))
    return path


def test_a_new_method_is_short_and_keeps_the_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new-method", "my_idea"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "my_idea.py"
    assert len(path.read_text().splitlines()) <= 40
    checked = CliRunner().invoke(app, ["check-method", "my-idea", "--plugin", str(path)])
    assert checked.exit_code == 0, checked.output
    assert re.search(r"^my-idea: \d+ passed, 1 not applicable$", checked.output, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", str(path)], check=True)


@pytest.mark.parametrize("name", ["", "My Idea", "../idea", "9lives", "lora", "full_ft", "a__b"])
def test_a_bad_name_is_refused(tmp_path, name):
    with pytest.raises(UserError):
        new_method(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(tmp_path):
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
    for said in ("hooks-known: failed", "nobody calls regularise", "documented: failed", "Rename it to the hook"):
        assert said in done.output


def test_what_could_not_be_checked_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    idle = written(tmp_path, "idle-idea", "variants = {}\ndef parameter_groups(self, model):\n    return iter(())")
    done = CliRunner().invoke(app, ["check-method", "idle-idea", "--plugin", str(idle)])
    assert done.exit_code == 1
    assert "parameter_groups gives no parameter" in done.output
    assert done.output.count("it trains nothing") == 1
    assert re.search(r"they: .*loss-falls, .*carried-storable", done.output)


def test_an_unknown_method_is_the_users_mistake():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check-method", "lorra"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean lora?" in done.stderr


def test_a_file_with_a_misspelt_hook_is_refused_and_one_may_be_loaded_twice(tmp_path):
    with pytest.raises(UserError, match="did you mean 'penalty'"):
        catalogue.load_file(
            written(tmp_path, "misspelt", "def penalties(self, model, batch, logits):\n    return None")
        )
    assert "misspelt" not in registered()
    for _ in range(2):
        catalogue.load_file(written(tmp_path, "spelt", "variants = {}"))
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
        "not what it was before",
    ),
    "leaves-a-part": (
        "def attach(self, model, prepared):\n"
        "    import torch\n"
        "    super().attach(model, prepared)\n"
        "    model.module.register_parameter('stray', torch.nn.Parameter(torch.ones(1)))",
        "failed",
        "not what it was before",
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


def test_bad_methods_are_marked_rows_that_do_not_stop_the_others(tmp_path, tiny_folder, short_answers):
    for name, (body, _, _) in BAD.items():
        catalogue.load_file(written(tmp_path, name, body))
    preset = lay_out(tmp_path, tiny_folder)
    told = []
    assignments = ["training.epochs=1"]
    outcome = compare(Request((*BAD, "lora"), resolve(str(preset), assignments), tmp_path / "run"), told.append)
    products = {product.cell.method: product for product in outcome.products}
    for name, (_, status, reason) in BAD.items():
        assert (products[name].status, reason in products[name].reason) == (status, True), products[name].reason
        assert not products[name].trace
    assert products["lora"].status == "ok"
    assert {cell.method: cell.status for cell in outcome.run.cells} == {
        "vanilla": "ok", "lora": "ok", **{name: status for name, (_, status, _) in BAD.items()}
    }  # fmt: skip


def test_an_installed_package_is_found_and_used(tmp_path, tiny_folder, short_answers, monkeypatch):
    """It is built, and installed into a folder of its own."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, tmp_path / "package")  # building leaves files beside the sources
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(tmp_path / "package")], check=True, timeout=300)

    listed = [sys.executable, "-m", "harness", "list"]
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}
    done = subprocess.run(listed, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "sparse-lora:strong" in done.stdout
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sparse-lora" not in done.stdout, "control: without the package it is not there"

    monkeypatch.syspath_prepend(str(site))
    catalogue.load_installed.cache_clear()
    try:
        method, _ = catalogue.method_named("sparse-lora:strong")
        outcomes = run(MethodUnderTest(method, "strong"), slow=False)
        assert good(outcomes), [(outcome.check.id, outcome.seen) for outcome in outcomes if not outcome.good]
        preset = resolve(str(lay_out(tmp_path, tiny_folder, items=4)), ["training.epochs=1"])
        outcome = compare(Request(("sparse-lora",), preset, tmp_path / "run"), lambda line: None)
        assert {cell.method: cell.status for cell in outcome.run.cells} == {"vanilla": "ok", "sparse-lora": "ok"}
    finally:
        sys.modules.pop("sparse_lora", None)
        monkeypatch.undo()
        catalogue.load_installed.cache_clear()
