"""A task sequence in the settings: names, paths, what it takes the place of, and what is refused."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from harness.commands.tune import on_tuning_slice
from harness.config.schema import Settings
from harness.config.settings import resolve
from harness.data.inputs import injection_file
from harness.data.requirements import list_requirements

PRESET = "model: m\ndata: {retention: r}\nbenchmarks: [mini-EVOKE]\n"


def written(folder, stages, data=""):
    preset = folder / "own.yaml"
    preset.write_text(PRESET.replace("retention: r", f"retention: r{data}") + f"stages: {stages}\n")
    return str(preset)


def test_a_preset_names_its_stages_and_its_paths_are_relative_to_it(tmp_path):
    stages = "[{knowledge: a/flags.json}, {knowledge: b/items.csv, evaluation: q.csv}, {knowledge: c.d, name: 7}]"
    settings = resolve(written(tmp_path, stages)).settings
    assert [stage.name for stage in settings.sequence] == ["flags", "b", "7"]
    assert [stage.knowledge for stage in settings.sequence] == [
        tmp_path / "a" / "flags.json",
        tmp_path / "b" / "items.csv",
        tmp_path / "c.d",
    ]
    assert [stage.evaluation for stage in settings.sequence] == [None, tmp_path / "q.csv", None]
    assert settings.stage_count == 3
    assert settings.data.knowledge is None


def test_a_later_sequence_takes_the_place_of_the_presets_knowledge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = "[{knowledge: a}, {knowledge: b}]"
    resolved = resolve("mini", [f"stages={stages}"])
    assert [stage.knowledge for stage in resolved.settings.sequence] == [tmp_path / "a", tmp_path / "b"]
    assert resolved.settings.data.knowledge is None
    kept = Settings.model_validate(resolved.settings.model_dump(mode="json"))  # as a run's folder keeps them
    assert kept == resolved.settings
    assert "data.knowledge" not in resolved.origins
    assert resolve("mini", {}, {"stages": [{"knowledge": tmp_path / "a"}, {"knowledge": "b"}]}).settings.sequence == (
        resolved.settings.sequence
    )
    own = written(tmp_path, stages)
    assert [stage.name for stage in resolve(own, ["stages=[{knowledge: c}]"]).settings.sequence] == ["c"]
    one = resolve(own, ["data.knowledge=d", "stages=1"]).settings
    assert (one.sequence, one.stage_count, injection_file(one).parent.name) == ((), 1, tmp_path.name)
    assert resolve("mini").settings.sequence == ()  # the control
    assert resolve("mini", [], {"stages": 4}).settings.stage_count == 4


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("[]", "the list of stages is empty"),
        ("[3]", "number 1: a stage is a mapping, not 3"),
        ("[{knowledge: a}, {name: b}]", "number 2: the setting knowledge is missing"),
        ("[{knowlege: a}]", "number 1: a stage has no setting 'knowlege'\nHint: did you mean 'knowledge'"),
        ("[{knowledge: 3}]", "number 1: knowledge must be a path"),
        ("[{knowledge: a, evaluation: [b]}]", "number 1: evaluation must be a path"),
        ("[{knowledge: a, name: [b]}]", "number 1: name must be a word"),
        ("[{knowledge: a/items.jsonl}, {knowledge: c/a.json}]", "number 2: its name 'a' is that of number 1"),
        (f"[{{knowledge: a, name: {'x' * 41}}}]", "cannot head a column"),
        ("{first: {knowledge: a}}", "the stages are a number or a list"),
        ("two", "'two' does not fit"),
    ],
)
def test_a_bad_sequence_is_refused_with_its_place(tmp_path, stages, words):
    with pytest.raises(UserError) as caught:
        resolve(written(tmp_path, stages))
    assert words in str(caught.value)
    assert "preset own" in str(caught.value)


def test_the_knowledge_is_named_once(tmp_path):
    stages = "[{knowledge: a}, {knowledge: b}]"
    own = written(tmp_path, stages)
    with pytest.raises(UserError, match=r"data\.knowledge \(preset own\): the sequence of stages \(preset own\)"):
        resolve(written(tmp_path, stages, data=", knowledge: k"))
    own = written(tmp_path, stages)
    for assignments in (["data.knowledge=k"], ["data.evaluation=q"], [f"stages={stages}", "data.evaluation=q"]):
        with pytest.raises(UserError, match="brings its own data"):
            resolve(own, assignments)
    with pytest.raises(UserError, match=r"--stages 2: the settings give a sequence of stages \(preset own\)"):
        resolve(own, [], {"stages": 2})
    with pytest.raises(UserError, match=r"the setting data\.knowledge is missing"):
        resolve(own, ["stages=2"])


def test_what_needs_one_data_set_says_so(tmp_path):
    resolved = resolve("mini", [f"stages=[{{knowledge: {tmp_path}}}, {{knowledge: {tmp_path}/b, evaluation: q}}]"])
    with pytest.raises(UserError, match="no tuning slice"):
        on_tuning_slice(resolved)
    with pytest.raises(UserError, match="a sequence of data sets"):
        injection_file(resolved.settings)
    needs = {need.name: need.problem for need in list_requirements(resolved) if need.name.startswith("stage ")}
    assert needs == {
        f"stage {tmp_path.name}": "evoke_injection_data.json is not there",
        "stage b": "b is not there, q is not there",
    }
