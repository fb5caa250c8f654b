"""Which engine answers for a row, in whole comparisons, with plain code of Hugging Face and PEFT in vLLM's place."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.doctor import examine
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.experiment import answering_engine
from harness.experiment.answering_engine import choose_questions
from harness.experiment.context import build_context
from harness.models.batched_generation import GeneratorEnded, answer
from harness.models.greedy import greedy_decode
from harness.models.llava import LlavaModel
from harness.models.registry import load_model
from harness.serving import engine as engines
from harness.serving import prompts
from harness.serving import spec as spec_module
from harness.serving.engine import CannotServe, EngineSpec
from harness.serving.generator import VllmGenerator
from harness.serving.parity import compare_engines, continuation_logits
from harness.serving.spec import engine_spec
from helpers import small_runs
from helpers.log_lines import log_lines
from helpers.plain_engine import PlainEngine
from helpers.tiny import question, questions
from helpers.tiny_architectures import write
from reports.record import Answering

VLLM = "answering.engine=vllm"
VERSION = "9.9"
pytestmark = pytest.mark.usefixtures("short_answers")


@pytest.fixture
def served(monkeypatch):
    """vLLM looks as if it were installed; returns the engines that were started."""
    started = []

    def start(spec, log):
        started.append(PlainEngine(spec, log))
        return started[-1]

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: find("json" if name == "vllm" else name, *more)
    )
    for module in ("harness.data.answering", "harness.experiment.answering_engine"):
        monkeypatch.setattr(f"{module}.vllm_version", lambda: VERSION)
    answering_engine._identity.cache_clear()
    monkeypatch.setattr(engines, "ServedEngine", start)
    yield started
    answering_engine._identity.cache_clear()


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("bench")
    small_runs.write_preset(folder, tiny_folder, old="mini")
    return folder


def run(bench, out, *methods, sets=(VLLM,)):
    with log_lines() as lines:
        result = compare(Request(methods, resolve(str(bench / "small.yaml"), sets, {}), out))
    return result, "\n".join(lines)


def answers(result):
    return {output.cell.label: output.answers["mini-EVOKE"].answers for output in result.outputs}


@pytest.mark.slow
def test_the_same_answers_by_the_other_engine_and_everything_says_so(bench, served, tmp_path):
    methods = ("lora", "kore:unfrozen-a", "moelora", "full-ft", "golden-context")
    sets = ["moelora.experts=2", "full-ft.learning_rate=1e-3"]
    ours, _ = run(bench, tmp_path / "ours", *methods, sets=sets)
    assert not served
    result, log = run(bench, tmp_path / "run", *methods, sets=[VLLM, *sets])
    assert answers(result) == answers(ours)
    engine = f"vllm {VERSION}"
    by_row = {cell.label: cell for cell in result.run.cells}
    asked = len(result.run.questions)
    served_rows = {"vanilla", "lora", "kore:unfrozen-a", "golden-context"}
    assert {label for label, cell in by_row.items() if cell.answering == Answering(engine, "", asked, 0)} == served_rows
    assert "Experts" in by_row["moelora"].answering.reason
    assert "base's own weights" in by_row["full-ft"].answering.reason
    assert "moelora seed 0: the built-in engine answers, not vllm 9.9: " in log
    tables = "".join(path.read_text() for path in (tmp_path / "run" / "report" / "tables").glob("*.md"))
    assert "≈ other-engine: answered by vLLM" in tables
    assert (
        f"Answered by {engine}. Before, answers that differed from those of the built-in engine: vanilla 0 of "
        in tables
    )
    assert "moelora seed 0: answered by the built-in engine, because" in tables
    assert f"engine:{engine}" in result.run.signature
    for label, cell in by_row.items():
        is_served = label in served_rows
        assert ("other-engine" in cell.marks) == is_served
        assert (f"|engine {engine}|" in cell.scores["mini-EVOKE"].signature) == is_served
        assert cell.ranked == ("oracle" not in cell.marks)
    assert len(served) == 4, "one for each row that it could answer"
    assert not verify(tmp_path / "run").differences
    again, _ = run(bench, tmp_path / "run", *methods, sets=[VLLM, *sets])
    assert len(served) == 4, "nothing is asked again"
    assert again.run == result.run


@pytest.mark.slow
def test_the_engine_and_its_version_are_in_the_key_of_answers_and_a_fallback_shares_the_built_in_ones(
    bench, served, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    run(bench, out, "moelora", sets=["moelora.experts=2"])
    asked, _ = run(bench, out, "moelora", sets=["moelora.experts=2", VLLM])
    assert len(served) == 1, "vanilla is asked again, by vLLM"
    assert asked.outputs[1].answers["mini-EVOKE"].entry_id in built_in_entries(bench, out)
    assert asked.outputs[0].answers["mini-EVOKE"].entry_id not in built_in_entries(bench, out)
    for module in ("harness.data.answering", "harness.experiment.answering_engine"):
        monkeypatch.setattr(f"{module}.vllm_version", lambda: "10.0")
    answering_engine._identity.cache_clear()
    later, _ = run(bench, out, "moelora", sets=["moelora.experts=2", VLLM])
    assert len(served) == 2, "another version answers again"
    assert later.outputs[0].answering.engine == "vllm 10.0"


def built_in_entries(bench, out):
    result, _ = run(bench, out, "moelora", sets=["moelora.experts=2"])
    return {output.answers["mini-EVOKE"].entry_id for output in result.outputs}


def without_projector(function):
    """Pictures' embeddings by the base's projector."""

    def changed(model, batch, pictures):
        wrappers = [part for part in model.module.modules() if type(part).__name__ == "ModulesToSaveWrapper"]
        for wrapper in wrappers:
            wrapper.enable_adapters(False)
        try:
            return function(model, batch, pictures)
        finally:
            for wrapper in wrappers:
                wrapper.enable_adapters(True)

    return changed


@pytest.mark.slow
def test_a_projector_that_is_left_out_is_found_before_anything_is_answered(bench, served, tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "_embeddings", without_projector(prompts._embeddings))
    result, log = run(bench, tmp_path / "run", "lora", sets=[VLLM, "lora.projector_learning_rate=0.1"])
    vanilla, lora = result.run.cells
    assert vanilla.answering.engine == f"vllm {VERSION}", "control: it has no projector of its own"
    assert lora.answering.engine == "builtin"
    assert "log-probabilities differ by up to" in lora.answering.reason
    assert lora.answering.reason in log
    ours, _ = run(bench, tmp_path / "ours", "lora", sets=["lora.projector_learning_rate=0.1"])
    assert answers(result) == answers(ours)


@pytest.mark.slow
def test_an_engine_that_cannot_load_the_model_or_dies(bench, served, tmp_path, monkeypatch):
    def refuse(spec, log):
        raise CannotServe(f"vLLM cannot load it (no class for {spec.options['model']})", location="log", hint="none")

    monkeypatch.setattr(engines, "ServedEngine", refuse)
    result, _ = run(bench, tmp_path / "refused", "lora")
    assert [cell.answering.reason for cell in result.run.cells] == ["vLLM cannot load it (no class for the model)"] * 2
    assert all(cell.status == "ok" for cell in result.run.cells)

    def die(self, *_, **__):
        raise GeneratorEnded("the process that vLLM runs in has ended (signal 9)", location="log", hint="again")

    monkeypatch.setattr(engines, "ServedEngine", PlainEngine)
    with monkeypatch.context() as patch:
        patch.setattr(PlainEngine, "generate", die)
        result, _ = run(bench, tmp_path / "died", "lora")
    assert {(cell.status, cell.reason.partition(" | ")[0]) for cell in result.run.cells} == {
        ("failed", "log: the process that vLLM runs in has ended (signal 9)")
    }
    result, _ = run(bench, tmp_path / "died", "lora")
    assert {cell.answering.engine for cell in result.run.cells} == {f"vllm {VERSION}"}, "nothing was stored of it"


@pytest.mark.slow
def test_prompts_beyond_the_window_are_served_where_positions_can_be_added(bench, served, tmp_path, monkeypatch):
    sets = [VLLM, "answering.allow_long=true"]
    monkeypatch.setattr(spec_module, "context_window", lambda _: 9)
    result, _ = run(bench, tmp_path / "run", "vanilla", sets=sets)
    assert result.run.cells[0].answering.engine == f"vllm {VERSION}"
    (engine,) = served
    longest = engine.spec.options["max_model_len"]
    assert engine.spec.options["hf_overrides"] == {"text_config": {"max_position_embeddings": longest}}
    assert longest > 9
    monkeypatch.setattr(spec_module, "has_plain_positions", lambda _: False)
    result, _ = run(bench, tmp_path / "other", "vanilla", sets=sets)
    assert f"may have {longest} tokens" in result.run.cells[0].answering.reason


def test_doctor_and_plan_name_it(bench, served, tmp_path):
    sentence = f"vllm {VERSION} answers for each row that it can serve"
    planned = plan(Request(("lora",), resolve(str(bench / "small.yaml"), [VLLM], {}), tmp_path / "run"))
    assert any(sentence in line for line in planned.answering)
    assert any(sentence in line.found for line in examine(tmp_path, "mini", None, [VLLM]))
    assert not any(sentence in line.found for line in examine(tmp_path, "mini")), "control"


def test_without_vllm_the_extra_is_named(bench, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else find(name, *more))
    with pytest.raises(UserError, match=r"(?s)answering.engine=vllm.*not installed.*harness\[vllm\]"):
        run(bench, tmp_path / "run", "lora")
    assert any(line.state == "missing" and "vllm" in line.hint for line in examine(tmp_path, "mini", None, [VLLM]))


def test_bad_values_and_processes_that_share_a_cell_are_refused(bench, served):
    with pytest.raises(UserError, match=r"(?s)answering.engine.*one of builtin, vllm"):
        resolve("mini", ["answering.engine=sglang"])
    with pytest.raises(UserError, match="2 processes that share each cell"):
        run(bench, bench / "shared", "lora", sets=[VLLM, "processes=2"])


def test_questions_of_every_kind_are_compared():
    tasks = {
        "many": [question(number) for number in range(500)],
        "kinds": [question(600 + number, turns=number % 3 + 1, pictures=number % 2) for number in range(60)],
        "few": [question(700)],
        "none": [],
    }
    chosen = choose_questions(tasks, 32)
    assert sum(map(len, chosen.values())) == 32
    assert chosen.keys() == {"many", "kinds", "few"}
    assert {(len(each.turns), len(each.pictures)) for each in chosen["kinds"]} == {
        (len(each.turns), len(each.pictures)) for each in tasks["kinds"]
    }
    assert chosen["kinds"] == [each for each in tasks["kinds"] if each in chosen["kinds"]], "in the benchmark's order"
    assert choose_questions({"few": tasks["few"]}) == {"few": tasks["few"]}


@pytest.fixture
def generator(tiny_model, tiny_folder, tmp_path):
    return VllmGenerator(
        tiny_model, PlainEngine(engine_spec(tiny_model, tiny_folder, 4, 100, {}, tmp_path), tmp_path / "log")
    )


def test_answers_of_all_kinds_are_those_of_the_built_in_engine(tiny_model, generator):
    asked = [*questions(24, seed=5), question(90, turns=3, pictures=2)]
    asked[0] = dataclasses.replace(asked[0], max_new_tokens=1)
    ours, theirs = (
        {one.question_id: one for batch in answer(tiny_model, asked, batch_size=4, generator=each) for one in batch}
        for each in (None, generator)
    )
    assert ours == theirs


class Wrong(VllmGenerator):
    """Gives other answers, or other probabilities, than it should."""

    shift, other_text = 0.0, False

    def complete(self, *arguments, **options):
        found = super().complete(*arguments, **options)
        found = [dataclasses.replace(one, logprobs=[value + self.shift for value in one.logprobs]) for one in found]
        if self.other_text:
            found[0] = dataclasses.replace(found[0], ids=[found[0].ids[0] + 1, *found[0].ids[1:]])
        return found


@pytest.mark.parametrize(
    ("shift", "other_text", "exact", "problem"),
    [
        (0.0, False, True, ""),
        (0.02, False, True, "log-probabilities differ by up to 0.02"),
        (0.02, False, False, ""),
        (0.0, True, True, "of 12 answers differ from the built-in's; log-probabilities differ by up to"),
        (0.0, True, False, "of 12 answers differ from the built-in's; it takes tokens that are"),
    ],
)
def test_only_equal_answers_pass(shift, other_text, exact, problem, tiny_model, generator):
    wrong = Wrong(tiny_model, generator._engine)
    wrong.shift, wrong.other_text = shift, other_text
    asked = [question(number, pictures=1) for number in range(12)]
    found = compare_engines(tiny_model, wrong, [(None, asked)], 2, exact=exact)
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)
    assert found.asked == 12
    assert (found.differing > 0) == other_text


def test_a_question_that_only_the_other_engine_refuses_is_named_and_one_that_both_refuse_is_no_difference(
    tiny_model, generator, monkeypatch
):
    damaged = dataclasses.replace(question(3), pictures=())
    found = compare_engines(tiny_model, generator, [(None, [question(1), damaged])], 2, exact=True)
    assert found.problem == ""

    def refuse(self, prompts, pictures, **_):
        raise RuntimeError("vLLM: TypeError: no embeddings")

    monkeypatch.setattr(PlainEngine, "generate", refuse)
    found = compare_engines(tiny_model, generator, [(None, [question(1), damaged])], 2, exact=True)
    assert found.problem.startswith("it fails over 1 of 2 questions (vLLM: TypeError: no embeddings)")


def test_an_adapter_without_an_effect_is_found(tiny_model, generator, monkeypatch):
    monkeypatch.setattr(VllmGenerator, "has_adapter", True)
    found = compare_engines(tiny_model, generator, [(None, [question(1)])], 2, exact=True)
    assert found.problem == "the adapter changes nothing in it"


def test_answers_that_differ_from_time_to_time_do_not_pass(tiny_model, generator, monkeypatch):
    draws = iter(range(100))

    def change(self, rows):
        return [f"{next(draws)}" for _ in rows]

    monkeypatch.setattr(LlavaModel, "answer_texts", change)
    found = compare_engines(tiny_model, generator, [(None, [question(1)])], 2, exact=False)
    assert "asked twice, it answers differently" in found.problem


def test_continuation_logits_are_those_from_which_the_answer_was_chosen(tiny_model):
    (prompt,) = [tiny_model.generation_batch([(["<image>\nWhat is it?"], question(3).pictures)])]
    positions = torch.arange(prompt["input_ids"].shape[1])[None]
    with torch.inference_mode():
        ((ids, _),) = greedy_decode(
            tiny_model.decoder,
            tiny_model.inner.lm_head,
            tiny_model.input_embeddings(prompt),
            prompt["attention_mask"],
            positions,
            [6],
            frozenset(),
        )
        logits = continuation_logits(tiny_model, prompt, ids)
        other = continuation_logits(tiny_model, prompt, [ids[0] + 1, *ids[1:]])
    assert logits.argmax(-1).tolist() == ids
    assert torch.equal(logits[0], other[0])
    assert not torch.allclose(logits[1], other[1]), "control"


@pytest.mark.parametrize("name", ["llava-next", "llava"])
def test_an_answer_with_the_token_of_a_picture_is_rated_up_to_it(name, tiny_model, tmp_path):
    model = tiny_model
    if name != "llava":
        model = load_model(write(name, tmp_path), torch.device("cpu"), torch.float32)
    prompt = model.generation_batch([(["<image>\nWhat is it?"], question(3).pictures)])
    image = prompts.image_token(model)
    with torch.inference_mode():
        logits = continuation_logits(model, prompt, [7, image, 9, image])
        plain = continuation_logits(model, prompt, [7, 8, 9])
    assert len(logits) == 2
    torch.testing.assert_close(logits, plain[:2])
    assert len(plain) == 3  # control


def test_the_context_knows_the_base_before_anything_is_attached(bench, served, tmp_path):
    def digest_of(*sets):
        context = build_context(Request(("lora",), resolve(str(bench / "small.yaml"), sets, {}), tmp_path / "run"))
        assert context.model is not None
        return context.base_digest

    assert len(digest_of(VLLM)) == 64
    assert digest_of() == ""


def test_an_engine_is_told_all_that_it_serves(tiny_model, tiny_folder, tmp_path):
    spec = engine_spec(tiny_model, tiny_folder, 4, 100, {}, tmp_path)
    assert isinstance(spec, EngineSpec)
    assert spec.adapter is None
    assert not {"enable_lora", "hf_overrides"} & spec.options.keys()
    assert spec.options["dtype"] == "float32"
    assert spec.options["max_model_len"] == 512
    assert spec.options["limit_mm_per_prompt"] == {"image": 0}
    assert set(spec.stops) == tiny_model.stops


@pytest.mark.slow
def test_an_engine_that_no_longer_loads_fails_a_row_that_it_has_begun(bench, served, tmp_path, monkeypatch):
    out, complete = tmp_path / "run", VllmGenerator.__call__

    def interrupted(self, *arguments):
        if served[-1].names:
            raise GeneratorEnded("ended", location="log", hint="again")
        return complete(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(answering_engine, "_compare", lambda *_: Answering(f"vllm {VERSION}", "", 1, 0))
        patch.setattr(VllmGenerator, "__call__", interrupted)
        result, _ = run(bench, out, "vanilla")
    assert result.run.cells[0].status == "failed"

    def refuse(spec, log):
        raise CannotServe("vLLM cannot load it (no memory)", location="log", hint="none")

    with monkeypatch.context() as patch:
        patch.setattr(engines, "ServedEngine", refuse)
        result, _ = run(bench, out, "vanilla")
    assert "no memory" in result.run.cells[0].reason
    result, _ = run(bench, out, "vanilla")
    assert result.run.cells[0].answering.engine == f"vllm {VERSION}", "control: it goes on"
