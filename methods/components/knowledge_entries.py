"""The facts of items as keys and values that a decoder layer can attend to, and the layer in which they are found best.

The base itself encodes them, as states that enter a layer's attention while it reads a conversation: the question is
the item's picture, its name and a field, and the answer the field's value. A key is the state before the answer, where
the base has read subject and relation, as it has a question about the picture. A value is the mean over the answer.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, content_digest
from methods.augmentation.datasets import items_of
from methods.augmentation.knowledge_tree import make_conversation, published_conversation
from methods.components.covariance import prompt_batches
from methods.components.entry_attention import (
    LAYER,
    AttentionPlace,
    attention_input,
    candidates,
    centre_of,
    directions,
    retrieval_losses,
)
from methods.components.eval_mode import eval_no_grad
from methods.components.lora_layers import target_layers
from methods.components.tensor_digest import tensors_digest

if TYPE_CHECKING:
    from methods.components.entry_settings import EntrySettings
    from methods.interfaces import InjectableModel, Resources, Tensors

LOSSES, RECALLS = "losses", "recalls"
"""Names of what untrained retrieval loses and finds in each layer that was measured."""
PUBLISHED = "evoke"
"""The training data that are the items' published conversations."""
DESCRIPTION = "description"
"""The relation of an item without facts to its text."""


@dataclass(frozen=True)
class Entry:
    """A fact of an item.

    Attributes:
        item: The item's id.
        text: The picture, the subject and the relation, answered by the object.
    """

    item: str
    text: Conversation

    @property
    def name(self) -> int:
        """Of 63 bits, from the content and the item."""
        digest = hashlib.sha256(f"{self.item}\0{self.text.sha256}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


def entries_of(items: Sequence[KnowledgeItem]) -> list[Entry]:
    """An entry for each item's name, if the data give one, and for each fact; for the text if there are no facts.

    Raises:
        UserError: There are no items, or they say nothing.
    """
    entries = [entry for item in items for entry in _entries_of_item(item)]
    if not entries:
        problem = f"there is nothing to make entries of in {len(items)} items"
        raise UserError(problem, location="knowledge", hint="inject items with facts or texts")
    return entries


def _entries_of_item(item: KnowledgeItem) -> Iterator[Entry]:
    subject = item.given_name or item.type
    pairs = [("name", item.given_name), *(item.facts or [(DESCRIPTION, item.text)])]
    for number, (relation, value) in enumerate(dict.fromkeys(pairs)):
        if value.strip():
            rounds = [(f"{subject}: {relation}", value)]
            yield Entry(item.id, make_conversation(item, "entry", item.picture, rounds, f"entry/{number}"))


def prepared_entries(
    model: InjectableModel, resources: Resources, settings: EntrySettings, samples: Sequence[Conversation]
) -> tuple[Tensors, dict[str, list[int]]]:
    """Encode the entries of a stage's items, or find them in the store; from the second stage on, behind earlier ones.

    Args:
        model: The untouched base.
        resources: Of the stage.
        settings: Of the method.
        samples: What the method trains on; without any, the items' published conversations choose the layer.

    Returns:
        What ``encode_entries`` or ``extend_entries`` returns, and the numbers of the entries of the item that each
        conversation is about, by its id; those about none of the items are left out.

    Raises:
        UserError: There are no items, no conversation is about one, or the layer does not exist or tells no keys apart.
    """
    knowledge, earlier, data = resources.knowledge, resources.stage_state, settings.data
    entries = entries_of(knowledge)
    asked = samples or [published_conversation(item) for item in knowledge]
    with_entries = {entry.item for entry in entries}
    items = items_of(data if samples else PUBLISHED, asked, knowledge)
    about = {sample: item.id for sample, item in items.items() if item.id in with_entries}
    if not about:
        raise UserError(
            f"none of {len(samples):,} conversations is about an item, so that no retrieval can be learned",
            location=f"setting data ({data})",
            hint="name the item of each in a column item, or begin its id with the item's and a slash",
        )
    usable = [sample for sample in asked if sample.id in about]
    drawn = random.Random(resources.seed).sample(usable, min(settings.samples, len(usable)))
    questions = [(sample, about[sample.id]) for sample in drawn]
    key = {
        "what": "sr-ki/entries",
        "texts": content_digest([*(entry.text for entry in entries), *drawn]),
        "chosen": (settings.layer, settings.temperature, [item for _, item in questions]),
        "earlier": tensors_digest(earlier),
    }
    if earlier:
        encoded = resources.cached(key, lambda: extend_entries(model, entries, earlier))
    else:
        options = questions, settings.layer, settings.temperature
        encoded = resources.cached(key, lambda: encode_entries(model, entries, *options))
    numbers = {name: number for number, name in enumerate(encoded["names"].tolist())}
    by_item: dict[str, list[int]] = {}
    for entry in entries:
        by_item.setdefault(entry.item, []).append(numbers[entry.name])
    return encoded, {sample: by_item[item] for sample, item in about.items()}


def encode_entries(
    model: InjectableModel,
    entries: Sequence[Entry],
    questions: Sequence[tuple[Conversation, str]],
    layer: int,
    temperature: float,
) -> Tensors:
    """Encode entries for the decoder layer in which the untouched base finds them best.

    That is the layer with the smallest mean retrieval loss, where the state before the answer to each question is
    compared with the keys of the items that the questions are about. A layer in which all keys are the same is left
    out, as the first one, which has read one token.

    Args:
        model: The untouched base.
        entries: Of all items.
        questions: Conversations, each with the id of the item that it is about.
        layer: Number of a decoder layer, from 1, to use that one; 0 for the best.
        temperature: That divides the cosines.

    Returns:
        The buffers of ``EntryAttention``, the ``layer``, and ``losses`` and ``recalls`` of the layers measured.

    Raises:
        UserError: The layer does not exist, or all keys are the same there.
    """
    places = candidates(target_layers(model), layer)
    asked = {item for _, item in questions}
    shown = [entry for entry in entries if entry.item in asked]
    own = torch.tensor([[entry.item == item for entry in shown] for _, item in questions])
    queries, _ = answer_states(model, [question for question, _ in questions], places)
    keys, _ = answer_states(model, [entry.text for entry in shown], places)
    usable = [number for number, each in enumerate(keys) if bool(directions(each, centre_of(each)).any())]
    if not usable:
        raise UserError(
            f"all keys are the same in decoder layer {places[0].layer}",
            location="setting layer",
            hint="choose a later layer, or 0",
        )
    found = [untrained_retrieval(queries[number], keys[number], own, temperature) for number in usable]
    losses, recalls = (torch.tensor(each) for each in zip(*found, strict=True))
    best = usable[int(losses.argmin())]
    encoded = _encode(model, entries, places[best], {"query_centre": centre_of(queries[best])})
    return {**encoded, LAYER: torch.tensor(places[best].layer), LOSSES: losses, RECALLS: recalls}


def extend_entries(model: InjectableModel, entries: Sequence[Entry], earlier: Tensors) -> Tensors:
    """Encode those entries that are not among earlier ones, for the same layer, and put them behind these.

    Args:
        model: The untouched base.
        entries: Of this stage's items.
        earlier: The buffers of ``EntryAttention`` at the end of the previous stage, and the ``layer``.
    """
    known = set(earlier["names"].tolist())
    new = [entry for entry in entries if entry.name not in known]
    if not new:
        return earlier
    (place,) = candidates(target_layers(model), int(earlier[LAYER]))
    added = _encode(model, new, place, earlier)
    joined = {name: torch.cat([earlier[name], added[name]]) for name in ("keys", "values", "names")}
    return {**earlier, **joined}


def _encode(model: InjectableModel, entries: Sequence[Entry], place: AttentionPlace, centres: Tensors) -> Tensors:
    """Keys, values and names of entries, and the centres; those that are not given are the means of the entries."""
    (keys,), (values,) = answer_states(model, [entry.text for entry in entries], [place])
    key_centre = centres.get("key_centre", centre_of(keys))
    value_centre = centres.get("value_centre", centre_of(values))
    return {
        "keys": directions(keys, key_centre),
        "values": directions(values, value_centre),
        "names": torch.tensor([entry.name for entry in entries]),
        "query_centre": centres["query_centre"],
        "key_centre": key_centre,
        "value_centre": value_centre,
    }


def untrained_retrieval(
    queries: torch.Tensor, keys: torch.Tensor, own: torch.Tensor, temperature: float
) -> tuple[float, float]:
    """How well the queries find their own keys by the cosine, each seen from the mean of its kind.

    Args:
        queries: (questions, d).
        keys: (entries, d).
        own: (questions, entries) bool.
        temperature: That divides the cosines.

    Returns:
        The mean retrieval loss, and the share of the questions of which the most similar entry is their own.
    """
    scores = directions(queries, centre_of(queries)) @ directions(keys, centre_of(keys)).T / temperature
    nothing = scores.new_full((1,), math.log(len(keys)))
    found = own.gather(1, scores.argmax(1, keepdim=True))
    return float(retrieval_losses(scores, nothing, own).mean()), float(found.double().mean())


def answer_states(
    model: InjectableModel, samples: Sequence[Conversation], places: Sequence[AttentionPlace]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters attentions of the untouched base before the first answer of each conversation, and the mean over all.

    Args:
        model: The base.
        samples: With unique ids.
        places: The attentions.

    Returns:
        Two of (places, samples, d), float32 or wider, on the CPU.
    """
    found: dict[str, list[torch.Tensor]] = {}
    for part in prompt_batches(model, samples):
        with eval_no_grad(model):
            batch = model.training_batch(part)
            with _answers_seen(model, places, batch["labels"] != -100) as seen:
                model.supervised(batch)
        for row, sample in enumerate(batch.conversation_ids):
            found.setdefault(sample, [seen[place.attention][:, row] for place in places])
    before, during = torch.stack([torch.stack(found[sample.id]) for sample in samples], dim=1).unbind(2)
    return before, during


@contextmanager
def _answers_seen(
    model: InjectableModel, places: Sequence[AttentionPlace], answers: torch.Tensor
) -> Iterator[dict[str, torch.Tensor]]:
    """Collect each attention's input before the answers and in the mean during them, (2, rows, d), within the block."""
    seen: dict[str, torch.Tensor] = {}
    rows, starts = torch.arange(len(answers), device=answers.device), answers.int().argmax(1)

    def reader(name: str) -> Any:
        def read(attention: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            hidden = attention_input(args, options)
            hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
            during = (hidden * answers.unsqueeze(-1)).sum(1) / answers.sum(1, keepdim=True)
            seen[name] = torch.stack([hidden[rows, starts - 1], during]).cpu()

        return read

    handles = [
        model.module.get_submodule(place.attention).register_forward_pre_hook(reader(place.attention), with_kwargs=True)
        for place in places
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def describe(encoded: Tensors) -> dict[str, float]:
    """Numbers for the report: the layer, the entries, and how well the untouched base found them if measured."""
    numbers = {"decoder layer of the entries": float(encoded[LAYER]), "entries": float(len(encoded["names"]))}
    if LOSSES in encoded:
        best = int(encoded[LOSSES].argmin())
        numbers["retrieval loss of the base"] = float(encoded[LOSSES][best])
        numbers["questions whose item the base finds"] = float(encoded[RECALLS][best])
    return numbers
