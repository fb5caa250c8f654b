"""The commands: exit codes, clean messages, and a ``list`` that takes well below a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness import cli
from harness.commands import compare, doctor
from helpers.paths import PYTHONPATH
from methods.registry import registered

NAME = "lora"


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_list_is_quick_and_imports_no_torch(tmp_path):
    script = (
        "import json, resource, sys\n"
        "from harness.cli import main\n"
        "sys.argv = ['harness', 'list']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps([sorted(sys.modules), used.ru_utime + used.ru_stime]))\n"
    )
    # As where it is installed: both sides are read from compiled files, from the second time on.
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
        )
        *lines, last = done.stdout.splitlines()
        modules, used = json.loads(last)
        seconds.append(used)
    assert not {"torch", "transformers", "peft", "pandas", "matplotlib"} & set(modules)
    assert "typer" in modules  # the modules are really those of the command
    text = "\n".join(lines)
    assert all(name in text for name in registered())
    assert all(word in text for word in ("mini-EVOKE", "mini-POPE", "Presets", "mini"))
    # Processor time, since wall time depends on the machine's load, beside that of the libraries which it needs.
    libraries = "import typer, yaml, pydantic, rich.progress, rich.table, PIL.Image, resource\n"
    libraries += "used = resource.getrusage(resource.RUSAGE_SELF)\nprint(used.ru_utime + used.ru_stime)"
    command = [sys.executable, "-c", libraries]
    bare = [float(subprocess.check_output(command, text=True, env=environment)) for _ in range(3)]
    assert min(seconds) < 4 * min(bare)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--methods", f"{NAME[:-1]}"], f"did you mean {NAME!r}"),
        (["compare", "--methods", ","], "no name is given"),
        (["compare", "--methods", NAME, "--preset", "nimi"], "did you mean 'mini'"),
        (["compare", "--methods", NAME, "--benchmarks", "mini-EVOK"], "mini-EVOKE"),
        (["compare", "--methods", NAME, "--set", "training.epoch=1"], "training.epochs"),
        (["compare", "--methods", NAME, "--seeds", "none"], "--seeds"),
        (["compare", "--methods", NAME, "--plugin", "nowhere.py"], "nowhere.py"),
        (["plan", "--methods", NAME, "--set", "model=nowhere"], "config.json"),
        (["report", "nowhere"], "no finished run"),
        (["verify", "nowhere"], "no finished run"),
        (["tune", "--methods", NAME, "--rates", "fast"], "--rates"),
    ],
)
def test_errors_of_the_user_are_printed_without_a_traceback(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == cli.USER_ERROR
    printed = capsys.readouterr().err
    assert message in printed
    assert "Hint:" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "arguments", [["compare"], ["compare", "--methods"], ["nonsense"], ["compare", "--limit", "x"]]
)
def test_wrong_usage_is_a_user_error(monkeypatch, arguments):
    assert run(monkeypatch, *arguments) == cli.USER_ERROR


def test_a_stopped_run_says_what_is_kept(monkeypatch, tmp_path, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "compare", stopped)
    assert run(monkeypatch, "compare", "--methods", NAME) == cli.STOPPED
    assert "what was finished is kept" in capsys.readouterr().err


def test_a_command_that_is_stopped_before_it_begins_ends_in_the_same_way(monkeypatch, capsys):
    """Reading its options takes a moment, in which a signal may come."""

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stop)
    assert run(monkeypatch, "compare", "--methods", NAME) == cli.STOPPED
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped; what was finished is kept")


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "compare", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(monkeypatch, "compare", "--methods", NAME)


def test_the_doctor_names_what_is_missing_and_the_command_that_fixes_it(monkeypatch, tmp_path, capsys):
    assert {check.state for check in doctor.examine(tmp_path)} <= {"ok", "warning", "missing"}
    version_of = doctor.version_of
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch>=2.11", "peft>=0.21", 'x; extra == "dev"'])
    monkeypatch.setattr(
        doctor, "version_of", lambda name: "" if name == "peft" else "0.1" if name == "torch" else version_of(name)
    )
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    checks = {check.what: check for check in doctor.examine(tmp_path)}
    assert (checks["peft"].state, checks["torch"].state) == ("missing", "warning")
    assert checks["peft"].hint == 'pip install "peft>=0.21"'
    assert "x" not in checks
    assert (checks["VLMEvalKit"].state, checks["VLMEvalKit"].hint) == (
        "missing",
        f"pip install --no-deps {doctor.VLMEVAL}",
    )
    assert run(monkeypatch, "doctor", "--out", str(tmp_path)) == cli.USER_ERROR
    assert "pip install --no-deps" in capsys.readouterr().out


def test_versions_are_compared_as_numbers():
    assert doctor._satisfies("2.13.0+cpu", "torch>=2.11")
    assert not doctor._satisfies("2.9.1", "torch>=2.11")
    assert doctor._satisfies("1.11", "antlr==1.11.0")
    assert not doctor._satisfies("1.12", "antlr==1.11.0")
    assert doctor._satisfies("5.24.0", "transformers>=5.17,<5.40")
    assert not doctor._satisfies("5.40.0", "transformers>=5.17,<5.40")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' OpenMP prints other words")
@pytest.mark.parametrize(
    ("given", "spins"), [({}, "10000"), ({"OMP_WAIT_POLICY": "passive"}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_threads_that_wait_soon_sleep_unless_the_environment_says_otherwise(tmp_path, given, spins):
    """OpenMP prints what it read when torch, or this test, loads it: a command has to set it before."""
    script = (
        "import sys\n"
        "from harness.cli import main\n"
        "sys.argv = ['harness', 'list', '--presets']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "import ctypes, importlib.util, pathlib\n"
        "folder = pathlib.Path(importlib.util.find_spec('torch').origin).parents[1]\n"
        "ctypes.CDLL(str(next(folder.glob('torch*/**/libgomp*.so*'))))\n"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**own, "PYTHONPATH": PYTHONPATH, "OMP_DISPLAY_ENV": "VERBOSE", **given}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr, done.stderr
