"""What a batch has in common is read once: plans of two passes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models.prefix_sharing import MAX_TOKEN_SHARE, plan

ROW = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12))
def test_what_is_read_first_is_how_the_row_begins(rows):
    found = plan(rows)
    if found is None:
        return
    assert len(found.kinds) == len(rows)
    for row, kind in zip(rows, found.kinds, strict=True):
        owner, length = rows[found.owners[kind]], found.lengths[kind]
        assert 1 <= length < len(row), "something is left for the second pass"
        assert row[:length] == owner[:length]
    left = max(len(row) - found.lengths[kind] for row, kind in zip(rows, found.kinds, strict=True))
    cost = len(found.owners) * max(found.lengths) + len(rows) * left
    assert cost <= MAX_TOKEN_SHARE * len(rows) * max(map(len, rows))


def test_four_rotations_are_read_once():
    picture = [-1] * 16
    rows = [[9, *picture, *range(20), *options] for options in ([1, 2], [2, 1], [3, 4], [4, 3])]
    found = plan(rows)
    assert found is not None
    assert found.lengths == (37,)
    assert found.kinds == (0, 0, 0, 0)


def test_a_row_that_shares_nothing_is_cut_like_the_others():
    rows = [[0] * 30 + [1, 2], [0] * 30 + [2, 1], [5] * 32]
    found = plan(rows)
    assert found is not None
    assert sorted(found.lengths) == [30, 30]


def test_different_rows_are_read_in_one_pass():
    assert plan([[row] * 30 for row in range(8)]) is None
    assert plan([[1, 2, 3]]) is None
    assert plan([[0, 0, *[row] * 30] for row in range(8)]) is None, "two words in common are not worth a pass"
