"""From a folder of knowledge to training data: read each item, grow its tree, write, audit."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.contamination import BranchOverlap, overlap
from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.multihop import HopEntity
from benchmarks.records import KnowledgeItem, Picture
from benchmarks.registry import EVOKE_FILE
from harness.augment.builder import AugmentedItem, Components, asked, augment_item
from harness.augment.factory import open_parts
from harness.augment.forecast import DryRunChat
from harness.augment.options import Options
from harness.augment.reader import ItemIssue, knowledge_file, read_items
from harness.augment.report import AugmentationStats, card
from harness.augment.writer import (
    IMAGES,
    OWN_PICTURE,
    ConversationRow,
    Output,
    Row,
    opened,
    save,
    save_item,
    write_card,
)
from harness.experiment.context import STORE, Say, locked
from harness.llm.budget import Budget
from harness.progress import progress
from harness.storage.store import Store, atomic_write, translate_os_errors
from methods.augmentation.datasets import TRAINING_FILE, item_of
from methods.augmentation.relations import node_of, relation, trained_chains

REPORT = "augmentation.json"
AHEAD = 4
"""Items for each worker that are begun before the first of them is written."""
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class AugmentResult:
    """What came of it: the report as it was written, and what this command alone spent."""

    out: Path
    report: Mapping[str, Any]
    budget: Budget
    damaged: Sequence[str]


@dataclass(frozen=True)
class _Made:
    """One item on its way out."""

    grown: AugmentedItem
    row: Row
    conversations: Sequence[ConversationRow]


def augment(options: Options, say: Say) -> AugmentResult:
    """Make training data; what was asked of a model or found on the web before is not asked or searched again.

    Args:
        options: What to make, of what, by whom.
        say: Tells the user what is going on.

    Raises:
        UserError: It cannot be begun, everything was refused, or the disk or the endpoint gives up. Bad items and
            refused branches are no error: the report lists them.
    """
    file = knowledge_file(options.knowledge)
    if options.out.resolve() == file.parent.resolve():
        raise UserError("the knowledge itself is there", location=f"--out {options.out}", hint="name another folder")
    with locked(options.out):
        store = Store(options.cache or options.out / STORE)
        budget = Budget(options.budget_tokens, options.budget_money, options.price)
        parts, cheap, dry = open_parts(options, store, budget)
        names, total = _survey(file, options, cheap)
        if dry is not None:
            _forecast(dry, budget, say)
        tally = _write(options, file, parts, names, total)
        if not tally.total:
            reasons = "; ".join(f"{fault.item}: {fault.reason}" for fault in tally.faults[:3])
            raise UserError(f"nothing came of it ({reasons})", location=str(file), hint="mend the items")
        _sweep(options.out, tally)
        report = tally.plain(options.made_by, _audit(options, file))
        atomic_write(options.out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        write_card(options.out, card(report))
    return AugmentResult(options.out, report, budget, tuple(store.quarantined))


def _survey(file: Path, options: Options, cheap: Components | None) -> tuple[dict[str, list[str]], int]:
    """Names by type and the number of items; on the way everything is asked of a generator that only counts."""
    names: dict[str, dict[str, None]] = {}
    count = 0
    for item in _limited(read_items(file, decode=False), options.limit):
        count += 1
        if isinstance(item, KnowledgeItem):
            names.setdefault(item.type, {})[item.name] = None
            if cheap is not None:
                asked(item, cheap)
    return {kind: list(found) for kind, found in names.items()}, count


def _forecast(dry: DryRunChat, budget: Budget, say: Say) -> None:
    forecast = dry.forecast
    cost = budget.price.of(forecast.prompt, forecast.completion)
    said = f"forecast: {forecast.calls:,} calls, {forecast.prompt:,.0f} + {forecast.completion:,.0f} tokens"
    say(f"{said}, {cost:.2f} in money" if cost else said)
    forecast.check(budget)


def _write(
    options: Options, file: Path, parts: Components, names: Mapping[str, Sequence[str]], total: int
) -> AugmentationStats:
    """Grow and write item after item; only as many are in memory as the workers need."""
    tally = AugmentationStats()
    nodes: list[HopEntity] = []
    shown: dict[str, KnowledgeItem] = {}

    def work(item: KnowledgeItem | ItemIssue) -> _Made | ItemIssue:
        if isinstance(item, ItemIssue):
            return item
        grown = augment_item(item, parts, names)
        saved = [save(each, item.id, options.out, {}) for each in grown.conversations]
        return _Made(grown, save_item(item, options.out), saved)

    entries = _limited(read_items(file), options.limit)
    with opened(options.out) as output, progress("augmenting", total) as advance:
        for made in _ordered(work, entries, options.workers):
            if isinstance(made, ItemIssue):
                tally.faults.append(made)
            else:
                _put(made, output, tally)
                if parts.relations:
                    item = made.grown.item
                    nodes.append(node_of(item, made.grown.facts))
                    # Without what it has read: all items together must not fill the memory.
                    picture = Picture(options.out / made.row["image"])
                    shown[item.id] = dataclasses.replace(item, text="", picture=picture)
            if not (isinstance(made, ItemIssue) and made.branch != "all"):
                advance("")
        for written in _relations(options, parts, nodes, shown):
            output.conversation(written)
            tally.add(written)
    return tally


def _put(made: _Made, output: Output, tally: AugmentationStats) -> None:
    tally.faults += made.grown.faults
    tally.dropped += made.grown.dropped
    if not made.conversations:
        tally.faults.append(ItemIssue(made.grown.item.id, "all", "no branch came of it"))
        return
    tally.items += 1
    tally.files.add(made.row["image"])
    output.item(made.row)
    for written in made.conversations:
        output.conversation(written)
        tally.add(written)


def _relations(
    options: Options, parts: Components, nodes: Sequence[HopEntity], shown: Mapping[str, KnowledgeItem]
) -> Iterator[ConversationRow]:
    """Questions over two items, with the chain beside them."""
    for number, chain in enumerate(trained_chains(nodes, parts.seed)):
        item = shown[chain.start.id]
        made = relation(item, parts.seed, chain, number, parts.images)
        if made is not None:
            yield save(made, item.id, options.out, {"chain": [list(hop) for hop in chain.hops]})


def _limited(entries: Iterable[KnowledgeItem | ItemIssue], limit: int | None) -> Iterator[KnowledgeItem | ItemIssue]:
    return islice(iter(entries), limit)


def _ordered(work: Callable[[In], Out], entries: Iterable[In], workers: int) -> Iterator[Out]:
    """What ``work`` gives for each entry, in their order, by several threads that run only a little ahead."""
    waiting: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="augment")
    try:
        for entry in entries:
            waiting.append(pool.submit(work, entry))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _sweep(out: Path, tally: AugmentationStats) -> None:
    """Remove pictures that an earlier run left and this one does not show; what bears another name is not its own."""
    for path in (out / IMAGES).rglob("*"):
        name = path.relative_to(out).as_posix()
        if OWN_PICTURE.fullmatch(name) and name not in tally.files:
            with translate_os_errors(path):
                path.unlink()


def _audit(options: Options, file: Path) -> dict[str, BranchOverlap] | None:
    """The overlap with the evaluation's questions, if there are any. No generator has seen them."""
    questions = options.evaluation or file.with_name(EVOKE_FILE)
    if options.evaluation is None and not questions.is_file():
        return None
    asked_later = Evoke(questions, options.out).questions()
    ids = frozenset(item.id for item in read_items(file, decode=False) if isinstance(item, KnowledgeItem))
    made = (conversation for conversation, _ in load_conversations(options.out / TRAINING_FILE))
    return overlap(made, asked_later, lambda conversation: item_of(conversation, ids))
