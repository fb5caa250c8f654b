"""The program runs in a research project that has folders of the same names as its packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from helpers.paths import ROOT

PACKAGES = ("harness", "methods", "benchmarks", "reports")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The four packages as a wheel installs them, without the data that listing does not read."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "data"))
        if (ROOT / package / "data" / "__init__.py").exists():
            shutil.copytree(ROOT / package / "data", folder / package / "data")
    return folder


@pytest.fixture
def project(tmp_path):
    """A project with its own ``benchmarks`` and ``reports``; importing one of them leaves a trace."""
    for package in PACKAGES[1:]:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise RuntimeError('the wrong {package}')\n")
    (tmp_path / "my_helper.py").write_text("VALUE = 7\n")
    return tmp_path


def run(site, project, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)


def test_the_program_finds_its_own_packages(site, project):
    done = run(site, project, "-m", "harness", "list", "--methods")
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout


def test_control_the_projects_folder_hides_the_package_where_the_path_is_not_changed(site, project):
    done = run(site, project, "-c", "import benchmarks.errors")
    assert "the wrong benchmarks" in done.stderr


def test_a_checkout_that_is_not_installed_finds_its_own_packages_first(site, project):
    done = run(project, site, "-m", "harness", "list", "--methods")
    assert done.returncode == 0, done.stderr
    assert "lora" in done.stdout


def test_a_plugin_still_imports_a_module_of_the_working_folder(site, project):
    plugin = project / "idea.py"
    plugin.write_text(
        "import my_helper\nfrom methods.base import InjectionMethod, Paper\n\n\n"
        "class Idea(InjectionMethod):\n"
        '    name, summary, paper = "idea", f"LoRA {my_helper.VALUE}", Paper("Unpublished", "https://example.org")\n'
    )
    done = run(site, project, "-m", "harness", "list", "--methods", "--plugin", str(plugin))
    assert done.returncode == 0, done.stderr
    assert "LoRA 7" in done.stdout
