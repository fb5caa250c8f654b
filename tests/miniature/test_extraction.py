"""Stage 4: pairs of states stand before the same token, and drawing them together is what its loss rewards."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from tokenizers import Tokenizer

from benchmarks.errors import UserError
from benchmarks.mini.invented.items import InventedWorld
from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from harness.miniature import extraction, llava, teachability
from harness.miniature.batches import InstructionEncoder
from harness.miniature.finetuning_data import FinetuningMixture
from harness.miniature.losses import LabelEmbeddings, layer_states
from harness.miniature.pretrain import pretrain
from harness.storage.files import locked


@pytest.fixture(scope="module")
def lessons():
    return Lessons(load_world(), 0)


@pytest.fixture(scope="module")
def architecture():
    torch.manual_seed(0)
    tokenizer = llava.wrap_tokenizer(Tokenizer.from_file(str(DATA / "model" / "tokenizer.json")))
    return llava.LlavaMiniArchitecture(llava.new_model(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def encoder(architecture, lessons):
    return InstructionEncoder(architecture.tokenizer, lessons.label_names())


@pytest.fixture
def source(monkeypatch, lessons, encoder):
    monkeypatch.setattr(extraction, "ITEMS", 6)
    monkeypatch.setattr(extraction, "DRAWN", 4)
    monkeypatch.setattr(extraction, "LESSONS", 2)
    mixture = FinetuningMixture(lessons.factory.world, 0)
    return extraction.ExtractionBatches(InventedWorld(lessons.factory, 5), mixture.sample, encoder, 4, 0)


def test_pairs_stand_before_the_same_token(source):
    (batch,) = source.micro_batches(1, 128)
    article, question = extraction.part(batch, "article/"), extraction.part(batch, "question/")
    assert len(batch["pairs"]) >= 12
    for row, place, number, position in batch["pairs"].tolist():
        assert article["input_ids"][row, place + 1] == question["input_ids"][number, position + 1]
        assert article["weights"][row, place + 1] == question["weights"][number, position + 1] == 1
    shown, asked = article["pixel_values"], question["pixel_values"]
    same = [torch.equal(shown[row], asked[number]) for row, _, number, _ in batch["pairs"].tolist()]
    assert not any(same)  # the question is about another drawing
    drawn = batch["drawings"].chunk(2)
    assert len(drawn[0]) == len(drawn[1]) == 4
    assert not torch.equal(*drawn)


def test_a_step_is_the_same_each_time_and_new_in_the_next(source):
    (first,), (again,), (other,) = (list(source.micro_batches(step, 128)) for step in (2, 2, 3))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["article/pixel_values"][:2], other["article/pixel_values"][:2])


def test_contrastive_loss_by_hand():
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    right = math.log(1 + math.exp(-1 / extraction.TEMPERATURE))
    assert extraction.contrastive_loss(one, one).item() == pytest.approx(right, abs=1e-6)
    wrong = extraction.contrastive_loss(one, one.flip(0)).item()
    assert wrong == pytest.approx(right + 1 / extraction.TEMPERATURE, rel=1e-5)


@pytest.mark.slow
def test_a_few_steps_draw_the_pairs_together(source, architecture, encoder, lessons):
    trained = copy.copy(architecture)
    trained.model = copy.deepcopy(architecture.model)
    loss = extraction.ExtractionLoss(trained, LabelEmbeddings(list(lessons.label_names()), encoder))
    (batch,) = source.micro_batches(0, 128)

    def angle() -> float:
        with torch.no_grad():
            one, other = (
                layer_states(trained, extraction.part(batch, prefix))[0][-1] for prefix in ("article/", "question/")
            )
            pairs = batch["pairs"]
            states, partners = one[pairs[:, 0], pairs[:, 1]], other[pairs[:, 2], pairs[:, 3]]
            return 1 - float(torch.nn.functional.cosine_similarity(states, partners, dim=-1).mean())

    before = angle()
    optimizer = torch.optim.AdamW(trained.model.parameters(), lr=1e-3)
    for _ in range(4):
        value = loss(batch)
        optimizer.zero_grad()
        (value.loss_sum / value.tokens + value.penalty).backward()
        optimizer.step()
    assert angle() < before


@pytest.mark.slow
def test_measuring_changes_nothing(monkeypatch, architecture, encoder, lessons):
    monkeypatch.setattr(teachability, "ITEMS", 8)
    monkeypatch.setattr(teachability, "EPOCHS", 1)
    weights = copy.deepcopy(architecture.model.state_dict())
    numbers = torch.get_rng_state()
    measure = teachability.TeachabilityMeasurement(lessons.factory, encoder)
    first, again = measure(architecture), measure(architecture)
    assert first == again
    assert 0 <= first.extraction_other <= 100
    assert 0 < first.style_transfer <= 100
    assert all(torch.equal(tensor, weights[name]) for name, tensor in architecture.model.state_dict().items())
    assert torch.equal(numbers, torch.get_rng_state())


def test_held_out_items_are_not_those_of_the_training(lessons):
    factory = lessons.factory
    trained = {InventedWorld(factory, 0).item(index).article for index in range(3)}
    held_out = {InventedWorld(factory, teachability.HELD_OUT).item(index).article for index in range(3)}
    assert not trained & held_out
    assert trained & {InventedWorld(factory, 0).item(2).article}  # control


def test_measurements_before_an_interruption_are_kept(tmp_path, architecture):
    path = tmp_path / "teachability.json"
    path.write_text('{"0": {"style_transfer": 12.5}}')
    taken = teachability.Measurements(lambda model: pytest.fail("measured again"), architecture, path)
    taken.take(0)
    assert taken.taken == {"0": {"style_transfer": 12.5}} == json.loads(path.read_text())


def test_start_without_a_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no model to start from") as problem:
        pretrain(tmp_path / "out", start=tmp_path / "nothing")
    assert str(tmp_path / "nothing") in problem.value.location


def test_two_commands_do_not_write_into_one_folder(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another command is running"):
        pretrain(tmp_path / "out", start=tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing"):  # control: without the lock it goes on to what is missing
        pretrain(tmp_path / "out", start=tmp_path / "nothing")
