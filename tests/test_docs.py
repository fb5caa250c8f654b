"""What the pages tell a reader to type is understood: commands, their flags, presets, settings and links."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from harness.cli import app
from harness.config.method_settings import method_settings
from harness.config.settings import resolve
from harness.data.requirements import chosen, needs
from helpers.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = "python -m harness "


def commands(page):
    """The words of each command of a page after ``python -m harness``; lines that end in a backslash go on."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if COMMAND in line and line.startswith(("    ", "python"))]
    return [shlex.split(line.partition(COMMAND)[2].rstrip("`"), comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page):
    for name, *arguments in commands(page):
        if "..." in arguments:
            continue
        get_command(app).commands[name].make_context(name, list(arguments))


def test_there_is_something_to_understand():
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
    text = (ROOT / "docs" / "reproduce-kore.md").read_text("utf-8")
    named = dict.fromkeys(re.findall(r"--set\s+([\w.]+=[\w.:/-]+)", text))
    assert len(named) > 5
    for assignment in named:
        folder = "FOLDER" in assignment
        resolved = resolve("llava-1.5-7b", [] if folder else [assignment])
        if assignment.startswith("kore.") and "hub:" not in assignment and not folder:
            assert method_settings(resolved, "kore")
    only = re.findall(r"--only (\S+)", text)
    assert [need.name for need in chosen(needs(resolve("llava-1.5-7b")), only[0])] == ["model", "POPE"]
