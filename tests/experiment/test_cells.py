"""I2: nothing is keyed by a name or a path; whatever can change a product changes its key."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest

from benchmarks.errors import UserError
from benchmarks.records import Answer, Picture
from harness.config.method_settings import ResolvedMethodSettings
from harness.config.settings import resolve
from harness.experiment.cell import CacheInputs, Cell, scores_key
from harness.experiment.rows import list_cells
from harness.storage.digests import digest, knowledge_digest, model_digest, questions_digest
from harness.storage.source_code import code_digest
from helpers import tiny
from methods.base import METHODS
from methods.registry import load_file, registered
from reports.record import VANILLA

NAME = "lora"
POOLS = {"calibration": "c", "replay": "r"}
CACHE_INPUTS = CacheInputs("base", "knowledge", POOLS, {"epochs": 2}, 8, "cpu", "float32")


def cell(**changes) -> Cell:
    settings = dataclasses.replace(registered()[NAME].Settings(), **changes.pop("settings", {}))
    return dataclasses.replace(Cell(NAME, "", 0, ResolvedMethodSettings(settings, {})), **changes)


def training_key(one: Cell, cache_inputs: CacheInputs = CACHE_INPUTS) -> str:
    return digest(one.training_key(cache_inputs))


@pytest.mark.parametrize(
    "change",
    [
        {"base": "other"},
        {"knowledge": "other"},
        {"training": {"epochs": 3}},
        {"precision": "bfloat16"},
        {"device": "cuda"},
    ],
)
def test_I2_all_that_a_training_stands_on_is_in_its_key(change):
    assert training_key(cell(), dataclasses.replace(CACHE_INPUTS, **change)) != training_key(cell())


def test_I2_the_pools_that_a_method_draws_from_are_in_its_key_and_no_others():
    def read_by(row: str, *sets: str) -> set[str]:
        _, one = list_cells([row], resolve("mini", sets))
        usual = dataclasses.replace(CACHE_INPUTS, evaluation_inputs={"MME": "questions"})
        changed = {pool: dataclasses.replace(usual, pools={**POOLS, pool: "other"}) for pool in POOLS}
        return {pool for pool, inputs in changed.items() if training_key(one, inputs) != training_key(one, usual)}

    for row in ("lora", "full-ft", "lwf", "moelora", "o-lora", "sefe", "kore:no-constraint", "kore:constraint-MME"):
        assert read_by(row) == set(), row
    for row in ("replay", "ewc", "o-lora:pseudo-task", "sefe:pseudo-task"):
        assert read_by(row) == {"replay"}, row
    for row in ("kore", "kore:unfrozen-a", "kore:random-subspace"):
        assert read_by(row) == {"calibration"}, row
    assert read_by("replay", "replay.ratio=0") == read_by("ewc", "ewc.coefficient=0") == set()


def test_a_pool_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(registered()[NAME], "pools", ("replays",))
    with pytest.raises(UserError, match="pools of lora: there is no pool 'replays'") as caught:
        training_key(cell())
    assert "did you mean 'replay'" in str(caught.value)


def test_I2_settings_and_seed_are_in_the_key_and_labels_are_not():
    assert training_key(cell()) == training_key(cell())
    assert training_key(cell(settings={"rank": 3})) != training_key(cell())
    assert training_key(cell(seed=1)) != training_key(cell())
    assert training_key(cell(variant="another-label")) == training_key(cell())
    assert training_key(cell(), dataclasses.replace(CACHE_INPUTS, batch_size=9)) == training_key(cell())


def test_I2_answers_depend_on_the_adapter_the_questions_and_the_decoding():
    questions = tiny.questions(3)
    base = digest(cell().answers_key(CACHE_INPUTS, "adapter", questions))
    assert base == digest(cell().answers_key(CACHE_INPUTS, "adapter", tiny.questions(3)))
    others = [
        cell().answers_key(CACHE_INPUTS, "another adapter", questions),
        cell().answers_key(CACHE_INPUTS, "adapter", questions[:2]),
        cell().answers_key(CACHE_INPUTS, "adapter", [dataclasses.replace(questions[0], turns=("x",)), *questions[1:]]),
        cell().answers_key(dataclasses.replace(CACHE_INPUTS, batch_size=9), "adapter", questions),
        cell().answers_key(dataclasses.replace(CACHE_INPUTS, base="other"), "adapter", questions),
        cell(settings={"alpha": 1.0}).answers_key(CACHE_INPUTS, "adapter", questions),
        cell().answers_key(CACHE_INPUTS, "adapter", questions, {"max_pixels": 3136}),
        cell().answers_key(CACHE_INPUTS, "adapter", questions, {"max_pixels": None}),
        cell().answers_key(CACHE_INPUTS, "adapter", questions, engine={"name": "vllm", "version": "1"}),
        cell().answers_key(CACHE_INPUTS, "adapter", questions, engine={"name": "vllm", "version": "2"}),
    ]
    assert len({base, *map(digest, others)}) == len(others) + 1


def test_I2_a_question_is_known_by_what_the_model_is_shown():
    (question,) = tiny.questions(1, seed=3)
    shown = dataclasses.replace(question, turns=("<image>\nWhat?",), pictures=(tiny.picture(1),))
    base = questions_digest([shown])
    assert questions_digest([dataclasses.replace(shown, pictures=(tiny.picture(2),))]) != base
    assert questions_digest([dataclasses.replace(shown, max_new_tokens=5)]) != base
    assert questions_digest([dataclasses.replace(shown, repetition_penalty=1.0)]) != base
    assert questions_digest([dataclasses.replace(shown, reference="other", type="other")]) == base


def test_I2_a_score_is_known_by_its_answers_and_its_benchmark():
    (question,) = tiny.questions(1, seed=3)
    said = [Answer(question.id, ("Yes",))]
    key = scores_key(said, "b", [question])
    assert key == scores_key([Answer(question.id, ("Yes",), new_tokens=1)], "b", [question])
    assert key != scores_key(said, "c", [question])
    assert key != scores_key([Answer(question.id, ("No",))], "b", [question])
    # Earlier versions scored the thinking block too, so such answers must be scored again.
    thought = [Answer(question.id, ("<think>Hm.</think>Yes",))]
    assert scores_key(thought, "b", [question])["thinking"] == "cut"
    assert key.keys() == {"answers", "benchmark", "questions"}


def test_I2_knowledge_is_known_by_its_content(tmp_path):
    (item,) = tiny.knowledge(1)
    file = tmp_path / "any name.png"
    file.write_bytes(item.picture.encoded)
    assert knowledge_digest([dataclasses.replace(item, picture=Picture(file))]) == knowledge_digest([item])
    assert knowledge_digest([dataclasses.replace(item, text="other")]) != knowledge_digest([item])
    assert knowledge_digest([dataclasses.replace(item, picture=tiny.picture(9))]) != knowledge_digest([item])


def test_I2_a_model_is_known_by_its_files_not_by_its_folder(tiny_folder, tmp_path):
    copy = tmp_path / "another name"
    shutil.copytree(tiny_folder, copy)
    assert model_digest(copy) == model_digest(tiny_folder)
    (copy / "README.md").write_text("a card")
    assert model_digest(copy) == model_digest(tiny_folder)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert model_digest(copy) != model_digest(tiny_folder)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        model_digest(tmp_path)


def test_I2_code_that_changes_is_other_code_but_comments_are_not(tmp_path):
    file = tmp_path / "method.py"
    texts = {
        "plain": "def f(x):\n    return x + 1\n",
        "commented": '"""About f."""\n# why\ndef f(x):\n    """What f does."""\n    return (x +\n      1)\n',
        "other": "def f(x):\n    return x + 2\n",
        "importing": "from methods import null_space\ndef f(x):\n    return x + 1\n",
    }
    digests = {}
    for name, text in texts.items():
        own = tmp_path / name / file.name
        own.parent.mkdir()
        own.write_text(text)
        digests[name] = code_digest(own)
    assert digests["plain"] == digests["commented"]
    assert len(set(digests.values())) == 3


METHOD = """\
from methods.base import InjectionMethod, Paper
{imports}

class Own(InjectionMethod):
    name, summary, paper = "own-code", "LoRA", Paper("Unpublished", "https://example.org")
    data_files = {data_files}
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Load a method of its own from files, with this import and these declared files; returns its cell."""
    monkeypatch.setattr("methods.base.METHODS", dict(METHODS))
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(imports, data_files=()):
        (tmp_path / "own_code.py").write_text(METHOD.format(imports=imports, data_files=tuple(data_files)))
        METHODS.pop("own-code", None)
        for name in [name for name in sys.modules if name.startswith("my_")]:
            monkeypatch.delitem(sys.modules, name)  # another test's, in another folder
        load_file(tmp_path / "own_code.py")
        return list_cells(["own-code"], resolve("mini"))[1]

    return load


HELPERS = {
    "beside": ("import my_helper", "my_helper.py"),
    "a name of it": ("from my_helper import STRENGTH", "my_helper.py"),
    "inside a function": ("def late():\n    import my_helper", "my_helper.py"),
    "in a package": ("import my_package.inner.my_helper", "my_package/inner/my_helper.py"),
    "a module as a name": ("from my_package.inner import my_helper", "my_package/inner/my_helper.py"),
}


@pytest.mark.parametrize("kind", HELPERS)
def test_I2_files_that_a_method_imports_are_its_code(kind, own_code, tmp_path):
    imports, file = HELPERS[kind]
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.relative_to(tmp_path).parents[:-1]:
        (tmp_path / folder / "__init__.py").write_text("")
    path.write_text("from pathlib import Path\nSTRENGTH = 1\n")
    cell = own_code(imports)
    before = cell.identity()
    assert before == cell.identity()
    assert file in cell.user_code
    path.write_text("from pathlib import Path\nSTRENGTH = 2\n# other\n")
    assert cell.identity() != before


def test_I2_relative_imports_of_helpers_are_followed(own_code, tmp_path):
    package = tmp_path / "my_relatives"
    package.mkdir()
    (package / "__init__.py").write_text("from . import first\n")
    (package / "first.py").write_text("from .second import STRENGTH\n")
    (package / "second.py").write_text("STRENGTH = 1\n")
    cell = own_code("import my_relatives")
    before = cell.identity()
    assert {"my_relatives/first.py", "my_relatives/second.py"} < cell.user_code.keys()
    (package / "second.py").write_text("STRENGTH = 2\n")
    assert cell.identity() != before


def test_I2_declared_data_and_versions_of_packages_are_code_too(own_code, tmp_path, monkeypatch):
    (tmp_path / "directions.txt").write_text("north")
    cell = own_code("import numpy, json", ["directions.txt"])
    before = cell.identity()
    assert cell.user_code.keys() == {"own_code.py", "directions.txt", "numpy"}
    (tmp_path / "directions.txt").write_text("south")
    assert cell.identity() != before
    (tmp_path / "directions.txt").write_text("north")
    assert cell.identity() == before
    monkeypatch.setattr("harness.storage.source_code.version_of", lambda name: "another")
    assert cell.identity() != before
    (tmp_path / "directions.txt").unlink()
    with pytest.raises(UserError, match=r"declares is missing"):
        cell.identity()


def test_methods_of_this_program_have_no_code_of_a_user():
    assert all(cell.user_code == {} for cell in list_cells(["all-variants"], resolve("mini")))


def test_cells_are_the_base_and_then_each_method_with_each_seed():
    resolved = resolve("mini", ["seeds=[0, 5]"])
    cells = list_cells([NAME, VANILLA, NAME], resolved)
    assert [(one.name, one.seed) for one in cells] == [(VANILLA, 0), (NAME, 0), (NAME, 5)]
    everything = {one.name for one in list_cells(["all"], resolved)}
    assert everything >= {VANILLA, *registered()}
    name, variant = next((n, v) for n, method in registered().items() for v in method.variants)
    assert list_cells([f"{name}:{variant}"], resolved)[1].name == f"{name}:{variant}"


@pytest.mark.parametrize("name", ["nobody", f"{NAME}x", f"{NAME}:nothing"])
def test_an_unknown_method_is_named(name):
    with pytest.raises(UserError, match=name):
        list_cells([name], resolve("mini"))
