"""All methods keep the contract on every architecture."""

from __future__ import annotations

import pytest

from harness.conformance.runner import run_checks
from harness.conformance.subject import MethodUnderTest
from helpers.missing_libraries import replace_missing_libraries
from helpers.tiny_architectures import ARCHITECTURES, write
from methods.registry import registered


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory):
    replace_missing_libraries()
    return write(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
@pytest.mark.parametrize("name", registered())
def test_the_method_keeps_the_contract_on(folder, name):
    outcomes = run_checks(MethodUnderTest(registered()[name], folder=folder))
    assert {outcome.check.id: outcome.detail for outcome in outcomes if not outcome.ok} == {}
