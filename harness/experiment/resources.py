"""What a method may ask for: samples of the pools, benchmark prompts, and a cache for expensive statistics."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Question, Turn
from harness.config.extras import libraries_of
from harness.data.pools import Pools
from harness.experiment.cell import TRAINING_LIBRARIES
from harness.experiment.context import RunContext
from harness.experiment.method_files import core_digest
from harness.experiment.stages import STAGE_STATE, Stage, load_previous
from harness.storage.digests import digest
from harness.storage.provenance import versions
from harness.storage.store import Store

if TYPE_CHECKING:
    import torch

PREPARED = "prepared"
"""The kind of entry for ``CellResources.cached``."""
MAX_SCANNED = 50
"""Samples to scan for each requested one before the source counts as exhausted."""

_MARKERS = re.compile(r"<(?:image|imagehere)\s*\d*\s*>", re.IGNORECASE)
"""A picture's place in the text of a benchmark's table."""


class CellResources:
    """The resources of one cell. Satisfies ``methods.base.Resources``.

    Args:
        seed: The cell's seed.
        pools: The calibration and replay pools.
        store: Where ``cached`` stores its tensors.
        cache_key: What else their value depends on: base model, code, precision.
        stage: Number of the injection stage, from 1, and the number of stages.
        stage_state: What the method passed on at the end of the previous stage.
        evaluation_inputs: Questions of the benchmarks that the method declares in ``evaluation_inputs``.
        all_items: The items of the knowledge file, whatever the stage and the limit.
        knowledge: The items of this stage.
    """

    def __init__(
        self,
        seed: int,
        pools: Pools,
        store: Store,
        cache_key: Mapping[str, Any],
        stage: tuple[int, int] = (1, 1),
        stage_state: Mapping[str, torch.Tensor] | None = None,
        evaluation_inputs: Mapping[str, Sequence[Question]] | None = None,
        all_items: Sequence[KnowledgeItem] = (),
        knowledge: Sequence[KnowledgeItem] = (),
    ) -> None:
        self.seed, self.all_items, self.knowledge = seed, all_items, knowledge
        self.stage, self.stages = stage
        self.stage_state = dict(stage_state or {})
        self._pools, self._store, self._cache_key = pools, store, cache_key
        self._evaluation_inputs = evaluation_inputs or {}
        self._purposes: dict[str, str] = {}
        """The purpose of each sample that was returned, by the sample's digest."""
        self._draws: dict[str, dict[str, Any]] = {}

    @property
    def draws(self) -> list[dict[str, Any]]:
        """What was drawn for each purpose: pool, its description, and the number of samples by source; plain JSON."""
        return list(self._draws.values())

    def pool_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
        """``count`` different samples, none of which was returned for another purpose in this cell.

        Raises:
            UserError: The method does not declare the pool, or the preset has no such pool, or too small a one.
        """
        name = self._pools.name_for(purpose)
        pool = self._pools[name]
        samples: list[Conversation] = []
        seen: set[str] = set()
        if count < 1:
            return samples
        for scanned, sample in enumerate(pool.stream(self.seed, purpose), 1):
            if sample.sha256 not in seen and self._purposes.get(sample.sha256, purpose) == purpose:
                seen.add(sample.sha256)
                samples.append(sample)
            if len(samples) == count or scanned >= MAX_SCANNED * count:
                break
        if len(samples) < count:
            raise UserError(
                f"{count} different samples are needed for {purpose}, but the {name} pool has only {len(samples)} left",
                location=f"data.{name}",
                hint="ask for fewer, or provide a larger pool",
            )
        self._purposes |= dict.fromkeys(seen, purpose)
        sources = dict(sorted(Counter(map(pool.source, samples)).items()))
        self._draws[purpose] = {"purpose": purpose, "pool": name.value, "from": pool.description, "sources": sources}
        return samples

    def benchmark_prompts(self, benchmark: str, count: int, *, as_in_table: bool = False) -> Sequence[Conversation]:
        """First turns of at most ``count`` questions, drawn by the seed, in the benchmark's order; no references.

        Raises:
            UserError: The method does not declare this benchmark, so its row would not be marked; or ``as_in_table`` is
                set and no question has a picture and a text in a table.
        """
        if benchmark not in self._evaluation_inputs:
            raise UserError(
                f"the method reads {benchmark} and does not say so",
                location="evaluation_inputs",
                hint="have the method's evaluation_inputs name it; its row is then marked transductive",
            )
        questions = self._evaluation_inputs[benchmark]
        if as_in_table:
            questions = [question for question in questions if question.pictures and question.table_text.strip()]
            if not questions:
                raise UserError(
                    "the benchmark has no table with a question column",
                    location=benchmark,
                    hint="calibrate on its prompts, or on another benchmark",
                )
        draw = random.Random(f"{benchmark} {self.seed}")
        chosen = sorted(draw.sample(range(len(questions)), min(count, len(questions))))
        return [(_table_prompt if as_in_table else _prompt)(questions[index]) for index in chosen]

    def cached(self, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The tensors for ``key``, computed by the first call with the same cell context.

        Cells of other processes may need the same tensors at the same time: they wait.
        """
        cache_key = {"key": dict(key), **self._cache_key}
        with self._store.locked(PREPARED, cache_key):
            stored = self._store.read_tensors(PREPARED, cache_key)
            if stored is None:
                from harness.training.hook_checks import validate_tensors

                self._store.write_tensors(PREPARED, cache_key, validate_tensors(compute(), "prepare"))
                # Read back, so that the first run and later ones work with the same bits.
                stored = self._store.read_tensors(PREPARED, cache_key)
                if stored is None:
                    message = "what was just written cannot be read"
                    raise UserError(message, location=str(self._store.root), hint="check the disk")
            return stored


def make_resources(context: RunContext, stage: Stage) -> CellResources:
    """The resources of a stage. Cached statistics depend on the base, the method's pools and all code behind them."""
    cache_inputs, seed = context.cache_inputs, stage.cell.seed
    cache_key = {
        "base": cache_inputs.base,
        "pools": digest([stage.cell.pool_digests(cache_inputs), seed]),
        "code": stage.cell.identity()["code"],
        "device": cache_inputs.device,
        "precision": cache_inputs.precision,
        "core": core_digest("experiment/resources.py"),
        "versions": versions(*TRAINING_LIBRARIES, *libraries_of(cache_inputs.precision, {})),
    }
    return CellResources(
        seed,
        context.inputs.pools.only(stage.cell.pools),
        context.store,
        cache_key,
        (stage.number, stage.count),
        load_previous(context, stage, STAGE_STATE),
        context.inputs.evaluation_inputs,
        context.inputs.all_items,
        stage.knowledge,
    )


def _prompt(question: Question) -> Conversation:
    first = question.turns[0]
    return Conversation(question.id, (Turn("user", first),), question.pictures[: first.count(IMAGE)], "evaluation")


def _table_prompt(question: Question) -> Conversation:
    """The first picture above the table's question, without its own markers and line breaks.

    Source: KORE's ``lora_null/adapterlib/datautils.py`` (CustomDataset, _clean_image_placeholders).
    """
    text = " ".join(_MARKERS.sub(" ", question.table_text).split())
    return Conversation(question.id, (Turn("user", f"{IMAGE}\n{text}"),), question.pictures[:1], "evaluation")
