"""Checks of what a method declares about itself, and of importing its file."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from harness.conformance.errors import NotApplicable
from harness.conformance.registry import CHECKS, check, require
from harness.conformance.scenarios import Scenarios
from methods.base import InjectionMethod
from methods.hook_signatures import unknown_hooks

SECTIONS = ("Paper:", "Differences:", "Cost:")
SUMMARY_LENGTH = 110
"""Most characters of a summary, so that it fits on one line of a listing."""
_IMPORT_SCRIPT = """
import os, random, sys, threading
sys.path[:0] = [part for part in sys.argv[2:] if part]
from benchmarks import records
from methods import base
before = random.getstate(), os.getcwd(), dict(os.environ), threading.active_count()
print("begin", flush=True)
import importlib, importlib.util
if sys.argv[1].endswith(".py"):
    spec = importlib.util.spec_from_file_location("imported", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    sys.modules["imported"] = module
    spec.loader.exec_module(module)
else:
    importlib.import_module(sys.argv[1])
after = random.getstate(), os.getcwd(), dict(os.environ), threading.active_count()
names = ("random numbers", "the working directory", "the environment", "threads")
print("[end]" + ", ".join(name for name, one, other in zip(names, before, after) if one != other))
print("torch" in sys.modules)
"""
_END = "[end]"


@check(
    reason="The name is typed in --methods and appears in file names and tables.",
    hint="Use lower-case letters, digits and single hyphens, such as my-idea; no colon, comma or space.",
)
def check_name(scenarios: Scenarios) -> None:
    """The name has lower-case letters, digits and hyphens only."""
    name = scenarios.subject.method.name
    require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), f"the name is {name!r}")


@check(
    reason="Readers need to know where a method comes from, how it differs from its paper, and what it costs.",
    hint="Give the class a docstring with the sections 'Paper:', 'Differences:' and 'Cost:', each with a sentence.",
)
def check_docstring(scenarios: Scenarios) -> None:
    """The class has a docstring with all sections, none of them empty."""
    text = inspect.cleandoc(vars(scenarios.subject.method).get("__doc__") or "")
    for section in SECTIONS:
        filled = re.search(rf"^{section} *\S", text, re.MULTILINE)
        require(filled, f"the docstring has no {section!r}, or nothing after it")


@check(
    reason="`list` and the report show each method on one line, with a link to its source.",
    hint=f"Set `summary` to one line of at most {SUMMARY_LENGTH} characters, and `paper` to Paper(title, https://...).",
)
def check_summary_and_paper(scenarios: Scenarios) -> None:
    """The method has a one-line summary and a paper with a link."""
    method = scenarios.subject.method
    require(method.summary and "\n" not in method.summary, f"the summary is {method.summary!r}")
    require(len(method.summary) <= SUMMARY_LENGTH, f"the summary has {len(method.summary)} characters")
    paper = getattr(method, "paper", None)
    require(paper and paper.title and paper.link.startswith("https://"), f"the paper is {paper}")


@check(
    reason="A public function that is not a hook is never called; often it is a misnamed hook.",
    hint="Rename it to the hook that is meant (see methods/base.py), or start a helper's name with an underscore.",
)
def check_no_unknown_hooks(scenarios: Scenarios) -> None:
    """Every public function overrides a hook."""
    names = sorted(unknown_hooks(scenarios.subject.method, InjectionMethod))
    require(not names, f"nothing calls {', '.join(names)}")


@check(
    reason="An expected failure is declared by the name of the check, with the reason.",
    hint="Write the name as `check-method` prints it, and say why the method cannot pass the check.",
)
def check_expected_failures(scenarios: Scenarios) -> None:
    """The keys of ``expected_failures`` are checks, and each has a reason."""
    for name, reason in scenarios.lifecycle.method.expected_failures.items():
        require(name in CHECKS, f"there is no check {name!r}")
        require(reason.strip(), f"no reason is given for {name!r}")


@check(
    reason="Every command imports all methods, so importing one must not have side effects.",
    hint="Move code that prints, writes, draws random numbers or starts threads from the top level into hooks.",
)
def check_import_side_effects(scenarios: Scenarios) -> None:
    """Importing the file in a new process changes nothing."""
    side_effect, _ = _import_in_subprocess(*_module_and_path(scenarios))
    require(not side_effect, f"importing it {side_effect}")


@check(
    reason="Commands such as `list` start quickly because no method imports torch before it is used.",
    hint="Import torch, and modules that import it, inside the hooks; for type hints, under `if TYPE_CHECKING:`.",
)
def check_import_without_torch(scenarios: Scenarios) -> None:
    """Importing the file does not import torch."""
    side_effect, imports_torch = _import_in_subprocess(*_module_and_path(scenarios))
    require(side_effect or not imports_torch, "importing it imports torch")


def _module_and_path(scenarios: Scenarios) -> tuple[str, str]:
    """The method's module, or its file if the module cannot be imported by name; and ``sys.path``, joined."""
    name = scenarios.subject.method.__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:
        raise NotApplicable("it is not defined in a file")
    importable = getattr(module, "__spec__", None) is not None and not name.startswith("plugin_")
    return name if importable else file, os.pathsep.join(sys.path)


@cache
def _import_in_subprocess(module: str, path: str) -> tuple[str, bool]:
    """The side effect of importing a module in words, "" for none; and whether it imported torch."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-B", "-c", _IMPORT_SCRIPT, module, *path.split(os.pathsep)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)  # noqa: S603
        files = sorted(file.name for file in Path(folder).iterdir())
    if done.returncode:
        return f"fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", False
    *printed, changed, imports_torch = done.stdout.splitlines()[1:]
    if files:
        return f"writes {', '.join(files)}", False
    if printed or done.stderr or not changed.startswith(_END):
        return f"prints {[*printed, *done.stderr.splitlines(), changed][0]!r}", False
    return (f"changes {changed.removeprefix(_END)}" if changed != _END else ""), imports_torch == "True"
