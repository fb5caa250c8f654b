"""What of the written is kept: statements that their item supports."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from benchmarks.records import KnowledgeItem
from methods.augmentation.generators.base import GeneratedTexts, Round, ShortQuestion
from methods.augmentation.grounding import SourceText, SupportChecker, unsupported_reason

Kept = TypeVar("Kept", Round, ShortQuestion)


def checked(
    item: KnowledgeItem, written: GeneratedTexts, judge: SupportChecker | None = None
) -> tuple[GeneratedTexts, Counter[str]]:
    """What is supported, and how often what was dropped, as "branch: reason".

    Args:
        item: What it is about.
        written: Rounds, summary and short questions.
        judge: Is asked about what the string and number check lets pass.

    Raises:
        Refused: The judge gave nothing usable.
    """
    source, dropped = SourceText(item), Counter[str]()
    dialogue, summary, shorts = written.dialogue, written.summary, written.shorts
    if dialogue is not None:
        faults = [unsupported_reason(source, q, question=True) or unsupported_reason(source, a) for q, a in dialogue]
        dialogue = _sifted("dialogue", dialogue, faults, dropped)
        dialogue = _judged("dialogue", item, dialogue, [f"{q} {a}" for q, a in dialogue], judge, dropped)
    if summary is not None:
        faults = [unsupported_reason(source, summary)]
        kept = _sifted("caption", [("", summary)], faults, dropped)
        kept = _judged("caption", item, kept, [summary for _, summary in kept], judge, dropped)
        summary = kept[0][1] if kept else None
    if shorts is not None:
        faults = [_short_fault(source, short) for short in shorts]
        shorts = _sifted("vqa", shorts, faults, dropped)
        told = [f"{short.question} (the {short.hypernym} is {short.subject}) {short.answer}" for short in shorts]
        shorts = _judged("vqa", item, shorts, told, judge, dropped)
    return dataclasses.replace(written, dialogue=dialogue, summary=summary, shorts=shorts), dropped


def _short_fault(source: SourceText, short: ShortQuestion) -> str:
    return (
        unsupported_reason(source, short.question, question=True)
        or unsupported_reason(source, short.answer, short=True)
        or ("" if unsupported_reason(source, short.subject, short=True) == "" else "subject not in the text")
    )


def _sifted(branch: str, found: Sequence[Kept], faults: Sequence[str], dropped: Counter[str]) -> list[Kept]:
    dropped.update(f"{branch}: {fault}" for fault in faults if fault)
    return [each for each, fault in zip(found, faults, strict=True) if not fault]


def _judged(
    branch: str,
    item: KnowledgeItem,
    found: Sequence[Kept],
    told: Sequence[str],
    judge: SupportChecker | None,
    dropped: Counter[str],
) -> list[Kept]:
    if judge is None or not found:
        return list(found)
    verdicts = judge.supported(item, told)
    return _sifted(branch, found, ["" if good else "not supported, says the judge" for good in verdicts], dropped)
