"""The documentation is true: its commands, settings, links, names of code and tests, and the command line reference."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import harness
from harness.cli import app
from harness.config.method_settings import method_settings
from harness.config.settings import resolve
from harness.data.requirements import select_requirements
from helpers import published_layout
from helpers.paths import ROOT
from methods.base import InjectionMethod
from methods.registry import registered
from tools import cli_reference, fidelity_choices, fidelity_page

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
CODE = re.compile(r"`([\w./-]+\.py):(\w+(?:\.\w+)?)`")
"""``path/file.py:function`` or ``path/file.py:Class.method``."""
COMMAND = "python -m harness "


def commands(page):
    """The words of each command of a page after ``python -m harness``; a backslash continues a line."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if COMMAND in line and line.startswith(("    ", "python"))]
    return [shlex.split(line.partition(COMMAND)[2].rstrip("`"), comments=True) for line in lines]


def all_commands():
    """Every command by its words, also those of a group: ``answers export``."""
    found = {}
    for name, command in get_command(app).commands.items():
        own = getattr(command, "commands", {})
        found |= {f"{name} {part}": one for part, one in own.items()} if own else {name: command}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page):
    known = all_commands()
    for words in commands(page):
        if "..." in words:
            continue
        length = 1 if words[0] in known else 2
        name = " ".join(words[:length])
        known[name].make_context(name, words[length:])


def test_control_there_are_commands_and_a_wrong_one_is_noticed():
    assert len(commands(ROOT / "docs" / "reproduce-kore.md")) >= 9
    assert sum(len(commands(page)) for page in PAGES) > 20
    with pytest.raises(Exception, match="--presett"):
        get_command(app).commands["plan"].make_context("plan", ["--methods", "x", "--presett", "y"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_settings_and_names_of_the_reproduction_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kore = published_layout.write_kore_74k(tmp_path / "KORE-74K", 1)
    published_layout.cached(tmp_path, "dataset", published_layout.KORE_74K, kore)
    text = (ROOT / "docs" / "reproduce-kore.md").read_text("utf-8")
    named = dict.fromkeys(re.findall(r"--set\s+([\w.]+=[\w.:/-]+)", text))
    assert len(named) > 5
    for assignment in named:
        folder = "FOLDER" in assignment
        resolved = resolve("llava-1.5-7b", [] if folder else [assignment])
        if assignment.startswith("kore.") and "hub:" not in assignment and not folder:
            assert method_settings(resolved, "kore", layers=lambda: [(4096, 4096)])
    only = re.findall(r"--only (\S+)", text)
    assert [need.name for need in select_requirements(resolve("llava-1.5-7b"), only[0])] == ["model", "POPE"]


def defined_names(path: Path) -> set[str]:
    """Functions, classes and constants of a module, and ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{one.name}" for one in inner if isinstance(one, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_code_exists(page):
    missing = [
        f"{path}:{name}"
        for path, name in CODE.findall(page.read_text("utf-8"))
        if not (ROOT / path).exists() or name not in defined_names(ROOT / path)
    ]
    assert missing == []


def test_control_code_is_named_and_a_wrong_name_is_noticed():
    assert len(CODE.findall((DOCS / "architecture.md").read_text("utf-8"))) > 40
    assert "Store.read_json" in defined_names(ROOT / "harness" / "storage" / "store.py")
    assert "Store.read_jsom" not in defined_names(ROOT / "harness" / "storage" / "store.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page):
    top = "benchmarks|docs|examples|harness|methods|reports|tests|tools"
    named = set(re.findall(rf"`((?:{top})/[\w./-]+)`", page.read_text("utf-8")))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_invariant_and_oracle_has_a_test_of_its_number():
    rows = dict(re.findall(r"^\| ([IO]\d+) \| (.+)$", (DOCS / "architecture.md").read_text("utf-8"), re.MULTILINE))
    assert rows.keys() == {*(f"I{n}" for n in range(1, 10)), *(f"O{n}" for n in range(1, 11))}
    for number, row in rows.items():
        assert any(path.startswith("tests/") for path, _ in CODE.findall(row)), number


def test_the_command_line_reference_is_current():
    assert cli_reference.PAGE.read_text("utf-8") == cli_reference.render(), "run `make cli`"


def test_the_page_of_choices_is_current():
    assert fidelity_page.PAGE.read_text("utf-8") == fidelity_page.render(), "run `make fidelity`"


def test_the_page_of_choices_shows_the_values_of_the_presets():
    assert fidelity_page.fill_in("{training.epochs}") == "`6`"
    assert fidelity_page.fill_in("{kore.training.batch_size}") == "`216` (7B), `128` (13B), `768` (Qwen)"
    assert fidelity_page.fill_in("{kore.rank}") == "`parity:lora` (7B, 13B), `274` (Qwen)"
    assert fidelity_page.fill_in("{kore:no-constraint.rank}") == "`128`"


@pytest.mark.parametrize("choice", fidelity_choices.CHOICES, ids=lambda choice: choice.setting)
def test_each_choice_names_a_test_that_exists(choice):
    file, _, name = choice.test.partition("::")
    assert not name or name in defined_names(ROOT / "tests" / file)
    assert (ROOT / "tests" / file).is_file()


def test_the_command_line_reference_lists_every_command_and_option():
    page = cli_reference.render()
    shown = {name: command for name, command in all_commands().items() if not command.hidden}
    assert len(shown) > 10
    assert "answers import" in shown
    for name, command in shown.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for option in (flag for one in command.params for flag in one.opts if flag.startswith("--")):
            assert option in section, f"{name} {option}"


def test_the_hooks_of_each_method_are_those_it_overrides():
    table = (DOCS / "methods.md").read_text("utf-8").partition("What the included methods override")[2]
    listed = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|", table.partition("\n## ")[0], re.MULTILINE))
    hooks = [
        name
        for name in vars(InjectionMethod)
        if not name.startswith("_") and callable(vars(InjectionMethod)[name]) and name != "Settings"
    ]
    own = {name: kind for name, kind in registered().items() if kind.__module__.startswith("methods.")}
    assert listed.keys() == own.keys()
    for name, kind in own.items():
        overridden = {hook for hook in hooks if getattr(kind, hook) is not getattr(InjectionMethod, hook)}
        assert set(re.findall(r"`(\w+)`", listed[name])) == overridden, name


def test_every_page_is_in_the_navigation():
    def files(entry):
        if isinstance(entry, str):
            return [entry]
        return [name for part in (entry.values() if isinstance(entry, dict) else entry) for name in files(part)]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(files(nav)) == sorted(page.name for page in DOCS.glob("*.md"))


def test_one_version_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert harness.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE).group(1) == version


def test_locked_versions_fit_the_requirements():
    """What ``make demo`` installs is exact, complete for direct requirements, and within their bounds."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    locked = {canonicalize_name(one.name): next(iter(one.specifier)) for one in map(Requirement, lines)}
    assert all(pin.operator == "==" and "+" not in pin.version for pin in locked.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["docs"], *extras["deepspeed"]]
    for requirement in map(Requirement, wanted):
        if requirement.name != "setuptools":
            assert locked[canonicalize_name(requirement.name)].version in requirement.specifier, requirement.name
