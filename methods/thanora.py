"""ThanoRA: one LoRA whose rows are shared out to tasks, and kept apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from methods.base import (
    AdapterSettings,
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensor,
    Tensors,
    setting,
)
from methods.components.initialized_lora import mean_and_largest
from methods.components.task_prompts import check_task_count, prompts_by_task
from methods.memory import covariance_bytes
from methods.targets import check_rank


@dataclasses.dataclass(frozen=True)
class ThanoRASettings(AdapterSettings):
    """LoRA's settings, and those of the tasks and their subspaces."""

    coefficient: float = setting(1.0, "weight of the overlap of the tasks' subspaces", source="ours", ge=0)
    tasks: Literal["group", "branch"] = setting(
        "group",
        "what a task is: a kind of items (news, entity), or a branch of the training data",
        source="ours",
        choices=("group", "branch"),
    )
    task_samples: int = setting(
        256, "prompts of each task behind its covariance", unit="samples", source="ours, as LoRA-Null and CorDA", ge=1
    )
    temperature: float = setting(
        1.0, "rows are shared out by exp(entropy / temperature); 1: by effective rank", source="ours", gt=0
    )


class ThanoRA(InjectionMethod):
    """LoRA with A = [A_0; A_1; ...; A_T], a block for each task, and L + c sum_layers mean_ij overlap(A_i, A_j).

    Paper: Liang et al., "ThanoRA: Task Heterogeneity-Aware Multi-Task Low-Rank Adaptation", arXiv 2505.18640.
    Interpretation: ours, since the authors released no code, and we could read neither version's formulas: only the
        abstracts, the figure in their repository and the reviews on OpenReview. From these: ranks differ by task and
        layer with the entropy of singular values, floor(r / (T + 1)) rows are random and unconstrained, and a penalty
        keeps the blocks of tasks orthogonal. Tasks are the groups of the injected items, or the branches of their data.
        Block t starts at the leading eigenvectors of the covariance of its prompts' inputs, off those of other tasks;
        r_t is in proportion to the effective rank. With a single task it *is* LoRA, bit for bit.
    Differences: named in the reviews, and not here: a factor gamma, a truncated SVD of an "incremental matrix" (ours is
        of inputs alone, and B starts at 0), and what tau is (our temperature may be another). The penalty, the mean
        squared cosine of the angles between two blocks, is on A alone: tr((B_i A_i)^T B_j A_j) is then 0 whatever B is,
        and B has no subspace to preserve at its start; the reviews name conditions on A or on B. Blocks and their
        sizes are those of the first stage. The projector is trained.
    Cost: once, a forward pass over the prompts of each task, all tasks' covariances of a layer in memory, and two
        eigendecompositions a task and distinct input; then r_i x d_in x r_j products a step. Exports are LoRA's.
    """

    name = "thanora"
    summary = "LoRA with a block of A for each kind of knowledge, sized by its inputs' entropy and kept apart"
    paper = Paper("Task Heterogeneity-Aware Multi-Task Low-Rank Adaptation", "https://arxiv.org/abs/2505.18640")
    interpretation = (
        "formulas are ours, after abstract, first figure and reviews: the paper's could not be read, and there is no "
        "code; tasks are groups of items (news, entity); with a single one it is LoRA"
    )
    Settings = ThanoRASettings
    settings: ThanoRASettings
    coefficient = Coefficient("coefficient", (0.1, 1.0, 10.0))

    @property
    def expected_failures(self) -> Mapping[str, str]:
        """Being LoRA with the coefficient at zero."""
        return {"check_coefficient_zero_is_lora": "without its penalty it still starts at the tasks' subspaces"}

    def validate_layers(self, layers: LinearShapes) -> None:
        """Also refuse a rank that is larger than a layer, which has no such subspaces."""
        super().validate_layers(layers)
        check_rank(self.adapted(layers), self.settings.rank)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA; before, the covariances of one layer for each task: two groups, or the tree's four branches."""
        tasks = {"group": 2, "branch": 4}[self.settings.tasks]
        return super().memory_needs(shapes).plus(preparation=tasks * covariance_bytes(shapes))

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Return ``<layer>.A`` and ``<layer>.rows/<task>``; from the second stage on the numbers of rows alone.

        Raises:
            UserError: There are more tasks than rows, a layer is too narrow, or the data belong to no task.
        """
        if resources.stage > 1:
            return resources.stage_state
        from benchmarks.records import content_digest
        from methods.components.lora_layers import linear_shapes, target_pattern
        from methods.components.task_subspaces import task_start

        settings, data = self.settings, self.training_data(resources.knowledge, resources)
        prompts = prompts_by_task(settings.tasks, settings.data, data, resources.knowledge, settings.task_samples)
        if len(prompts) == 1:
            return {}
        check_task_count(tuple(prompts), settings.rank)
        check_rank(linear_shapes(model, settings.targets), settings.rank)
        key = {
            "what": "thanora/start",
            "prompts": {task: content_digest(samples) for task, samples in prompts.items()},
            "layers": target_pattern(model, settings.targets),
            "shares": [settings.rank, settings.temperature],
        }
        return resources.cached(
            key, lambda: task_start(model, prompts, settings.rank, settings.temperature, settings.targets)
        )

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; the rows of tasks, which come last in A, start where ``prepare`` has put them."""
        from methods.components.task_subspaces import rows_of_tasks, set_rows

        super().attach(model, prepared)
        set_rows(model, prepared)
        self._rows = rows_of_tasks(prepared)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The overlap of the tasks' blocks of A, summed over layers; none with a single task."""
        if not (self._rows and self.settings.coefficient):
            return None
        from methods.components.task_subspaces import total_overlap

        return self.settings.coefficient * total_overlap(model, self._rows)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """The number of rows of each task in each layer, which later stages keep apart as well."""
        return dict(self._rows)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The number of tasks, and the rows of each, mean and largest over the layers."""
        from methods.components.task_subspaces import ROWS, rows_of_tasks

        tasks = sorted({name.partition(ROWS)[2] for name in rows_of_tasks(prepared)})
        found = {"tasks": float(max(1, len(tasks)))}
        for task in tasks:
            found |= mean_and_largest(prepared, f"{ROWS}{task}", f"rows of {task}")
        return found
