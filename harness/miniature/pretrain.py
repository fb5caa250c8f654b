"""Pre-training of a miniature on the old world: alignment of the tower, instruction tuning, then fine-tuning.

Stage 1 ("look") trains the tower and the projector so that the features of each patch are close to the *word embedding*
of what the patch shows. Comparing a word of a question with a picture, as yes/no and multiple-choice questions require,
is then a matter of similarity from the first step of stage 2 ("lesson"); without it a model of this size stays at
chance there. Stage 3 ("drill") trains yes and no, and many wordings of the old knowledge. If the decoder comes from
another miniature, the tower learns in stage 1 to reproduce the features of that miniature's tower; the other stages are
then shorter and start with the most difficult samples.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from benchmarks.errors import UserError
from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from harness.config.schema import TrainingSettings
from harness.miniature import finetuning_data, llava, qwen
from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import AlignmentBatches, InstructionBatches, InstructionEncoder
from harness.models.base import Batch
from harness.storage.digests import file_digest
from harness.storage.files import atomic_replace, atomic_write
from harness.storage.source_code import code_digest
from harness.storage.store import Store, StoredCheckpoint
from harness.training.loop import BatchSource, Objective, StepLoss, fit

ALIGNMENT_WEIGHT = 0.3
TEMPERATURE = 0.07
TEACHER_WEIGHT = 2.0


@dataclasses.dataclass(frozen=True)
class PretrainingPlan:
    """Duration and learning rates of each stage; the defaults are those of the shipped checkpoint."""

    seed: int = 0
    look_steps: int = 2_000
    look_batch: int = 128
    look_rate: float = 1e-3
    lesson_steps: int = 2_800
    lesson_batch: int = 64
    lesson_rate: float = 1.2e-3
    lesson_tower_factor: float = 0.4
    """The tower's learning rate in stages 2 and 3, relative to the stage's."""
    drill_steps: int = 1_600
    drill_batch: int = 128
    drill_rate: float = 1e-3


PLANS = {
    "llava": PretrainingPlan(),
    "qwen": PretrainingPlan(
        look_steps=1_200,
        lesson_steps=700,
        lesson_rate=6e-4,
        lesson_tower_factor=1.0,
        drill_steps=500,
        drill_rate=6e-4,
    ),
}
"""The plan of each family's miniature."""


class LabelEmbeddings:
    """Mean word embedding of each label, from the language model's (tied) embedding matrix."""

    def __init__(self, labels: list[str], encoder: InstructionEncoder) -> None:
        rows = [encoder.segment(label) for label in labels]
        width = max(map(len, rows))
        self._ids = torch.tensor([[*row, *[encoder.pad] * (width - len(row))] for row in rows])
        self._mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows]).unsqueeze(-1)

    def __call__(self, embedding: torch.nn.Module) -> torch.Tensor:
        """(labels, hidden) float32."""
        total: torch.Tensor = (embedding(self._ids) * self._mask).sum(1)
        return total / self._mask.sum(1)


def alignment_loss(patches: torch.Tensor, labels: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of classifying each labelled patch by cosine similarity to all labels' embeddings.

    Args:
        patches: (pictures, 16, hidden) projected patches.
        labels: (pictures, 16) classes, -100 for none.
        words: (labels, hidden) word embeddings.
    """
    chosen = labels != -100
    similarity = functional.normalize(patches[chosen].float(), dim=-1) @ functional.normalize(words, dim=-1).T
    return functional.cross_entropy(similarity / TEMPERATURE, labels[chosen])


class AlignmentLoss:
    """Stage 1: the alignment loss, and the distance to the teacher's features, if there is a teacher."""

    def __init__(self, architecture: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._architecture, self._words = architecture, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Alignment loss over the labelled patches, plus ``TEACHER_WEIGHT`` times the relative squared error."""
        pixels = batch["pixel_values"]
        patches = self._architecture.image_features(pixels)
        words = self._words(self._architecture.model.get_input_embeddings())
        count = int((batch["patches"] != -100).sum())
        targets = self._architecture.teacher_features(pixels)
        penalty = None
        if targets is not None:
            error = functional.mse_loss(patches.float(), targets.float())
            penalty = TEACHER_WEIGHT * error / targets.float().square().mean()
        return StepLoss(alignment_loss(patches, batch["patches"], words) * count, count, penalty)


class InstructionLoss:
    """Stages 2 and 3: the loss of the answers, and the alignment loss."""

    def __init__(self, architecture: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._architecture, self._words = architecture, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Weighted token loss plus ``ALIGNMENT_WEIGHT`` times the alignment loss."""
        model = self._architecture.model
        embeddings = model.get_input_embeddings()(batch["input_ids"])
        penalty = None
        if "pixel_values" in batch:
            patches = self._architecture.image_features(batch["pixel_values"])
            is_image = (batch["input_ids"] == model.config.image_token_id).unsqueeze(-1)
            embeddings = embeddings.masked_scatter(is_image, patches.to(embeddings.dtype))
            words = self._words(model.get_input_embeddings())
            penalty = ALIGNMENT_WEIGHT * alignment_loss(patches, batch["patches"], words)
        hidden = model.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=batch["attention_mask"],
            position_ids=self._architecture.position_ids(batch),
            use_cache=False,
        ).last_hidden_state
        weights = batch["weights"][:, 1:]
        supervised = weights > 0
        logits = model.lm_head(hidden[:, :-1][supervised]).float()
        losses = functional.cross_entropy(logits, batch["input_ids"][:, 1:][supervised], reduction="none")
        return StepLoss((losses * weights[supervised]).sum(), float(weights.sum()), penalty)


def match_scale(architecture: MiniArchitecture, pixels: torch.Tensor) -> None:
    """Scale the projector's output to the length of word embeddings: stage 1 determines only its direction."""
    with torch.no_grad():
        target = architecture.model.get_input_embeddings().weight.norm(dim=-1).mean()
        factor = target / architecture.image_features(pixels).norm(dim=-1).mean()
        architecture.projector_output.weight.mul_(factor)
        architecture.projector_output.bias.mul_(factor)


def alignment_groups(architecture: MiniArchitecture, plan: PretrainingPlan) -> list[dict[str, Any]]:
    """Train tower and projector, and word embeddings unless they are trained already; freeze the rest."""
    words = () if architecture.decoder_is_trained else ("model.language_model.embed_tokens.",)
    trained = (architecture.tower, architecture.projector, *words)
    return [_group(architecture.model, plan.look_rate, lambda name: name.startswith(trained))]


def instruction_groups(architecture: MiniArchitecture, rate: float, tower_factor: float) -> list[dict[str, Any]]:
    """Train everything, the tower with its own learning rate."""
    return [
        _group(architecture.model, rate, lambda name: not architecture.in_tower(name)),
        _group(architecture.model, rate * tower_factor, architecture.in_tower),
    ]


def _group(model: torch.nn.Module, rate: float, is_trained: Callable[[str], bool]) -> dict[str, Any]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if is_trained(name)]
    return {
        "params": [parameter for _, parameter in named],
        "names": [name for name, _ in named],
        "lr": rate,
        "weight_decay": 0.05,
    }


def pretrain(out: Path, family: str = "llava", plan: PretrainingPlan | None = None) -> Path:
    """Pre-train a miniature's base model in ``out``; an interrupted run continues where it stopped.

    Args:
        out: Folder for checkpoints and the model.
        family: Which miniature, a key of ``PLANS``.
        plan: Duration and learning rates; the family's by default.

    Returns:
        The folder with the model in Hugging Face layout, its checksum and training log.

    Raises:
        UserError: There is no such family.
    """
    if family not in PLANS:
        raise UserError(f"there is no miniature {family}", location="--family", hint=f"choose from {', '.join(PLANS)}")
    plan = plan or PLANS[family]
    world = load_world()
    lessons = Lessons(world, plan.seed)
    architecture = _build(family, lessons, plan.seed, out / "tokenizer")
    labels = list(lessons.label_names())
    encoder = InstructionEncoder(architecture.tokenizer, labels, architecture.chat_format)
    words = LabelEmbeddings(labels, encoder)
    batches: BatchSource = AlignmentBatches(lessons, encoder, plan.look_steps, plan.look_batch)
    groups = alignment_groups(architecture, plan)
    log = {"look": _run_stage("look", batches, AlignmentLoss(architecture, words), groups, plan, out)}
    advanced = architecture.decoder_is_trained
    if not advanced:
        match_scale(architecture, next(iter(batches.micro_batches(0, plan.look_batch)))["pixel_values"])
    loss = InstructionLoss(architecture, words)
    batches = InstructionBatches(lessons.sample, encoder, plan.lesson_steps, plan.lesson_batch, advanced=advanced)
    groups = instruction_groups(architecture, plan.lesson_rate, plan.lesson_tower_factor)
    log["lesson"] = _run_stage("lesson", batches, loss, groups, plan, out)
    mixture = finetuning_data.FinetuningMixture(world, plan.seed)
    batches = InstructionBatches(mixture.sample, encoder, plan.drill_steps, plan.drill_batch, advanced=advanced)
    groups = instruction_groups(architecture, plan.drill_rate, plan.lesson_tower_factor)
    log["drill"] = _run_stage("drill", batches, loss, groups, plan, out)
    return _save(architecture, log, plan, out / "model")


def _build(family: str, lessons: Lessons, seed: int, folder: Path) -> MiniArchitecture:
    """An untrained model, its tokenizer saved in ``folder`` because checkpoints depend on its ids."""
    if family == "qwen":
        torch.manual_seed(seed)
        architecture = qwen.QwenMiniArchitecture(DATA / "model")
        folder.mkdir(parents=True, exist_ok=True)
        architecture.tokenizer.save_pretrained(folder)
        return architecture
    tokenizer = _tokenizer(lessons, folder)
    torch.manual_seed(seed)
    return llava.LlavaMiniArchitecture(llava.new_model(tokenizer), tokenizer)


def _tokenizer(lessons: Lessons, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier start, or a new one."""
    if not (folder / "tokenizer.json").exists():
        with atomic_replace(folder / "tokenizer.json") as temporary:
            llava.train_tokenizer(lessons.corpus()).save(str(temporary))
    return llava.wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _run_stage(
    name: str,
    source: BatchSource,
    objective: Objective,
    groups: list[dict[str, Any]],
    plan: PretrainingPlan,
    out: Path,
) -> list[dict[str, Any]]:
    """Run the rest of a stage; returns every 20th step of its log."""
    own = {key: value for key, value in dataclasses.asdict(plan).items() if key == "seed" or key.startswith(name)}
    recipe = {
        "stage": name,
        "plan": own,
        "world": [file_digest(DATA / name) for name in ("world.json", "drawings.parquet")],
        "lessons": code_digest(Path(finetuning_data.__file__)),
        "tokenizer": file_digest(out / "tokenizer" / "tokenizer.json"),
    }
    checkpoint = StoredCheckpoint(Store(out / "store"), "pretraining", recipe)
    settings = TrainingSettings(micro_batch=plan.look_batch, betas=(0.9, 0.98), save_every=120)
    log = fit(source, objective, groups, settings, device=torch.device("cpu"), checkpoint=checkpoint, title=name)
    return [dataclasses.asdict(step) for step in log.steps if step.step % 20 == 0 or step is log.steps[-1]]


def _save(
    architecture: MiniArchitecture, log: dict[str, list[dict[str, Any]]], plan: PretrainingPlan, folder: Path
) -> Path:
    """Write the model with its training log and the checksum of its weights; the model card is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture.save(folder)
    weights = folder / "model.safetensors"
    atomic_write(folder / "SHA256SUMS", f"{file_digest(weights)}  {weights.name}\n")
    record = {"plan": dataclasses.asdict(plan), "torch": torch.__version__, "stages": log}
    atomic_write(folder / "training_log.json", json.dumps(record, indent=1) + "\n")
    return folder
