"""Turn a folder of knowledge into training data: read items, make their conversations, write, measure the overlap."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table
from rich.text import Text

from benchmarks.contamination import BranchOverlap, measure_overlap
from benchmarks.data.conversations import load_conversations
from benchmarks.data.rows import folder_of
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.multihop import HopEntity
from benchmarks.records import KnowledgeItem, Picture
from benchmarks.registry import EVOKE_FILE
from harness.augment import writer
from harness.augment.builder import AugmentedItem, Components, augment_item, dry_run
from harness.augment.factory import build_components
from harness.augment.forecast import dry_run_components
from harness.augment.options import Options
from harness.augment.reader import ItemIssue, find_knowledge_file, read_items
from harness.augment.report import AugmentationStats, dataset_card
from harness.augment.writer import ConversationRow, Output
from harness.console import print_lines, progress, stdout
from harness.experiment.context import STORE
from harness.llm.budget import Budget
from harness.storage.files import atomic_write, locked, remove_partials, translate_os_errors
from harness.storage.store import Store
from methods.augmentation.datasets import TRAINING_FILE, item_of
from methods.augmentation.knowledge_tree import names_by_type
from methods.augmentation.relations import relation_conversation, to_entity, training_chains

logger = logging.getLogger(__name__)

REPORT = "augmentation.json"
LOOKAHEAD = 4
"""Items per worker that are started before the first of them is written."""
MAX_LISTED = 10
"""Issues that are printed; the report contains all of them."""
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class AugmentResult:
    """The folder, the report as it was written, what this command spent, and the damaged entries of its cache."""

    out: Path
    report: Mapping[str, Any]
    budget: Budget
    damaged: Sequence[str]


@dataclass(frozen=True)
class _ItemRows:
    """An item with its row and the rows of its conversations."""

    augmented: AugmentedItem
    row: writer.Row
    conversations: Sequence[ConversationRow]


def augment(options: Options) -> AugmentResult:
    """Make training data. Calls of models and downloads are cached and not repeated.

    Raises:
        UserError: An option or the knowledge is unusable, no conversation could be made, or the disk or the endpoint
            fails. Bad items and refused branches are no error; the report lists them.
    """
    file = find_knowledge_file(options.knowledge)
    if options.out.resolve() == folder_of(file).resolve():
        raise UserError("this folder holds the knowledge", location=f"--out {options.out}", hint="give another folder")
    with locked(options.out):
        remove_partials(options.out)
        store = Store(options.cache or options.out / STORE)
        budget = Budget(options.budget_tokens, options.budget_money, options.price)
        components = build_components(options, store, budget)
        names, count = _forecast_and_survey(options, file, components, store, budget)
        stats = _write_files(options, file, components, names, count)
        _remove_old_pictures(options.out, stats)
        report = stats.to_json(options.made_by, _measure_overlap(options, file))
        atomic_write(options.out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        writer.write_dataset_card(options.out, dataset_card(report))
    return AugmentResult(options.out, report, budget, tuple(store.quarantined))


def print_result(result: AugmentResult) -> None:
    """Print counts per branch, overlap, issues and cost; names are untrusted text and printed without markup."""
    report, overlap = result.report, result.report["overlap"] or {}
    columns = ("branch", "conversations", "%", "rounds")
    table = Table(*columns, *(("as evaluated", "nearly", "leaked") if overlap else ()), box=None)
    for name, row in report["branches"].items():
        cells = [f"{row['conversations']:,}", str(row["percent"]), f"{row['rounds']:,}"]
        if name in overlap:
            cells += [str(overlap[name][key]) for key in ("exact", "near", "contained")]
        table.add_row(Text(name), *cells)
    stdout().print(table)
    issues = report["faults"]
    print_lines(*(f"{issue['item']}: {issue['branch']}: {issue['reason']}" for issue in issues[:MAX_LISTED]))
    if len(issues) > MAX_LISTED:
        print_lines(f"and {len(issues) - MAX_LISTED} more")
    print_lines(*(f"dropped {count} x {reason}" for reason, count in report["dropped"].items()))
    budget = result.budget
    spent = f"new calls: {budget.calls:,}, {budget.prompt:,} + {budget.completion:,} tokens"
    spent += f", {budget.spent:.2f} in money" if budget.spent else ""
    spent += "; the budget is used up" if budget.ran_out else ""
    spent += f"; {len(result.damaged)} damaged entries were computed again" if result.damaged else ""
    print_lines(spent)
    print_lines(f"{report['conversations']:,} conversations about {report['items']:,} items are in {result.out}")


def _forecast_and_survey(
    options: Options, file: Path, components: Components, store: Store, budget: Budget
) -> tuple[dict[str, list[str]], int]:
    """Read all items once without keeping them: names by type, and the number of entries.

    Raises:
        UserError: The calls of the chat model, if there is one, would exceed the budget.
    """
    dry = dry_run_components(components, store)
    count = 0

    def survey() -> Iterator[KnowledgeItem]:
        nonlocal count
        for entry in _first_items(file, options.limit, decode=False):
            count += 1
            if isinstance(entry, KnowledgeItem):
                if dry is not None:
                    dry_run(entry, dry[0])
                yield entry

    names = names_by_type(survey())
    if dry is not None:
        logger.info("forecast: %s", dry[1].summary(budget.price))
        dry[1].check(budget)
    return names, count


def _write_files(
    options: Options, file: Path, components: Components, names: Mapping[str, Sequence[str]], count: int
) -> AugmentationStats:
    """Augment and write item by item; only as many are in memory as the workers need."""
    stats = AugmentationStats()
    entities: list[HopEntity] = []
    items: dict[str, KnowledgeItem] = {}

    def augment_entry(entry: KnowledgeItem | ItemIssue) -> _ItemRows | ItemIssue:
        if isinstance(entry, ItemIssue):
            return entry
        augmented = augment_item(entry, components, names)
        rows = [writer.save_conversation(each, entry.id, options.out, {}) for each in augmented.conversations]
        return _ItemRows(augmented, writer.save_item(entry, options.out), rows)

    entries = _first_items(file, options.limit)
    with writer.open_output(options.out) as output, progress("augmenting", count) as advance:
        for result in _map_in_order(augment_entry, entries, options.workers):
            if isinstance(result, ItemIssue):
                stats.issues.append(result)
            else:
                _write_item(result, output, stats)
                if components.relations:
                    item = result.augmented.item
                    entities.append(to_entity(item, result.augmented.facts))
                    # Without text and cached pixels, or all items together would fill the memory.
                    picture = Picture(options.out / result.row["image"])
                    items[item.id] = dataclasses.replace(item, text="", picture=picture)
            if not (isinstance(result, ItemIssue) and result.is_remark):
                advance("")
        for conversation in _relations(options, components, entities, items):
            output.add_conversation(conversation)
            stats.add(conversation)
        if not stats.branches:  # before the files replace those of an earlier run
            reasons = "; ".join(f"{issue.item}: {issue.reason}" for issue in stats.issues[:3])
            hint = "correct the items"
            raise UserError(f"no conversation could be made ({reasons})", location=str(file), hint=hint)
    return stats


def _first_items(file: Path, limit: int | None, decode: bool = True) -> Iterator[KnowledgeItem | ItemIssue]:
    """The first ``limit`` items, good or bad, each with what is said of its text before it."""
    ends = 0
    for entry in read_items(file, decode):
        yield entry
        ends += not (isinstance(entry, ItemIssue) and entry.is_remark)
        if ends == limit:
            return


def _write_item(rows: _ItemRows, output: Output, stats: AugmentationStats) -> None:
    stats.issues += rows.augmented.issues
    stats.dropped += rows.augmented.dropped
    if not rows.conversations:
        stats.issues.append(ItemIssue(rows.augmented.item.id, "all", "no branch could be made"))
        return
    stats.items += 1
    stats.files.add(rows.row["image"])
    output.add_item(rows.row)
    for conversation in rows.conversations:
        output.add_conversation(conversation)
        stats.add(conversation)


def _relations(
    options: Options, components: Components, entities: Sequence[HopEntity], items: Mapping[str, KnowledgeItem]
) -> Iterator[ConversationRow]:
    """Questions about two items, each with its chain of facts."""
    for number, chain in enumerate(training_chains(entities, components.seed)):
        item = items[chain.start.id]
        conversation = relation_conversation(item, components.seed, chain, number, components.images)
        if conversation is not None:
            hops = {"chain": [list(hop) for hop in chain.hops]}
            yield writer.save_conversation(conversation, item.id, options.out, hops)


def _map_in_order(function: Callable[[In], Out], entries: Iterable[In], workers: int) -> Iterator[Out]:
    """Like ``map``, in several threads that run only a little ahead of the results."""
    pending: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="augment")
    try:
        for entry in entries:
            pending.append(pool.submit(function, entry))
            if len(pending) >= LOOKAHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _remove_old_pictures(out: Path, stats: AugmentationStats) -> None:
    """Delete pictures of an earlier run that this one does not use; files with other names are left alone."""
    for path in (out / writer.IMAGES).rglob("*"):
        name = path.relative_to(out).as_posix()
        if writer.PICTURE_NAME.fullmatch(name) and name not in stats.files:
            with translate_os_errors(path):
                path.unlink()


def _measure_overlap(options: Options, file: Path) -> dict[str, BranchOverlap] | None:
    """The overlap with the evaluation questions, if there are any; no generator has seen them."""
    evaluation = options.evaluation or folder_of(file) / EVOKE_FILE
    if options.evaluation is None and not evaluation.is_file():
        return None
    questions = Evoke(evaluation, options.out).questions()
    ids = frozenset(item.id for item in read_items(file, decode=False) if isinstance(item, KnowledgeItem))
    conversations = (conversation for conversation, _ in load_conversations(options.out / TRAINING_FILE))
    return measure_overlap(conversations, questions, lambda conversation: item_of(conversation, ids))
