"""Helpers for error messages."""

from __future__ import annotations

import pytest

from benchmarks.errors import suggest


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("koer", "did you mean 'kore'? "),
        ("KORE", "did you mean 'kore'? "),
        ("sefe", "did you mean 'SEFE'? "),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_the_closest_known_name_is_suggested(name, hint):
    assert suggest(name, ["lora", "kore", "SEFE"]) == hint
    assert suggest(name, []) == ""


def test_a_higher_cutoff_suggests_less():
    assert suggest("core", ["kore"], cutoff=0.75)
    assert not suggest("core", ["kore"], cutoff=0.8)
