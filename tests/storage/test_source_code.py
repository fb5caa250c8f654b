"""Whatever way the user's modules import each other, those that are reached are part of the digest, and no others."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.storage.source_code import code_digest, user_code

NAMES, TIMES = count(), count(10**18, 10**9)
MODULES = ("top", "pkg", "pkg.one", "pkg.two", "pkg.inner", "pkg.inner.deep", "pkg.inner.other", "beside", "lone")
"""Of which ``pkg`` and ``pkg.inner`` are packages."""
PACKAGES = ("pkg", "pkg.inner")
FORMS = ("import", "import as", "from its package", "from it", "from it everything", "relative", "relative from it")


@st.composite
def graphs(draw):
    """Which module imports which, in which form, and whether inside a function."""
    edge = st.tuples(st.sampled_from(MODULES), st.sampled_from(MODULES), st.sampled_from(FORMS), st.booleans())
    return draw(st.lists(edge, max_size=7))


def statement(importer, imported, form, prefix):
    """An import of a module in a form; absolute where the form is not possible."""
    whole, (package, _, last) = f"{prefix}{imported}", imported.rpartition(".")
    own = importer if importer in PACKAGES else importer.rpartition(".")[0]
    if form.startswith("relative") and own and package:
        ups = len(own.split(".")) - len(package.split("."))
        if ups >= 0 and own.split(".")[: len(package.split("."))] == package.split("."):
            dots = "." * (ups + 1)
            return f"from {dots} import {last}" if form == "relative" else f"from {dots}{last} import VALUE"
    if form == "import as":
        return f"import {whole} as used"
    if form == "from its package" and package:
        return f"from {prefix}{package} import {last}"
    if form in ("from it", "relative from it"):
        return f"from {whole} import VALUE"
    return f"from {whole} import *" if form == "from it everything" else f"import {whole}"


def executed(start, edges):
    """The modules that Python executes for ``start``: each that is imported, and the packages around it."""
    reached, pending = set(), [start]
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += [package for package in PACKAGES if module.startswith(f"{package}.")]
            pending += [imported for importer, imported, *_ in edges if importer == module]
    return reached


@contextmanager
def written(edges):
    """A folder on the path with these modules; gives the file of each."""
    prefix = f"own{next(NAMES)}"
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for module in MODULES:
            base = Path(folder, f"{prefix}{module}".replace(".", "/"))
            files[module] = base / "__init__.py" if module in PACKAGES else base.with_suffix(".py")
            lines = ["VALUE = 1"]
            for importer, imported, form, late in edges:
                if importer == module and form == "from it everything":
                    late = False  # a function cannot hold it
                if importer == module:
                    text = statement(module, imported, form, prefix)
                    lines += [f"def late():\n    {text}"] if late else [text]
            files[module].parent.mkdir(parents=True, exist_ok=True)
            files[module].write_text("\n".join(lines) + "\n", "utf-8")
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield files
        finally:
            sys.path.remove(folder)


def write(file, content):
    """Write a file, at a time that differs from the last however quick the test is."""
    file.write_bytes(content)
    time = next(TIMES)
    os.utime(file, ns=(time, time))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.sampled_from(["top", "pkg.inner.deep"]))
def test_a_change_of_a_file_changes_the_digest_exactly_if_it_is_reached(edges, start):
    reached = executed(start, edges)
    with written(edges) as files:
        before = code_digest(files[start])
        assert len(user_code([files[start]])) == len(reached)
        for module in MODULES:
            write(files[module], files[module].read_bytes() + b"OTHER = 2\n")
            after = code_digest(files[start])
            assert (after != before) == (module in reached), module
            before = after


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=20), min_size=1, max_size=4))
def test_the_name_and_content_of_each_declared_file_count(contents):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in contents]
        for file, content in zip(files, contents.values(), strict=True):
            write(file, content)
        assert user_code(files).keys() == contents.keys()
        before = code_digest(*files)
        for file in files:
            write(file, file.read_bytes() + b"\0")
            after = code_digest(*files)
            assert after != before
            before = after
        first, last = files[0].read_bytes(), files[-1].read_bytes()
        write(files[0], last)
        write(files[-1], first)
        assert (code_digest(*files) != before) == (first != last)
