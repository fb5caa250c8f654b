"""All methods keep the contract on every architecture, and all rows on the models of both miniatures."""

from __future__ import annotations

import pytest

from harness.config.settings import resolve
from harness.conformance.runner import run_checks
from harness.conformance.subject import MethodUnderTest
from helpers.every_row import EVERY_ROW
from helpers.missing_libraries import replace_missing_libraries
from helpers.tiny_architectures import ARCHITECTURES, write
from methods.registry import get_method, registered


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory):
    replace_missing_libraries()
    return write(request.param, tmp_path_factory.mktemp(request.param))


def failures(row, folder):
    """What fails of the contract, by check."""
    method, _ = get_method(row)
    outcomes = run_checks(MethodUnderTest(method, row.partition(":")[2], folder=folder))
    return {outcome.check.id: outcome.detail for outcome in outcomes if not outcome.ok}


@pytest.mark.slow
@pytest.mark.parametrize("name", registered())
def test_the_method_keeps_the_contract_on(folder, name):
    assert failures(name, folder) == {}


@pytest.mark.slow
@pytest.mark.parametrize("row", EVERY_ROW)
@pytest.mark.parametrize("preset", ["mini", "mini-qwen"])
def test_the_row_keeps_the_contract_on_the_model_of(preset, row):
    assert failures(row, resolve(preset).settings.model) == {}
