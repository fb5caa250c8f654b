"""Variants: single ones and families by pattern, what they change, and the controls among them."""

from __future__ import annotations

import json

import pytest

from benchmarks.data.conversations import conversation_row
from benchmarks.errors import UserError
from benchmarks.retention import Retention
from benchmarks.retention_specs import SPEC_BY_NAME
from harness.config.settings import resolve
from harness.data.inputs import RunInputs
from harness.data.pools import open_pools
from harness.experiment.compose import compose
from harness.experiment.outputs import CellOutput
from harness.experiment.resources import CellResources
from harness.experiment.rows import list_cells
from harness.storage.store import Store
from helpers import synthetic
from helpers.plain_loop import FakeResources, make
from helpers.tiny import conversation, conversations, knowledge, picture, questions
from methods.augmentation.datasets import TRAINING_FILE, identity
from methods.augmentation.knowledge_tree import knowledge_tree
from methods.base import VariantFamily
from methods.registry import get_method


def write_training_data(folder, items, copies):
    """Write several conversations about each item, as ``harness augment`` does."""
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(0).encoded)
    rows = [
        conversation_row(conversation(number, pictures=1), item, ["a.png"], {"id": f"{item}/{number}"})
        for number, item in enumerate([*items] * copies)
    ]
    (folder / TRAINING_FILE).write_text(json.dumps(rows))


RANK = VariantFamily("rank-", "N", "rank", "at rank {}", "[1-9][0-9]*", int, ("64",))


@pytest.mark.parametrize(
    "name", ["rank-", "rank-0", "rank-064", "rank-6x", "rank--6", "rank-6\n", "rank", "arank-6", ""]
)
def test_names_outside_a_family_are_none_of_it(name):
    assert RANK.match(name) is None
    assert RANK.match("rank-64").settings == {"rank": 64}  # control


def test_a_family_is_known_by_its_pattern():
    assert RANK.name == "rank-N"
    assert RANK.match("rank-7").help == "at rank 7"
    method, variant = get_method("kore:rank-200")
    assert method.Settings(**variant.settings).rank == 200
    _, specific = get_method("kore:constraint-SEEDBench2_Plus")
    assert specific.settings == {"calibrate_on": "SEEDBench2_Plus"}
    assert specific.transductive
    with pytest.raises(UserError, match="did you mean 'kore:rank-N'"):
        get_method("kore:rank-x")


def test_a_specific_constraint_says_which_inputs_it_reads():
    def reads(row, **changes):
        return make(row, **changes).evaluation_inputs

    assert reads("kore:constraint-MME") == ("MME",)
    assert reads("kore") == reads("lora") == ()
    assert reads("kore:constraint-MME", constraint=False) == ()  # nothing is calibrated then


def test_a_specific_constraint_calibrates_on_the_benchmarks_own_prompts(tiny_model):
    class Asked(FakeResources):
        def benchmark_prompts(self, benchmark, count, *, as_in_table=False):
            self.asked.append((count, benchmark, as_in_table))
            return conversations(6, seed=3)

    resources = Asked()
    specific = make("kore:constraint-MME", calibration_samples=5).prepare(tiny_model, resources)
    assert resources.asked == [(5, "MME", False)]
    table = Asked()
    make("kore:constraint-MME", calibration_samples=5, calibration_text="question").prepare(tiny_model, table)
    assert table.asked == [(5, "MME", True)]
    general = make("kore", calibration_samples=5).prepare(tiny_model, resources)
    name = next(name for name in general if name.endswith(".A"))
    assert not specific[name].equal(general[name])
    assert len(resources.store) == 2


def test_equal_steps_is_as_much_data_as_kores_and_nothing_new():
    resources, items = FakeResources(), knowledge(5)
    once = make("lora").training_data(items, resources)
    often = make("lora:equal-steps").training_data(items, resources)
    assert len(often) == len(knowledge_tree(items, 0)) > len(once)
    assert len({sample.id for sample in often}) == len(often)
    assert {(sample.turns, sample.pictures) for sample in often} == {(one.turns, one.pictures) for one in once}
    counts = [sum(sample.turns == one.turns for sample in often) for one in once]
    assert max(counts) - min(counts) <= 1
    assert len(make("lora:equal-steps", data="kore").training_data(items, resources)) == len(often)
    assert make("lora:equal-steps").training_data([], resources) == []


def test_the_controls_follow_the_training_data_that_kore_has_in_the_run(tmp_path):
    folder, items = tmp_path / "made", knowledge(4)
    write_training_data(folder, [item.id for item in items], copies=3)
    names = ["lora", "lora:kore-data", "lora:equal-steps", "kore"]

    def trained_on(*sets: str) -> dict[str, list[str]]:
        resolved = resolve("mini-no-extraction", sets)  # where KORE's batches are as large as the others'
        cells = [cell for cell in list_cells(names, resolved) if cell.settings]
        made = {cell.label: cell.make().training_data(items, FakeResources()) for cell in cells}
        return {label: [sample.sha256 for sample in samples] for label, samples in made.items()}

    by_rule, from_folder = trained_on(), trained_on(f"kore.data={folder}")
    for found in (by_rule, from_folder):
        assert found["lora:kore-data"] == found["kore"]
        assert len(found["lora:equal-steps"]) == len(found["kore"]) > len(found["lora"])
        assert set(found["lora:equal-steps"]) == set(found["lora"])
    assert len(from_folder["kore"]) == 12
    assert by_rule["lora"] == from_folder["lora"]
    assert not set(by_rule["kore"]) & set(from_folder["kore"])  # control: the folder's content differs
    assert "lora:kore-data" not in trained_on("kore.data=evoke")  # then it is the same cell as lora


def test_what_the_controls_follow_is_known_by_content_and_named_without_its_path(tmp_path):
    write_training_data(tmp_path / "made", ["item-0"], copies=2)
    resolved = resolve("mini", [f"kore.data={tmp_path / 'made'}"])
    _, data, steps = list_cells(["lora:kore-data", "lora:equal-steps"], resolved)
    name = identity(str(tmp_path / "made"))
    assert (data.settings.values.cache_key()["data"], steps.settings.values.cache_key()["equal_steps"]) == (name, name)
    assert steps.settings.origins["equal_steps"] == "variant equal-steps"
    outputs = [CellOutput(cell, status="diverged") for cell in (data, steps)]
    inputs = RunInputs((), open_pools("none", "none"), ())
    assert str(tmp_path) not in repr(compose(outputs, inputs, resolved, "").cells)


def resources(folder, seed=0):
    asked = questions(9, seed=2)
    return asked, CellResources(seed, open_pools("none", "none"), Store(folder), {}, evaluation_inputs={"MME": asked})


def test_prompts_of_a_benchmark_are_first_turns_without_references(tmp_path):
    asked, own = resources(tmp_path)
    prompts = own.benchmark_prompts("MME", 100)
    assert [prompt.turns[0].text for prompt in prompts] == [question.turns[0] for question in asked]
    assert {len(prompt.turns) for prompt in prompts} == {1}
    assert all(question.reference not in prompt.id for question, prompt in zip(asked, prompts, strict=True))
    few = own.benchmark_prompts("MME", 4)
    assert len({prompt.id for prompt in few}) == 4
    assert few == own.benchmark_prompts("MME", 4)
    assert few != resources(tmp_path, seed=1)[1].benchmark_prompts("MME", 4)


def test_inputs_that_were_not_declared_are_not_given(tmp_path):
    with pytest.raises(UserError, match="evaluation_inputs"):
        resources(tmp_path)[1].benchmark_prompts("POPE", 4)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["vlmevalkit", "llava"])
def test_a_prompt_as_in_the_table_is_the_question_column_below_the_first_picture(tmp_path, protocol):
    """As KORE's datautils.py writes it, whatever the protocol asks: no options, hint or instruction, one line."""
    asked, columns = {}, {}
    for name in ("MME", "SEEDBench2_Plus", "MMMU"):
        rows, _ = synthetic.TABLES[name]()
        rows[0]["question"] = "What is\tin <image 1>\n and <ImageHere2>?"
        table = synthetic.write(rows, tmp_path / f"{name}.tsv")
        columns[name] = {str(row["index"]): row["question"] for row in rows}
        asked[name] = Retention(table, tmp_path / name, SPEC_BY_NAME[name], protocol=protocol).questions()
    own = CellResources(0, open_pools("none", "none"), Store(tmp_path), {}, evaluation_inputs=asked)
    for name, questions_ in asked.items():
        prompts = own.benchmark_prompts(name, 1_000, as_in_table=True)
        by_id = {question.id: question for question in questions_}
        assert len(prompts) == len(questions_)
        for prompt in prompts:
            first = prompt.id == next(iter(columns[name]))
            column = "What is in and ?" if first else " ".join(columns[name][prompt.id].split())
            assert prompt.turns[0].text == f"<image>\n{column}"
            assert prompt.pictures == by_id[prompt.id].pictures[:1]
            if (name, protocol) != ("MME", "vlmevalkit"):  # control: there alone the column is what is asked
                assert prompt.turns[0].text != by_id[prompt.id].turns[0]


def test_a_benchmark_without_a_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="no table with a question column"):
        resources(tmp_path)[1].benchmark_prompts("MME", 4, as_in_table=True)
