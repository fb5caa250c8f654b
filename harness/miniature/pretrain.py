"""Pre-training of a miniature on the old world: the tower learns to name, then all learn to talk, then to compare.

Stage 1 trains the tower and the projector so that each patch of a picture lands near the *word embedding* of what the
patch shows. Comparing a word of a question with a picture, which yes/no and multiple choice need, is then a matter of
similarity from the first step of stage 2; without it a model of this size stays at chance there. Stage 3 drills yes and
no and the many wordings of what is known. Where the decoder can talk already, the tower learns in stage 1 to show it
what it is used to from another tower; the other stages are shorter then and begin with the last lessons.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from benchmarks.errors import UserError
from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from harness.miniature import finetuning_data as drill
from harness.miniature import llava, qwen
from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import AlignmentBatches, InstructionBatches, InstructionEncoder
from harness.models.base import Batch
from harness.storage.provenance import code_digest
from harness.storage.store import Store, StoredCheckpoint, atomic_replace, atomic_write, file_digest
from harness.training.loop import BatchSource, Objective, StepLoss, TrainingSettings, fit

ALIGNMENT_WEIGHT = 0.3
TEMPERATURE = 0.07
TAUGHT_WEIGHT = 2.0


@dataclasses.dataclass(frozen=True)
class PretrainingPlan:
    """How long and how fast each stage learns. The defaults made the shipped checkpoint."""

    seed: int = 0
    look_steps: int = 2_000
    look_batch: int = 128
    look_rate: float = 1e-3
    lesson_steps: int = 2_800
    lesson_batch: int = 64
    lesson_rate: float = 1.2e-3
    lesson_tower_factor: float = 0.4
    """The tower's learning rate in stages 2 and 3, as a factor of the stage's own."""
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
"""How each family's miniature is made."""


class LabelEmbeddings:
    """Mean word embedding of each label, from the language model's own (tied) embedding matrix."""

    def __init__(self, labels: list[str], encoder: InstructionEncoder) -> None:
        rows = [encoder.segment(label) for label in labels]
        width = max(map(len, rows))
        self._ids = torch.tensor([[*row, *[encoder.pad] * (width - len(row))] for row in rows])
        self._mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows]).unsqueeze(-1)

    def __call__(self, embedding: torch.nn.Module) -> torch.Tensor:
        """(labels, hidden) float32."""
        total: torch.Tensor = (embedding(self._ids) * self._mask).sum(1)
        return total / self._mask.sum(1)


def alignment(patches: torch.Tensor, labels: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of naming each labelled patch by cosine similarity to all labels' words.

    Args:
        patches: (pictures, 16, hidden) projected patches.
        labels: (pictures, 16) classes, -100 for none.
        words: (labels, hidden) word embeddings.
    """
    chosen = labels != -100
    similarity = functional.normalize(patches[chosen].float(), dim=-1) @ functional.normalize(words, dim=-1).T
    return functional.cross_entropy(similarity / TEMPERATURE, labels[chosen])


class AlignmentLoss:
    """Stage 1: name the patches, and make of them what another tower makes, if there is one to learn from."""

    def __init__(self, blueprint: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._blueprint, self._words = blueprint, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Alignment loss over the labelled patches, plus ``TAUGHT_WEIGHT`` times the relative squared error."""
        pixels = batch["pixel_values"]
        patches = self._blueprint.projected(pixels)
        words = self._words(self._blueprint.model.get_input_embeddings())
        count = int((batch["patches"] != -100).sum())
        wanted = self._blueprint.taught(pixels)
        penalty = None
        if wanted is not None:
            error = functional.mse_loss(patches.float(), wanted.float())
            penalty = TAUGHT_WEIGHT * error / wanted.float().square().mean()
        return StepLoss(alignment(patches, batch["patches"], words) * count, count, penalty)


class InstructionLoss:
    """Stages 2 and 3: answer, and go on naming the patches."""

    def __init__(self, blueprint: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._blueprint, self._words = blueprint, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Weighted token loss plus ``ALIGNMENT_WEIGHT`` times the alignment loss."""
        model = self._blueprint.model
        embeddings = model.get_input_embeddings()(batch["input_ids"])
        penalty = None
        if "pixel_values" in batch:
            patches = self._blueprint.projected(batch["pixel_values"])
            places = (batch["input_ids"] == model.config.image_token_id).unsqueeze(-1)
            embeddings = embeddings.masked_scatter(places, patches.to(embeddings.dtype))
            words = self._words(model.get_input_embeddings())
            penalty = ALIGNMENT_WEIGHT * alignment(patches, batch["patches"], words)
        hidden = model.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=batch["attention_mask"],
            position_ids=self._blueprint.positions(batch),
            use_cache=False,
        ).last_hidden_state
        weights = batch["weights"][:, 1:]
        learnt = weights > 0
        logits = model.lm_head(hidden[:, :-1][learnt]).float()
        losses = functional.cross_entropy(logits, batch["input_ids"][:, 1:][learnt], reduction="none")
        return StepLoss((losses * weights[learnt]).sum(), float(weights.sum()), penalty)


def match_scale(blueprint: MiniArchitecture, pixels: torch.Tensor) -> None:
    """Scale the projector's output to the length of word embeddings: stage 1 fixes only its direction."""
    with torch.no_grad():
        target = blueprint.model.get_input_embeddings().weight.norm(dim=-1).mean()
        factor = target / blueprint.projected(pixels).norm(dim=-1).mean()
        blueprint.last.weight.mul_(factor)
        blueprint.last.bias.mul_(factor)


def look_groups(blueprint: MiniArchitecture, plan: PretrainingPlan) -> list[dict[str, Any]]:
    """Tower and projector learn, and word embeddings that mean nothing yet; the language model waits."""
    words = () if blueprint.schooled else ("model.language_model.embed_tokens.",)
    learning = (blueprint.tower, blueprint.projector, *words)
    return [_group(blueprint.model, plan.look_rate, lambda name: name.startswith(learning))]


def lesson_groups(blueprint: MiniArchitecture, rate: float, tower_factor: float) -> list[dict[str, Any]]:
    """Everything learns, the tower at a pace of its own."""
    return [
        _group(blueprint.model, rate, lambda name: not blueprint.in_tower(name)),
        _group(blueprint.model, rate * tower_factor, blueprint.in_tower),
    ]


def _group(model: torch.nn.Module, rate: float, wanted: Any) -> dict[str, Any]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if wanted(name)]
    return {
        "params": [parameter for _, parameter in named],
        "names": [name for name, _ in named],
        "lr": rate,
        "weight_decay": 0.05,
    }


def pretrain(out: Path, family: str = "llava", plan: PretrainingPlan | None = None) -> Path:
    """Make a miniature's base model in ``out``; a killed run goes on where it stopped.

    Args:
        out: Folder for checkpoints and the model.
        family: Which miniature, a key of ``PLANS``.
        plan: How long and how fast; the family's own when left out.

    Returns:
        The folder with the model in Hugging Face layout, its checksum and training log.

    Raises:
        UserError: There is no such family.
    """
    if family not in PLANS:
        raise UserError(f"there is no miniature {family}", location="--family", hint=f"choose of: {', '.join(PLANS)}")
    plan = plan or PLANS[family]
    world = load_world()
    lessons = Lessons(world, plan.seed)
    blueprint = _new(family, lessons, plan.seed, out / "tokenizer")
    labels = list(lessons.names())
    encoder = InstructionEncoder(blueprint.tokenizer, labels, blueprint.frame)
    words = LabelEmbeddings(labels, encoder)
    looks = AlignmentBatches(lessons, encoder, plan.look_steps, plan.look_batch)
    naming, answering = AlignmentLoss(blueprint, words), InstructionLoss(blueprint, words)
    log = {"look": _stage("look", looks, naming, look_groups(blueprint, plan), plan, out)}
    if not blueprint.schooled:
        match_scale(blueprint, next(iter(looks.micro_batches(0, plan.look_batch)))["pixel_values"])
    advanced = blueprint.schooled
    talk = InstructionBatches(lessons.sample, encoder, plan.lesson_steps, plan.lesson_batch, advanced=advanced)
    groups = lesson_groups(blueprint, plan.lesson_rate, plan.lesson_tower_factor)
    log["lesson"] = _stage("lesson", talk, answering, groups, plan, out)
    exercise = drill.FinetuningMixture(world, plan.seed).sample
    compare = InstructionBatches(exercise, encoder, plan.drill_steps, plan.drill_batch, advanced=advanced)
    groups = lesson_groups(blueprint, plan.drill_rate, plan.lesson_tower_factor)
    log["drill"] = _stage("drill", compare, answering, groups, plan, out)
    return _ship(blueprint, log, plan, out / "model")


def _new(family: str, lessons: Lessons, seed: int, folder: Path) -> MiniArchitecture:
    """A model to begin with, its tokenizer in ``folder``: what stage 1 learns hangs on its ids."""
    if family == "qwen":
        torch.manual_seed(seed)
        made = qwen.QwenMiniArchitecture(DATA / "model")
        folder.mkdir(parents=True, exist_ok=True)
        made.tokenizer.save_pretrained(folder)
        return made
    tokenizer = _tokenizer(lessons, folder)
    torch.manual_seed(seed)
    return llava.LlavaMiniArchitecture(llava.new_model(tokenizer), tokenizer)


def _tokenizer(lessons: Lessons, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier start, or a new one: what stage 1 learnt hangs on its ids."""
    if not (folder / "tokenizer.json").exists():
        with atomic_replace(folder / "tokenizer.json") as temporary:
            llava.train_tokenizer(lessons.corpus()).save(str(temporary))
    return llava.wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _stage(
    name: str,
    source: BatchSource,
    objective: Objective,
    groups: list[dict[str, Any]],
    plan: PretrainingPlan,
    out: Path,
) -> list[dict[str, Any]]:
    """Run one stage, or what is left of it; returns every 20th step of its log."""
    own = {key: value for key, value in dataclasses.asdict(plan).items() if key == "seed" or key.startswith(name)}
    recipe = {
        "stage": name,
        "plan": own,
        "world": [file_digest(DATA / name) for name in ("world.json", "drawings.parquet")],
        "lessons": code_digest(Path(drill.__file__)),
        "tokenizer": file_digest(out / "tokenizer" / "tokenizer.json"),
    }
    checkpoint = StoredCheckpoint(Store(out / "store"), "pretraining", recipe)
    settings = TrainingSettings(micro_batch=plan.look_batch, betas=(0.9, 0.98), save_every=120)
    log = fit(source, objective, groups, settings, device=torch.device("cpu"), checkpoint=checkpoint, title=name)
    return [dataclasses.asdict(step) for step in log.steps if step.step % 20 == 0 or step is log.steps[-1]]


def _ship(
    blueprint: MiniArchitecture, log: dict[str, list[dict[str, Any]]], plan: PretrainingPlan, folder: Path
) -> Path:
    """Write the finished model with its training log and the checksum of its weights; the card is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    blueprint.save(folder)
    weights = folder / "model.safetensors"
    atomic_write(folder / "SHA256SUMS", f"{file_digest(weights)}  {weights.name}\n")
    record = {"plan": dataclasses.asdict(plan), "torch": torch.__version__, "stages": log}
    atomic_write(folder / "training_log.json", json.dumps(record, indent=1) + "\n")
    return folder
