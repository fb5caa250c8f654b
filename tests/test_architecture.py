"""The house keeps its shape: arrows run one way, files stay small, and nothing dangerous is called."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from helpers.paths import ROOT

ROOMS = ("harness", "methods", "benchmarks", "reports", "tools")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

FORBIDDEN_IMPORTS = {
    "methods": {"harness", "reports"},
    "benchmarks": {"harness", "methods", "reports"},
    "reports": {"harness", "methods", "torch"},
}
PICKLES = {"pickle", "dill", "joblib", "shelve", "cloudpickle"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports_of(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_arrows_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    assert not imports_of(tree_of(path)) & FORBIDDEN_IMPORTS.get(room, set())


def test_only_the_adapter_imports_vlmeval():
    importing = {name for name, path in zip(NAMES, FILES, strict=True) if "vlmeval" in imports_of(tree_of(path))}
    assert importing == {"benchmarks/vlmeval/adapter.py"}


def test_no_method_name_in_the_conductor():
    from methods.registry import registered

    names = "|".join(re.escape(name) for name in registered())
    quoted = re.compile(rf"""["'](?:{names})(?::[a-z-]+)?["']""", re.IGNORECASE)
    found = {name: quoted.findall(path.read_text()) for name, path in zip(NAMES, FILES, strict=True)}
    assert {name: hits for name, hits in found.items() if hits and name.startswith("harness/")} == {}
    assert any(name.startswith("methods/") for name, hits in found.items() if hits), "the pattern finds nothing at all"


def test_files_and_functions_stay_small():
    lengths = {name: len(path.read_text().splitlines()) for name, path in zip(NAMES, FILES, strict=True)}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
    assert statistics.median(n for n in lengths.values() if n) <= 150
    long = {
        f"{name}:{node.name}": node.end_lineno - node.lineno + 1
        for name, path in zip(NAMES, FILES, strict=True)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 60
    }
    assert long == {}


def dangers(tree: ast.AST) -> list[str]:
    found = [f"import {name}" for name in imports_of(tree) & PICKLES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"eval", "exec", "torch.load", "os.system", "yaml.load"}:
                found.append(called)
            for keyword in node.keywords:
                truth = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if keyword.arg in {"shell", "trust_remote_code", "allow_pickle"} and truth:
                    found.append(f"{keyword.arg}=True")
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            found.append(f"line {node.lineno}: swallowed exception")
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_dangerous_is_called(path):
    assert dangers(tree_of(path)) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "eval('1')", "torch.load('x')", "run('x', shell=True)", "try:\n    f()\nexcept E:\n    pass"],
)
def test_the_danger_check_can_fail(code):
    assert dangers(ast.parse(code))


def test_importing_has_no_side_effect(tmp_path):
    """Every module imports in an empty folder without writing a file, opening a socket or changing directory."""
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in NAMES]
    runnable = [m for m in modules if not m.endswith("__main__")]
    script = (
        "import importlib, os, socket, sys\n"
        "def refuse(*a, **k): raise RuntimeError('network at import')\n"
        "socket.socket.connect = refuse\n"
        f"sys.path.insert(0, {str(ROOT)!r})\nhere = os.getcwd()\nfor name in {runnable!r}: importlib.import_module(name)\n"
        "assert os.getcwd() == here\n"
    )
    command = [sys.executable, "-B", "-c", script]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["benchmarks.records", "benchmarks.base", "methods.base", "reports.record"])
def test_light_modules_import_no_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120).returncode == 0
