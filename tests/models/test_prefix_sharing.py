"""Plans for prefilling shared prefixes once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.models.prefix_sharing import MAX_TOKEN_SHARE, plan_prefixes

ROW = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@given(st.lists(ROW, min_size=1, max_size=12))
def test_the_first_pass_is_a_prefix_of_each_row(rows):
    plan = plan_prefixes(rows)
    if plan is None:
        return
    assert len(plan.groups) == len(rows)
    for row, group in zip(rows, plan.groups, strict=True):
        owner, length = rows[plan.owners[group]], plan.lengths[group]
        assert 1 <= length < len(row), "the second pass needs a token"
        assert row[:length] == owner[:length]
    rest = max(len(row) - plan.lengths[group] for row, group in zip(rows, plan.groups, strict=True))
    cost = len(plan.owners) * max(plan.lengths) + len(rows) * rest
    assert cost <= MAX_TOKEN_SHARE * len(rows) * max(map(len, rows))


def test_four_rotations_share_a_prefix():
    picture = [-1] * 16
    rows = [[9, *picture, *range(20), *options] for options in ([1, 2], [2, 1], [3, 4], [4, 3])]
    plan = plan_prefixes(rows)
    assert plan is not None
    assert plan.lengths == (37,)
    assert plan.groups == (0, 0, 0, 0)


def test_a_row_that_shares_nothing_is_cut_like_the_others():
    rows = [[0] * 30 + [1, 2], [0] * 30 + [2, 1], [5] * 32]
    plan = plan_prefixes(rows)
    assert plan is not None
    assert sorted(plan.lengths) == [30, 30]


def test_different_rows_share_nothing():
    assert plan_prefixes([[row] * 30 for row in range(8)]) is None
    assert plan_prefixes([[1, 2, 3]]) is None
    assert plan_prefixes([[0, 0, *[row] * 30] for row in range(8)]) is None, "two shared tokens are not worth a pass"
