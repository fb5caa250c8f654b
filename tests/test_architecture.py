"""The architecture: imports run one way and without circles, files stay small, and nothing dangerous is called."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from helpers.paths import ROOT

PACKAGES = ("harness", "methods", "benchmarks", "reports", "tools")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

FORBIDDEN_IMPORTS = {
    "methods": {"harness", "reports"},
    "benchmarks": {"harness", "methods", "reports"},
    "reports": {"harness", "methods", "torch"},
}
LAYERS = (
    ("__init__", "__main__"),
    ("cli",),
    ("commands",),
    ("executors",),
    ("experiment",),
    ("data", "augment", "conformance"),
    ("miniature",),
    ("training", "serving"),
    ("models", "llm"),
    ("config", "storage", "distributed"),
    ("console", "presets"),
)
"""The parts of ``harness``, from top to bottom. Each imports only from layers below its own, or from itself."""
LAYER = {part: number for number, layer in enumerate(LAYERS) for part in layer}
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


def test_packages_import_one_way():
    packages = {name: FORBIDDEN_IMPORTS.get(name.split("/")[0], set()) for name in NAMES}
    found = {name: imports_of(tree_of(path)) & packages[name] for name, path in zip(NAMES, FILES, strict=True)}
    assert {name: imports for name, imports in found.items() if imports} == {}


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def import_graph() -> dict[str, frozenset[str]]:
    """Every import of one module by another: at the top of a file, inside a function, or for types only."""
    modules = {module_of(name): path for name, path in zip(NAMES, FILES, strict=True)}

    def imported(tree: ast.AST) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= full & modules.keys() or {node.module}
        return names & modules.keys()

    return {name: frozenset(imported(tree_of(path)) - {name}) for name, path in modules.items()}


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def upward(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Imports within ``harness`` that do not lead to a lower layer."""
    return [
        f"{module} -> {other}"
        for module, others in graph.items()
        for other in others
        if module.startswith("harness") and other.startswith("harness") and part_of(module) != part_of(other)
        if LAYER[part_of(module)] >= LAYER[part_of(other)]
    ]


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The modules that are left after removing, again and again, those that import or are imported by none of them."""
    left = {module: set(others) for module, others in graph.items()}
    while True:
        imported = {other for others in left.values() for other in others}
        ends = {module for module, others in left.items() if not others or module not in imported}
        if not ends:
            return [sorted(f"{module} -> {other}" for other in others) for module, others in sorted(left.items())]
        left = {module: others - ends for module, others in left.items() if module not in ends}


def test_layers_of_the_harness_import_downwards():
    assert {part_of(module) for module in import_graph() if module.startswith("harness")} == set(LAYER)
    assert upward(import_graph()) == []


def test_no_modules_import_each_other():
    assert circles(import_graph()) == []


def test_control_upward_imports_and_circles_are_found():
    graph = import_graph()
    assert len(graph) > 250
    assert sum(map(len, graph.values())) > 800
    up = {**graph, "harness.storage.store": graph["harness.storage.store"] | {"harness.data.inputs"}}
    assert set(upward(up)) - set(upward(graph)) == {"harness.storage.store -> harness.data.inputs"}
    assert len(circles(up)) > 1
    sideways = {**graph, "harness.config.sweep": graph["harness.config.sweep"] | {"harness.config.settings"}}
    assert upward(sideways) == upward(graph)
    assert circles(sideways) == [
        ["harness.config.settings -> harness.config.sweep"],
        ["harness.config.sweep -> harness.config.settings"],
    ]


def test_only_the_adapter_imports_vlmeval():
    importing = {name for name, path in zip(NAMES, FILES, strict=True) if "vlmeval" in imports_of(tree_of(path))}
    assert importing == {"benchmarks/vlmeval/adapter.py"}


def test_no_method_name_in_the_harness():
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


def test_nothing_dangerous_is_called():
    found = {name: dangers(tree_of(path)) for name, path in zip(NAMES, FILES, strict=True)}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "eval('1')", "torch.load('x')", "run('x', shell=True)", "try:\n    f()\nexcept E:\n    pass"],
)
def test_the_danger_check_can_fail(code):
    assert dangers(ast.parse(code))


@pytest.mark.parametrize("package", ["harness", "methods", "benchmarks", "reports"])
def test_no_file_of_the_tests_hides_a_package(package):
    """pytest puts the folder of each test first on the path, where a script of the same name would be found instead."""
    assert (ROOT / package / "__init__.py").exists()
    assert list((ROOT / "tests").rglob(f"{package}.py")) == []


@pytest.mark.slow
def test_importing_has_no_side_effect(tmp_path):
    """Every module imports in an empty folder without writing a file, opening a socket or changing directory."""
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in NAMES]
    runnable = [m for m in modules if not m.endswith("__main__")]
    script = (
        "import importlib, os, socket, sys\n"
        "def refuse(*a, **k): raise RuntimeError('network at import')\n"
        "socket.socket.connect = refuse\n"
        f"sys.path.insert(0, {str(ROOT)!r})\nhere = os.getcwd()\n"
        f"for name in {runnable!r}: importlib.import_module(name)\n"
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
