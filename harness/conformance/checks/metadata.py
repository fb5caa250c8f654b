"""Checks of what a method says about itself, and of the file that it stands in."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from harness.conformance.registry import NotApplicable, all_checks, check, require
from harness.conformance.scenarios import Scenarios
from methods.base import InjectionMethod
from methods.hook_signatures import unknown_hooks

SECTIONS = ("Paper:", "Differences:", "Cost:")
LONGEST = 110
"""Characters of a summary; a listing shows it on one line."""
_IMPORT = """
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
    "name-usable",
    reason="The name is typed in --methods and stands in file names and tables.",
    hint="Use small letters, digits and single hyphens, such as my-idea; no colon, comma or space.",
)
def name_usable(seen: Scenarios) -> None:
    """Small letters, digits, hyphens."""
    name = seen.subject.method.name
    require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), f"the name is {name!r}")


@check(
    "documented",
    reason="A reader must learn where a method comes from, how it departs from that, and what it costs.",
    hint="Give the class a docstring with the sections 'Paper:', 'Differences:' and 'Cost:', each with a sentence.",
)
def documented(seen: Scenarios) -> None:
    """The docstring has all sections, none of them empty."""
    text = inspect.cleandoc(vars(seen.subject.method).get("__doc__") or "")
    for section in SECTIONS:
        require(
            re.search(rf"^{section} *\S", text, re.MULTILINE), f"the docstring has no {section!r}, or nothing after it"
        )


@check(
    "summarised",
    reason="`list` and the report show each method in one line, with a link to its source.",
    hint=f"Set `summary` to one line of at most {LONGEST} characters, and `paper` to Paper(title, https://...).",
)
def summarised(seen: Scenarios) -> None:
    """A summary and a paper."""
    method = seen.subject.method
    require(method.summary and "\n" not in method.summary, f"the summary is {method.summary!r}")
    require(len(method.summary) <= LONGEST, f"the summary has {len(method.summary)} characters")
    paper = getattr(method, "paper", None)
    require(paper and paper.title and paper.link.startswith("https://"), f"the paper is {paper}")


@check(
    "hooks-known",
    reason="A public function that is no hook is called by nobody: often it is a hook by another name.",
    hint="Rename it to the hook it was meant to be (see methods/base.py), or put an underscore before a helper's name.",
)
def hooks_known(seen: Scenarios) -> None:
    """No public function that overrides nothing."""
    found = sorted(unknown_hooks(seen.subject.method, InjectionMethod))
    require(not found, f"nobody calls {', '.join(found)}")


@check(
    "exceptions-real",
    reason="An exception to the contract is declared by the check's name and explained.",
    hint="Spell the check as `check-method` prints it, and say why the method cannot pass it.",
)
def exceptions_real(seen: Scenarios) -> None:
    """Known exceptions name existing checks and give reasons."""
    for name, why in seen.life.method.expected_failures.items():
        require(name in all_checks(), f"there is no check {name!r}")
        require(why.strip(), f"no reason is given for {name!r}")


@check(
    "import-pure",
    reason="A command imports every method, so importing one must change nothing.",
    hint="Move what prints, writes, draws random numbers or starts threads from the file's top level into hooks.",
)
def import_pure(seen: Scenarios) -> None:
    """Importing in a process of its own leaves no trace."""
    trace, _ = _imported(*_where(seen))
    require(not trace, f"importing it {trace}")


@check(
    "import-light",
    reason="`list` answers in an instant because no method imports torch before it is used.",
    hint="Import torch, and whatever imports it, inside the hooks; for types, below `if TYPE_CHECKING:`.",
)
def import_light(seen: Scenarios) -> None:
    """Importing it does not import torch."""
    trace, torch = _imported(*_where(seen))
    require(trace or not torch, "importing it imports torch")


def _where(seen: Scenarios) -> tuple[str, str]:
    """The method's module, or its file where the module cannot be imported by name; and the folders to look in."""
    module = sys.modules.get(seen.subject.method.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        raise NotApplicable("it stands in no file")
    spec = getattr(module, "__spec__", None)
    named = spec is not None and not seen.subject.method.__module__.startswith("plugin_")
    return seen.subject.method.__module__ if named else file, os.pathsep.join(sys.path)


@cache
def _imported(module: str, folders: str) -> tuple[str, bool]:
    """What importing did, in words, and whether it imported torch."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-B", "-c", _IMPORT, module, *folders.split(os.pathsep)]
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True, timeout=300)  # noqa: S603
        left = sorted(path.name for path in Path(empty).iterdir())
    if done.returncode:
        return f"fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", False
    *said, changed, torch = done.stdout.splitlines()[1:]
    if left:
        return f"writes {', '.join(left)}", False
    if said or done.stderr or not changed.startswith(_END):
        return f"prints {[*said, *done.stderr.splitlines(), changed][0]!r}", False
    return (f"changes {changed.removeprefix(_END)}" if changed != _END else ""), torch == "True"
