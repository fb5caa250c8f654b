"""Conversations as training batches, on the tiny LLaVA."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest
import torch
from accelerate.utils import send_to_device
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import UserError
from harness.config.schema import TrainingSettings
from harness.models.llava import LlavaModel
from harness.training.conversation_batches import ConversationBatches, length_grouped
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
from helpers.tiny import conversations
from helpers.toy_methods import CPU, what_counts
from methods.base import InjectionMethod, MethodSettings
from methods.components.token_weights import entropy_weights

SAMPLES = conversations(14, seed=1)


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=300), size=st.integers(1, 20), seed=st.integers(0, 9))
def test_an_epoch_contains_each_sample_once(lengths, size, seed):
    batches = length_grouped(lengths, size, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in batches)
    assert batches == length_grouped(lengths, size, seed)


def test_batches_have_similar_lengths_and_random_order():
    lengths = [1 + (37 * i) % 200 for i in range(1000)]
    grouped = length_grouped(lengths, 8, 0)

    def mean_range(batches):
        return statistics.mean(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches)

    unsorted = [list(range(start, start + 8)) for start in range(0, 1000, 8)]
    assert mean_range(grouped) < 0.15 * mean_range(unsorted)
    assert grouped != length_grouped(lengths, 8, 1)
    means = [statistics.mean(lengths[i] for i in batch) for batch in grouped]
    rises = sum(a < b for a, b in itertools.pairwise(means))
    assert 0.35 * len(means) < rises < 0.65 * len(means), "short and long batches come mixed"


class Nothing(InjectionMethod):
    """A method without a penalty."""

    def __init__(self) -> None:
        super().__init__(MethodSettings())


class Weighted(Nothing):
    """A loss of its own."""

    def loss(self, model, batch, logits, targets):
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return (entropy_weights(logits) * losses).sum(), len(targets)


class Pull(Nothing):
    """A penalty of the parameters alone and one of the batch."""

    def penalty(self, model, batch, logits):
        drawn = model.module.model.multi_modal_projector.linear_1.weight.square().sum()
        return 0.05 * drawn + 0.1 * logits.square().mean()


def trained(folder: Path, method: object = None, seed: int = 0, **changes):
    model = LlavaModel.load(folder, CPU, torch.float32)
    parameters = dict(model.module.model.multi_modal_projector.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    groups = [{"params": list(parameters.values()), "names": list(parameters), "lr": 1e-3}]
    settings = TrainingSettings(**{"epochs": 2, "batch_size": 4, **changes})
    source = ConversationBatches(model, SAMPLES, settings, seed)
    objective = InjectionLoss(model, method or Nothing())
    log = fit(source, objective, groups, settings, device=CPU, precision="float32")
    return log, torch.cat([parameter.detach().reshape(-1) for parameter in parameters.values()])


def test_equal_seeds_give_equal_trainings(tiny_folder):
    first, again, other = (trained(tiny_folder, seed=seed) for seed in (0, 0, 1))
    assert len(first[0].steps) == 2 * 4
    assert what_counts(first[0].steps) == what_counts(again[0].steps)
    assert torch.equal(first[1], again[1])
    assert what_counts(first[0].steps) != what_counts(other[0].steps)


@pytest.mark.parametrize("method", [Nothing(), Pull(), Weighted()], ids=["plain", "penalised", "weighted"])
def test_four_rows_at_once_equal_four_single_rows(tiny_folder, method):
    together, cut = (trained(tiny_folder, method, micro_batch=size) for size in (4, 1))
    assert [step.loss for step in together[0].steps] == pytest.approx([step.loss for step in cut[0].steps], rel=1e-4)
    torch.testing.assert_close(together[1], cut[1], rtol=1e-3, atol=2e-4)


def test_the_default_loss_is_cross_entropy_bit_for_bit(tiny_model):
    """As in the training loop before it was a hook."""
    batch = tiny_model.training_batch(SAMPLES[:4])
    step = InjectionLoss(tiny_model, Nothing())(batch)
    logits, targets = tiny_model.supervised(batch)
    assert torch.equal(step.loss_sum, torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
    assert (step.tokens, step.penalty) == (len(targets), None)
    tiny_model.module.eval()


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        (torch.zeros(()), "a Tensor instead of"),
        ((torch.zeros(3), 3), "a tensor of shape"),
        ((torch.zeros((), dtype=torch.int64), 3), "not a scalar tensor"),
        ((0.5, 3), "<class 'float'> as the sum"),
        ((torch.zeros(()), torch.tensor(3)), "as the number of tokens"),
        ((torch.zeros(()), float("nan")), "nan as the number"),
        ((torch.zeros(()), -1), "-1 as the number"),
    ],
)
def test_a_loss_of_another_kind_is_refused(tiny_model, returned, complaint):
    method = Nothing()
    method.loss = lambda *_: returned
    with pytest.raises(UserError, match=complaint):
        InjectionLoss(tiny_model, method)(tiny_model.training_batch(SAMPLES[:1]))
    tiny_model.module.eval()


def test_each_epoch_has_every_supervised_token_once(tiny_folder):
    log, _ = trained(tiny_folder)
    model = LlavaModel.load(tiny_folder, CPU, torch.float32)
    tokens = sum(label != -100 for sample in SAMPLES for label in model.encode(sample)[1])
    assert sum(step.tokens for step in log.steps) == 2 * tokens


def gradients_of(model: LlavaModel, batch) -> dict[str, torch.Tensor]:
    """Gradients of all trained parameters."""
    loss = InjectionLoss(model, Nothing())(batch).loss_sum
    loss.backward()
    return {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}


def record_tower_passes(model: LlavaModel, monkeypatch) -> list[int]:
    passes: list[int] = []
    forward = type(model.vision_encoder)._run_tower
    monkeypatch.setattr(
        type(model.vision_encoder), "_run_tower", lambda self, m, p: (passes.append(len(p)), forward(self, m, p))[1]
    )
    return passes


def test_a_frozen_tower_encodes_each_picture_once(tiny_folder, monkeypatch):
    """The gradients are those without a cache."""
    models = [LlavaModel.load(tiny_folder, CPU, torch.float32) for _ in range(2)]
    for model in models:
        model.module.model.multi_modal_projector.requires_grad_(True)
        model.module.model.language_model.layers[0].mlp.up_proj.requires_grad_(True)
    settings = TrainingSettings(epochs=2, batch_size=4)
    source = ConversationBatches(models[0], SAMPLES, settings, 0)
    cached = gradients_of(models[0], next(source.micro_batches(0, 4)))
    uncached_source = ConversationBatches(models[1], SAMPLES, settings, 0)
    uncached_source._vision_cache = None
    uncached = gradients_of(models[1], next(uncached_source.micro_batches(0, 4)))
    assert cached.keys() == uncached.keys()
    assert len(uncached) == 4 + 1
    for name, gradient in uncached.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-4, atol=1e-5)
    passes = record_tower_passes(models[0], monkeypatch)
    for step in range(source.steps):
        list(source.micro_batches(step, 4))
    assert 0 < len(passes) < source.steps // 2, "the second epoch does not use the tower"


def test_a_trained_tower_encodes_pictures_every_time(tiny_folder, monkeypatch):
    """Positive control."""
    model = LlavaModel.load(tiny_folder, CPU, torch.float32)
    trained = model.module.model.vision_tower
    trained.requires_grad_(True)
    source = ConversationBatches(model, SAMPLES, TrainingSettings(epochs=2, batch_size=4), 0)
    passes = record_tower_passes(model, monkeypatch)
    gradients = [gradients_of(model, next(source.micro_batches(step, 4))) for step in range(2)]
    assert len(passes) == 2
    assert all(name.startswith("model.vision_tower") for name in gradients[0])
    assert any(bool(gradient.any()) for gradient in gradients[0].values())


def test_empty_training_data_is_refused(tiny_model):
    with pytest.raises(UserError, match="nothing to learn"):
        ConversationBatches(tiny_model, [], TrainingSettings(), 0)


class Recorder(Nothing):
    """Keeps the token ids and the supervised ones of each row, with the id of its conversation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[int], list[int]]] = []

    def loss(self, model, batch, logits, targets):
        rows = zip(batch.conversation_ids, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
        for name, ids, mask, labels in rows:
            self.seen.append((name, ids[mask.bool()].tolist(), labels[labels != -100].tolist()))
        return super().loss(model, batch, logits, targets)


def expected_rows(model: LlavaModel) -> list[tuple[str, list[int], list[int]]]:
    encoded = {sample.id: model.encode(sample) for sample in SAMPLES}
    return [(name, ids, [label for label in labels if label != -100]) for name, (ids, labels) in encoded.items()]


@pytest.mark.parametrize("micro_batch", [4, 3, 1])
def test_the_loss_knows_which_conversation_each_row_is(tiny_folder, tiny_model, micro_batch):
    recorder = Recorder()
    trained(tiny_folder, recorder, micro_batch=micro_batch)
    rows = expected_rows(tiny_model)
    assert len({name for name, _, _ in rows}) == len(rows) == 14
    assert sorted(recorder.seen) == sorted(rows * 2), "two epochs"


def test_processes_that_share_a_step_know_their_own_rows(tiny_model):
    """Steps of 4, 4, 4 and 2 rows, for three processes: in the short one a process learns nothing."""
    recorders, settings = [Recorder() for _ in range(3)], TrainingSettings(epochs=1, batch_size=4)
    with torch.no_grad():
        for rank, recorder in enumerate(recorders):
            source = ConversationBatches(tiny_model, SAMPLES, settings, 0, (rank, 3))
            objective = InjectionLoss(tiny_model, recorder)
            for step in range(source.steps):
                for batch in source.micro_batches(step, 1):
                    objective(batch)
    tiny_model.module.eval()
    seen = [row for recorder in recorders for row in recorder.seen]
    rows = expected_rows(tiny_model)
    assert sorted(row for row in seen if row[2]) == sorted(rows), "each row is learned in one process"
    fillers = [row for row in seen if not row[2]]
    assert fillers, "control: a process without a row of its own computes one of the others"
    assert all((name, ids) in [row[:2] for row in rows] for name, ids, _ in fillers)
    assert all(len(recorder.seen) == len(recorders[0].seen) for recorder in recorders)


def test_a_batch_keeps_its_conversations_when_it_is_moved_or_changed(tiny_model):
    batch = tiny_model.training_batch(SAMPLES[:2])
    names = tuple(sample.id for sample in SAMPLES[:2])
    changed = batch.replace(labels=torch.full_like(batch["labels"], -100))
    for same in (batch, changed, send_to_device(batch, CPU)):
        assert same.conversation_ids == names
        assert same.keys() == batch.keys()
    assert torch.equal(changed["input_ids"], batch["input_ids"])
    assert not torch.equal(changed["labels"], batch["labels"])
    assert all(isinstance(value, torch.Tensor) for value in batch.values()), "a forward pass takes tensors alone"
    meta = send_to_device(batch, torch.device("meta"))
    assert {tensor.device.type for tensor in meta.values()} == {"meta"}
    assert meta.conversation_ids == names
