"""Whole comparisons on tiny models of other architectures, by the generic family and by one of a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.compare import compare
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.experiment.context import build_context
from harness.models import base
from harness.models.processor_model import ProcessorModel
from harness.models.registry import family_files, family_of
from helpers import small_runs
from helpers.missing_libraries import replace_missing_libraries
from helpers.tiny_architectures import ARCHITECTURES, write
from methods.registry import load_plugins

METHODS = ("lora", "kore")
FAMILY = '''
from harness.models.processor_model import ProcessorModel


class Own(ProcessorModel):
    """Shortens each question."""

    architecture = "InternVLForConditionalGeneration"

    def prompt_row(self, texts, pictures):
        return super().prompt_row([text.replace("the ", "") for text in texts], pictures)
'''


def request(folder: Path, name: str, methods=METHODS, plugins=()) -> Request:
    replace_missing_libraries()
    folder.mkdir(exist_ok=True)
    preset = small_runs.write_preset(folder, write(name, folder / "model"), items=4, old="mini")
    return Request(methods, resolve(str(preset), (), {}), folder / "run", plugins)


@pytest.fixture
def own_family(tmp_path):
    """A user's file with a family; forgotten afterwards."""
    file = tmp_path / "own.py"
    file.write_text(FAMILY)
    before = dict(base.FAMILIES)
    yield file
    base.FAMILIES.clear()
    base.FAMILIES.update(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.usefixtures("short_answers")
def test_a_comparison_runs_from_a_model_folder(name, tmp_path):
    result = compare(request(tmp_path, name))
    assert {output.cell.name: output.reason for output in result.outputs if output.status != "ok"} == {}
    assert [output.cell.method for output in result.outputs] == ["vanilla", *METHODS]
    answers = [output.answers["mini-EVOKE"].answers for output in result.outputs]
    assert all(not answer.error for rows in answers for answer in rows)
    assert not verify(tmp_path / "run").differences


@pytest.mark.slow
def test_a_family_of_one_s_own_is_found_by_plugin_and_part_of_the_cache_key(own_family, tmp_path):
    asked = request(tmp_path / "internvl", "internvl", ("lora",))
    model = asked.resolved.settings.model
    assert family_of(model) is ProcessorModel
    before = build_context(asked).cache_inputs.base
    plugins = load_plugins([own_family])
    assert family_of(model).__name__ == "Own"
    assert family_files(model) == (own_family,)
    with_plugin = Request(asked.methods, asked.resolved, asked.out, plugins)
    assert build_context(with_plugin).cache_inputs.base not in ("", before)
    own_family.write_text(FAMILY.replace("the ", "a "))
    assert build_context(with_plugin).cache_inputs.base not in ("", before)
