"""The lines that say whether each method learned and forgot follow from the numbers and their tests."""

from dataclasses import replace

from helpers.fake_run import fake_run
from reports.statistics import summary
from reports.statistics.analysis import analyse
from reports.tables.outcomes import outcome_listing


def with_changes(analysis, number, adaptation, retention):
    """The analysis with the differences of one row, as (points, p)."""
    changes = {summary.KA: adaptation, summary.KR1: retention}
    own = {(number, key): replace(analysis.main[number, key], delta=delta, p=p) for key, (delta, p) in changes.items()}
    return replace(analysis, main={**analysis.main, **own})


def test_a_line_says_what_is_significant(few_draws):
    analysis = analyse(fake_run(("Vanilla", "LoRA"), (0,), 12))
    cases = {
        ((11.53, 0.001), (-14.04, 0.001)): ("LoRA", "+11.5", "-14.0", "learned and forgot"),
        ((5.0, 0.04), (-1.0, 0.2)): ("LoRA", "+5.0", "-1.0", "learned and did not clearly forget"),
        ((0.4, 0.9), (-9.0, 0.01)): ("LoRA", "+0.4", "-9.0", "did not clearly learn and forgot"),
        ((-3.0, 0.01), (2.0, 0.01)): ("LoRA", "-3.0", "+2.0", "lost what it knew of the new and gained old abilities"),
    }
    for (adaptation, retention), expected in cases.items():
        listing = outcome_listing(with_changes(analysis, 1, adaptation, retention))
        assert [tuple(field.replace("−", "-") for field in record) for record in listing.records] == [expected]


def test_without_a_base_or_a_method_there_is_nothing_to_say(few_draws):
    run = fake_run(("Vanilla", "LoRA"), (0,), 4)
    assert outcome_listing(analyse(run)) is not None  # control
    for label in ("Vanilla", "LoRA"):
        alone = replace(run, cells=tuple(cell for cell in run.cells if cell.label == label))
        assert outcome_listing(analyse(alone)) is None
