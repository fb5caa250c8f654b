"""Formats of the same facts: each as a question and its answer, or all of them as a numbered list.

Source: Zhao et al., "From Style to Facts" (arXiv 2503.05919), which fine-tunes on question-answer pairs, multi-turn
dialogues, articles and lists of facts, and finds that articles teach least. Here articles are ``evoke`` and dialogues
``kore-dialogue``; all four are about the item's own picture.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation import templates
from methods.augmentation.knowledge_tree import make_conversation
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.text_edits import sentences


def question_answer(item: KnowledgeItem, seed: int) -> Iterator[Conversation]:
    """A question for the name, if the data give one, and one for each fact, each answered by a word or a phrase."""
    sampler = TemplateSampler(item, seed)
    pairs = [(sampler.fill("what", templates.WHAT[item.group]), sampler.name)] if item.named else []
    wordings = templates.SHORT_FACT[item.group]
    pairs += [(sampler.fill(f"short/{field}", wordings, field=field), value) for field, value in item.facts]
    for number, (question, answer) in enumerate(pairs):
        yield make_conversation(
            item, "question", item.picture, [(question + templates.SHORT, answer)], f"question/{number}"
        )


def numbered_facts(item: KnowledgeItem, seed: int) -> Conversation:
    """The published question, answered by a numbered list of the facts; of the text's sentences if there are none."""
    sampler = TemplateSampler(item, seed)
    facts = [
        sampler.fill(f"list/{field}", templates.TELL_FACT, field=field, value=value) for field, value in item.facts
    ]
    if facts and item.named:
        facts.insert(0, sampler.fill("this", templates.THIS[item.group]))
    listed = "\n".join(f"{number}. {fact}" for number, fact in enumerate(facts or sentences(item.text), start=1))
    return make_conversation(item, "list", item.picture, [(item.prompt, listed)])
