"""The forecast of memory: against measurement on both miniatures, and against sums by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks.errors import UserError
from harness.commands.memory import for_a_card, format_bytes, parse_memory, plan_memory, show_memory
from harness.commands.plan import plan
from harness.config.settings import Request, resolve
from harness.experiment.context import build_context
from harness.experiment.resources import make_resources
from harness.experiment.stages import list_stages
from harness.models.batched_generation import answer
from harness.models.registry import describe_model, load_model
from harness.models.shapes import ModelSizes, model_sizes
from harness.training.checkpoint import seed_everything
from harness.training.conversation_batches import ConversationBatches
from harness.training.gradient_checkpointing import gradient_checkpointing
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
from harness.training.memory import Asked, Machine, MicroBatch, forecast, largest_micro_batch
from helpers.allocations import peak_of
from helpers.small_runs import write_preset
from helpers.tiny import conversations, write_tiny_model
from methods.memory import DecoderShapes, MemoryNeeds

CPU = torch.device("cpu")
SMALL = ["limit=16", "training.epochs=1", "training.batch_size=8", "training.micro_batch=8"]
ROWS = ["lora", "kore", "full-ft", "ewc", "lwf", "moelora"]
SIZES = ModelSizes(
    DecoderShapes(((4, 4), (4, 4), (4, 4), (4, 4), (4, 6), (4, 6), (6, 4)) * 2, 2, 50, 10), 30, 4, 4, 4, 6, 100, 3, 2
)
BATCH = MicroBatch(rows=2, width=5, supervised=3, image_tokens=0, alone=True, padded=False)


def request(out: Path, methods: tuple[str, ...], preset: str, *assignments: str) -> Request:
    return Request(methods, resolve(preset, assignments), out)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("preset", ["mini", "mini-qwen"])
def test_it_is_within_a_fifth_of_what_torch_allocates(tmp_path, preset, checkpointing):
    """The peak of real trainings and answers, by torch's own allocator, with the weights; the tower has run before."""
    extra = f"training.gradient_checkpointing={checkpointing}"
    context = build_context(request(tmp_path, tuple(ROWS), preset, *SMALL, extra))
    context = dataclasses.replace(context, cells=[cell for cell in context.cells if cell.name in ROWS])
    model, planned = context.model, {row.label: row.forecast for row in plan_memory(context).rows}
    weights = sum(weight.numel() * weight.element_size() for weight in model.module.parameters())
    assert planned.keys() == set(ROWS)
    questions = [question for task in context.inputs.tasks for question in task.questions]
    found = {}
    for cell in context.cells:
        stage, method = list_stages(context, cell)[0], cell.make()
        resources, settings = make_resources(context, stage), context.training_of(cell)
        samples = method.training_data(stage.knowledge, resources)
        model.training_batch(samples, model.vision_cache())
        statistics: dict[str, torch.Tensor] = {}

        def prepare(method=method, resources=resources, statistics=statistics):
            seed_everything(0)
            statistics |= method.prepare(model, resources)

        before, prepared = weights + peak_of(prepare), statistics

        def train(method=method, prepared=prepared, samples=samples, settings=settings):
            seed_everything(0)
            method.attach(model, prepared)
            source = ConversationBatches(model, samples, settings, 0)
            source._steps.sort(key=lambda rows: -len(rows) * max(len(model.encode(samples[row])[0]) for row in rows))
            source.steps = 2
            with gradient_checkpointing(model.module, settings.gradient_checkpointing):
                groups = list(method.parameter_groups(model))
                fit(source, InjectionLoss(model, method), groups, settings, device=CPU, precision="float32")

        trained = weights + peak_of(train)
        model.module.eval()
        with_adapter = sum(weight.numel() * weight.element_size() for weight in model.module.parameters())
        answered = with_adapter + peak_of(
            lambda: [*answer(model, questions, batch_size=context.cache_inputs.batch_size)]
        )
        method.detach(model)
        parts = planned[cell.label]
        passing = max(parts.activations, parts.gradients)
        training = parts.weights + parts.trained + parts.optimizer + parts.statistics + passing
        found[cell.label] = (training / trained, parts.peak / max(before, trained, answered))
    assert all(0.8 < ratio < 1.2 for ratios in found.values() for ratio in ratios), found


def test_the_parts_by_hand():
    """Two layers of width 4, inner width 6, in float32: every number below is counted on paper."""
    matrices = 2 * (4 * 16 + 2 * 24 + 24)
    machine = Machine("cpu", "float32", "float32")
    needs = MemoryNeeds(trained=70, rank=2)
    found = forecast(SIZES, needs, machine, BATCH, Asked(3, 5, 2))
    assert found.weights == 4 * (matrices + 50 + 10 + 30)
    assert found.trained == found.gradients == 4 * 70
    assert found.optimizer == 8 * 70
    layer = 4 * (2 * 4 + 2 * 4 + 2 * 4 + 3 * 6 + 2 * 7 + 2 * 4 + 6)  # norms, attention, MLP, A x, inputs
    outside = 10 * 4 * (2 * 4 + 4 + 1)
    logits = 3 * (100 * 3 * 4 + 4 * 4)
    assert found.activations == 2 * 10 * layer + outside + logits
    assert found.answering == 2 * 2 * 4 * 4 * 3 * 7 + 2 * 4 * 3 * 100 + 3 * 5 * 4 * (16 + 18 + 5)
    assert found.peak == found.weights + 280 + 560 + found.activations


def test_what_saves_memory_does():
    usual, batch = Machine("cuda", "bfloat16", "bfloat16"), dataclasses.replace(BATCH, rows=50, alone=False)
    needs = MemoryNeeds(trained=7000, rank=2)

    def peak(needs=needs, batch=batch, **changes):
        return forecast(SIZES, needs, dataclasses.replace(usual, **changes), batch, None)

    base = peak()
    assert peak(checkpointing=True).activations < 0.8 * base.activations
    assert peak(optimizer="adamw-8bit").optimizer == pytest.approx(base.optimizer / 4, rel=0.02)
    assert base.weights - peak(stored="nf4").weights == pytest.approx(SIZES.shapes.matrices * 1.484, rel=0.01)
    assert base.weights - peak(shards=2).weights == SIZES.shapes.matrices
    assert peak(moment_shards=4).optimizer == base.optimizer // 4
    assert peak(copies=2).gradients == 2 * base.gradients
    frozen = MemoryNeeds(trained=7000, rank=2, keeps_inputs=False)
    assert peak(frozen).activations < base.activations < peak(MemoryNeeds(7000, rank=2, dropout=True)).activations
    full = peak(MemoryNeeds(7000, trains_base=True))
    assert full.weights > 1.8 * base.weights - 4 * 40, "the base itself is float32"
    long = dataclasses.replace(batch, supervised=200)
    added = peak(needs.plus(vocabulary_copies=5), long).activations - peak(batch=long).activations
    assert added == 5 * 4 * 200 * SIZES.vocabulary
    assert peak(batch=dataclasses.replace(batch, alone=True)).peak < base.peak
    assert peak(needs.plus(preparation=10**9)).peak == base.weights + 10**9


def test_calibration_by_hand():
    """Forty prompts: 32 of at most 4 tokens and 8 of at most 6, all their hidden states on a CPU, and one layer."""
    needs, prompts = MemoryNeeds(trained=1, preparation=1000, prompts=40), [6] * 8 + [3] * 31 + [4]
    found = forecast(SIZES, needs, Machine("cpu", "float32", "float32"), None, None, prompts)
    hidden, positions = 4 * 4 * (32 * 4 + 8 * 6), 32 * 4 * (2 * 4 * 2 + 4) + 8 * 6 * (2 * 4 * 2 + 6)
    assert found.preparation == 1000 + hidden + positions + 32 * 4 * 4 * (16 + 18)
    assert found.peak == found.weights + found.preparation
    there = forecast(SIZES, needs, Machine("cuda", "bfloat16", "bfloat16"), None, None, prompts)
    positions = 32 * 4 * (2 * 2 * 2 + 4) + 8 * 6 * (2 * 2 * 2 + 6)
    assert there.preparation == 1000 + positions + 32 * 4 * 2 * (16 + 18), "on a GPU they wait in main memory"


def test_the_largest_micro_batch():
    found = largest_micro_batch([[0, 1, 2], [3, 4]], [5, 9, 2, 8, 8], [1, 2, 3, 4, 5], [0, 16, 0, 0, 16], 2)
    assert found == MicroBatch(rows=2, width=9, supervised=3, image_tokens=16, alone=False, padded=True)
    assert largest_micro_batch([[0], [1, 2]], [1, 7, 7], [1, 1, 1], [0, 0, 0], 2).alone


@pytest.mark.parametrize("text", ["24", "GiB", "24 parsecs", "-1GiB", "1e9GB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(UserError, match="this is no size"):
        parse_memory(text)


def test_sizes():
    assert [parse_memory(text) for text in ("24GiB", " 1.5 gb", "512MiB", None)] == [24 * 2**30, 1.5e9, 2**29, None]
    assert [format_bytes(number) for number in (5, 2048, 24 * 2**30)] == ["5 B", "2 KiB", "24.0 GiB"]


def test_a_plan_says_what_fits(tmp_path, capsys):
    folder = write_tiny_model(tmp_path / "model")
    sizes = model_sizes(describe_model(folder))
    preset = write_preset(tmp_path, folder, old="mini")
    planned = plan(request(tmp_path / "run", ("lora", "full-ft"), str(preset)), "1MiB").memory
    assert (planned.device, planned.precision) == ("cpu", "float32"), "the preset asks for the CPU"
    assert [row.label for row in planned.rows] == ["vanilla", "lora", "full-ft"]
    lora = planned.rows[1].forecast
    assert lora.weights == 4 * (sizes.shapes.matrices + sizes.shapes.others + sizes.shapes.projector + sizes.tower)
    assert [planned.fits(row) for row in planned.rows] == [True, False, False]
    context = build_context(request(tmp_path / "run", ("lora", "full-ft"), str(preset), "precision=auto"))
    four_bits = dataclasses.replace(context, cache_inputs=dataclasses.replace(context.cache_inputs, precision="nf4"))
    _, less, none = plan_memory(four_bits).rows
    assert less.forecast.weights < lora.weights
    assert none.reason == "quantised weights cannot be trained"
    roomy = dataclasses.replace(planned, available=10 * lora.peak)
    assert all(roomy.fits(row) for row in roomy.rows)
    show_memory(planned)
    said = capsys.readouterr().out
    assert "lora" in said
    assert "fits" in said


def test_sizes_come_without_weights(tmp_path):
    folder = write_tiny_model(tmp_path)
    model = load_model(folder, CPU, torch.float32)
    (folder / "model.safetensors").unlink()
    described = describe_model(folder)
    assert {weight.device.type for weight in described.module.parameters()} == {"meta"}
    assert model_sizes(described) == model_sizes(model)
    for sample in conversations(6):
        assert described.encode(sample) == model.encode(sample)


def test_a_card_that_this_machine_does_not_have_is_planned_for_as_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = resolve("mini", ["device=auto", "precision=auto"]).settings
    there = for_a_card(settings, 24 * 2**30)
    assert (there.device, there.precision) == ("cuda", "bfloat16")
    assert for_a_card(settings, None) is settings
    kept = resolve("mini", ["device=auto", "precision=nf4"]).settings
    assert for_a_card(kept, 24 * 2**30).precision == "nf4"
