"""Gradient checkpointing gives the same bits in less memory, for every method and both families."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from harness.config.schema import TrainingSettings
from harness.models.registry import load_model
from harness.training.checkpoint import seed_everything
from harness.training.conversation_batches import ConversationBatches
from harness.training.gradient_checkpointing import gradient_checkpointing
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
from helpers.allocations import peak_of
from helpers.plain_loop import FakeResources, attach, make
from helpers.published_models import write_llava, write_qwen
from helpers.tiny import conversation, conversations, knowledge, write_tiny_model
from methods.registry import registered

CPU = torch.device("cpu")
ROWS = ["lora", "full-ft", "ewc", "ewc:weight-space", "lwf", "replay", "moelora", "moelora:top-k", "o-lora"]
ROWS += ["o-lora:pseudo-task", "sefe", "sefe:pseudo-task", "kore", "kore:unfrozen-a"]
ROWS += ["lora-null", "corda", "astra", "oplora", "nusa-cl", "osf", "oft", "sdft", "lapael", "adept"]
ROWS += ["thanora", "sr-ki"]
WRITERS = {"llava": write_llava, "qwen": write_qwen}
SAMPLES = conversations(8)
SETTINGS = TrainingSettings(epochs=2, batch_size=4, micro_batch=2, warmup=0.0, save_every=0)


class Stop(Exception):
    """Interrupts a training."""


class Saved:
    """A checkpoint in memory."""

    content = None

    def save(self, tensors, state):
        self.content = {name: tensor.clone() for name, tensor in tensors.items()}, state

    def load(self):
        return self.content

    def discard(self):
        self.content = None


def run(model, name, *, checkpointing, checkpoint=None, stop=None, dropout=0.1, precision="float32"):
    """Train a row; returns its steps and what it exports."""
    method = make(name, dropout=dropout) if "kore" not in name else make(name)
    samples = method.training_data(knowledge(8), FakeResources()) if name in ("sdft", "sr-ki") else SAMPLES
    with gradient_checkpointing(model.module, checkpointing):
        attach(method, model, FakeResources())
        seed_everything(7)

        def on_step(logged):
            if logged.step == stop:
                raise Stop

        try:
            log = fit(
                ConversationBatches(model, samples, SETTINGS, 0),
                InjectionLoss(model, method),
                list(method.parameter_groups(model)),
                SETTINGS,
                device=CPU,
                checkpoint=checkpoint,
                precision=precision,
                on_step=on_step,
            )
            exported = method.export(model)
        finally:
            model.module.eval()
            method.detach(model)
    steps = [(step.loss, step.penalty, step.grad_norm) for step in log.steps]
    return steps, exported


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    return load_model(write_tiny_model(tmp_path_factory.mktemp("tiny")), CPU, torch.float32)


@pytest.fixture(scope="module", params=WRITERS)
def model(request, tmp_path_factory):
    return load_model(WRITERS[request.param](tmp_path_factory.mktemp(request.param)), CPU, torch.float32)


def test_the_same_bits_with_dropout_and_a_penalty(tiny_model):
    kept = run(tiny_model, "ewc", checkpointing=False)
    assert_same(run(tiny_model, "ewc", checkpointing=True), kept)
    other = run(tiny_model, "ewc", checkpointing=False, dropout=0.2)
    assert other[0] != kept[0], "control: other masks are seen"


@pytest.mark.slow
def test_every_trained_row_of_this_repository_is_covered():
    own = {name for name, method in registered().items() if method.trains and method.__module__.startswith("methods.")}
    assert own == {row.partition(":")[0] for row in ROWS}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_method_gets_the_same_bits(model, name):
    assert_same(run(model, name, checkpointing=True), run(model, name, checkpointing=False))


@pytest.mark.slow
def test_the_same_bits_in_half_precision(model):
    runs = [run(model, "lora", checkpointing=enabled, precision="bfloat16") for enabled in (True, False)]
    assert_same(*runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "lwf", "sdft", "moelora:top-k"])
def test_a_run_may_be_resumed_with_and_without_it(model, name):
    reference, saved = run(model, name, checkpointing=False), Saved()
    with pytest.raises(Stop):
        run(model, name, checkpointing=True, checkpoint=saved, stop=1)
    assert_same(run(model, name, checkpointing=False, checkpoint=saved), reference)


def test_it_needs_less_memory(tmp_path):
    folder = write_tiny_model(tmp_path, hidden_size=64, intermediate_size=128, num_hidden_layers=6)
    model = load_model(folder, CPU, torch.float32)
    samples = [conversation(index, words=40) for index in range(8)]
    method = make("lora")
    attach(method, model)
    objective, batch = InjectionLoss(model, method), model.training_batch(samples)

    def step() -> None:
        objective(batch).loss_sum.backward()
        model.module.zero_grad()

    step()
    usual = peak_of(step)
    with gradient_checkpointing(model.module):
        less = peak_of(step)
    again = peak_of(step)
    method.detach(model)
    assert less < 0.6 * usual
    assert again == usual, "nothing of it is left behind"


def test_the_flags_are_restored_even_after_an_error(tiny_model):
    before = [dict(vars(part)) for part in tiny_model.module.modules()]
    with pytest.raises(Stop), gradient_checkpointing(tiny_model.module):
        raise Stop
    assert [dict(vars(part)) for part in tiny_model.module.modules()] == before


def test_a_model_that_does_not_support_it_is_refused():
    with pytest.raises(UserError, match="no layer of Linear supports"), gradient_checkpointing(torch.nn.Linear(2, 2)):
        pass
