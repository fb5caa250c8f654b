"""The forecast's rates are those of the trainings in the store, whatever the epochs of the run that is planned."""

import pytest

from harness.commands.plan import SECONDS_PER_CONVERSATION, measured_rates
from harness.experiment.cell import TRAINING
from harness.storage.store import Store


def stored(store, number, **record):
    key = {"number": number}
    store.write_json(
        TRAINING, key, {"status": "ok", "conversations": 10, "cost": {"training_seconds": 120.0}, **record}
    )


def test_a_conversation_takes_as_long_as_it_took(tmp_path):
    store = Store(tmp_path)
    assert measured_rates(store, 3).conversation == SECONDS_PER_CONVERSATION
    stored(store, 0, epochs=6)
    assert {measured_rates(store, epochs).conversation for epochs in (3, 6, 12)} == {2.0}


def test_a_record_of_an_earlier_version_took_the_run_s_epochs(tmp_path):
    store = Store(tmp_path)
    stored(store, 0)
    assert measured_rates(store, 3).conversation == pytest.approx(4.0)
