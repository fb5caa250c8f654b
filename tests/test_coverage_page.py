"""``docs/coverage.md``: what it says is covered has a command, and each command runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from harness.cli import app
from helpers.paths import PYTHONPATH, ROOT

PAGE = (ROOT / "docs" / "coverage.md").read_text("utf-8")
LINE = re.compile(r"^    python -m (harness .+?)  # ([\w-]+)$", re.MULTILINE)
COMMANDS = {match[2]: shlex.split(match[1]) for match in LINE.finditer(PAGE)}
"""The words of each command after ``python -m``, by the word that stands for it."""
READS = {"beside-paper": ("main",), "both-models": ("main", "other-model")}
"""Commands that read what others wrote."""
LIMIT = "6"


def rows() -> list[list[str]]:
    """The cells of each line of each table, without heads."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and not re.match(r"\|[-| ]+\|$", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [each for each in cells if each[-1] != "commands"]


def named(cell: str) -> list[str]:
    """The commands that a cell names, without files, rows and options in code font."""
    return re.findall(r"`([a-z][a-z-]*)`", re.sub(r"\([^)]*\)", "", cell))


def test_every_line_has_commands_that_exist_or_says_that_it_is_not_covered():
    assert len(rows()) > 40
    for cells in rows():
        assert set(named(cells[-1])) <= COMMANDS.keys(), cells
        words = ("*not covered*", "nothing is measured", "the presets")
        assert named(cells[-1]) or any(word in cells[-1] for word in words), cells


def test_every_command_is_named_in_a_table():
    used = {name for cells in rows() for name in named(cells[-1])}
    assert COMMANDS.keys() - used == set()
    assert len(COMMANDS) == len(re.findall(r"^    python -m harness", PAGE, re.MULTILINE)), (
        "a word stands for two commands"
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs a command of the page in a folder of its own, once, after those whose results it reads."""
    folder, done = tmp_path_factory.mktemp("coverage"), {}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        for other in READS.get(name, ()):
            run(other)
        if name not in done:
            done[name] = start(COMMANDS[name], folder)
        return done[name]

    return run


def start(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, limited if it can be, from the folder; files of the repository are named in full."""
    words = [re.sub(r"(^|=)(examples|benchmarks)/", rf"\1{ROOT}/\2/", word) for word in words]
    command = get_command(app)
    for word in words[1:3]:  # the second is a command of a group, or an option
        command = getattr(command, "commands", {}).get(word, command)
    if any("--limit" in option.opts for option in command.params):
        words = [*words, "--limit", LIMIT]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_runs(name, ran):
    done = ran(name)
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    assert "not delivered" not in done.stdout
    assert done.stdout.strip()


@pytest.mark.slow
def test_control_a_wrong_command_is_noticed(tmp_path):
    done = start(["harness", "compare", "--methods", "no-such-method"], tmp_path)
    assert done.returncode == 2
    assert "no method is named" in done.stderr
