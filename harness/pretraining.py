"""Pre-training of the miniature on the old world: the tower learns to name, then all learn to talk, then to compare.

Stage 1 trains the tower and the projector so that each patch of a picture lands near the *word embedding* of what the
patch shows. Comparing a word of a question with a picture, which yes/no and multiple choice need, is then a matter of
similarity from the first step of stage 2; without it a model of this size stays at chance there. Stage 3 drills yes and
no and the many wordings of what is known.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from harness import drill, miniature
from harness.lesson_batches import LessonEncoder, LessonSource, LookSource
from harness.models.base import Batch
from harness.provenance import code_digest
from harness.store import Store, StoredCheckpoint, file_digest, replacing, write_whole
from harness.training import Objective, StepLoss, StepSource, TrainingSettings, fit

ALIGNMENT_WEIGHT = 0.3
TEMPERATURE = 0.07


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


class WordTable:
    """Mean word embedding of each label, from the language model's own (tied) embedding matrix."""

    def __init__(self, labels: list[str], encoder: LessonEncoder) -> None:
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


class LookObjective:
    """Stage 1: name the patches."""

    def __init__(self, model: LlavaForConditionalGeneration, words: WordTable) -> None:
        self._model, self._words = model, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Alignment loss over the labelled patches."""
        patches = projected(self._model, batch["pixel_values"])
        words = self._words(self._model.get_input_embeddings())
        count = int((batch["patches"] != -100).sum())
        return StepLoss(alignment(patches, batch["patches"], words) * count, count, None)


class LessonObjective:
    """Stages 2 and 3: answer, and go on naming the patches."""

    def __init__(self, model: LlavaForConditionalGeneration, words: WordTable) -> None:
        self._model, self._words = model, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Weighted token loss plus ``ALIGNMENT_WEIGHT`` times the alignment loss."""
        inner = self._model.model
        embeddings = self._model.get_input_embeddings()(batch["input_ids"])
        penalty = None
        if "pixel_values" in batch:
            patches = projected(self._model, batch["pixel_values"])
            places = (batch["input_ids"] == self._model.config.image_token_id).unsqueeze(-1)
            embeddings = embeddings.masked_scatter(places, patches.to(embeddings.dtype))
            words = self._words(self._model.get_input_embeddings())
            penalty = ALIGNMENT_WEIGHT * alignment(patches, batch["patches"], words)
        hidden = inner.language_model(
            inputs_embeds=embeddings, attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        weights = batch["weights"][:, 1:]
        learnt = weights > 0
        logits = self._model.lm_head(hidden[:, :-1][learnt]).float()
        losses = functional.cross_entropy(logits, batch["input_ids"][:, 1:][learnt], reduction="none")
        return StepLoss((losses * weights[learnt]).sum(), float(weights.sum()), penalty)


def projected(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """(pictures, 16, hidden): the tower's patches after the projector, class token dropped."""
    features = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    patches: torch.Tensor = model.model.multi_modal_projector(features)
    return patches


def match_scale(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> None:
    """Scale the projector's output to the length of word embeddings: stage 1 fixes only its direction."""
    with torch.no_grad():
        target = model.model.language_model.embed_tokens.weight.norm(dim=-1).mean()
        factor = target / projected(model, pixels).norm(dim=-1).mean()
        last = model.model.multi_modal_projector.linear_2
        last.weight.mul_(factor)
        last.bias.mul_(factor)


def look_groups(model: LlavaForConditionalGeneration, plan: PretrainingPlan) -> list[dict[str, Any]]:
    """Tower, projector and word embeddings learn; the language model waits."""
    learning = ("model.vision_tower.", "model.multi_modal_projector.", "model.language_model.embed_tokens.")
    return [_group(model, plan.look_rate, lambda name: name.startswith(learning))]


def lesson_groups(model: LlavaForConditionalGeneration, rate: float, tower_factor: float) -> list[dict[str, Any]]:
    """Everything learns, the tower more slowly."""
    tower = "model.vision_tower."
    return [
        _group(model, rate, lambda name: not name.startswith(tower)),
        _group(model, rate * tower_factor, lambda name: name.startswith(tower)),
    ]


def _group(model: torch.nn.Module, rate: float, wanted: Any) -> dict[str, Any]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if wanted(name)]
    return {
        "params": [parameter for _, parameter in named],
        "names": [name for name, _ in named],
        "lr": rate,
        "weight_decay": 0.05,
    }


def pretrain(out: Path, plan: PretrainingPlan | None = None) -> Path:
    """Make the miniature's base model in ``out``; a killed run goes on where it stopped.

    Returns:
        The folder with the model in Hugging Face layout, its checksum and training log.
    """
    plan = plan or PretrainingPlan()
    world = load_world()
    lessons = Lessons(world, plan.seed)
    tokenizer = _tokenizer(lessons, out / "tokenizer")
    labels = list(lessons.names())
    encoder = LessonEncoder(tokenizer, labels)
    words = WordTable(labels, encoder)
    torch.manual_seed(plan.seed)
    model = miniature.new_model(tokenizer)
    looks = LookSource(lessons, encoder, plan.look_steps, plan.look_batch)
    naming, answering = LookObjective(model, words), LessonObjective(model, words)
    log = {"look": _stage("look", model, looks, naming, look_groups(model, plan), plan, out)}
    match_scale(model, next(iter(looks.micro_batches(0, plan.look_batch)))["pixel_values"])
    talk = LessonSource(lessons.sample, encoder, plan.lesson_steps, plan.lesson_batch)
    groups = lesson_groups(model, plan.lesson_rate, plan.lesson_tower_factor)
    log["lesson"] = _stage("lesson", model, talk, answering, groups, plan, out)
    compare = LessonSource(drill.Drill(world, plan.seed).sample, encoder, plan.drill_steps, plan.drill_batch)
    groups = lesson_groups(model, plan.drill_rate, plan.lesson_tower_factor)
    log["drill"] = _stage("drill", model, compare, answering, groups, plan, out)
    return _ship(model, tokenizer, log, plan, out / "model")


def _tokenizer(lessons: Lessons, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier start, or a new one: what stage 1 learnt hangs on its ids."""
    if not (folder / "tokenizer.json").exists():
        with replacing(folder / "tokenizer.json") as temporary:
            miniature.train_tokenizer(lessons.corpus()).save(str(temporary))
    return miniature.wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _stage(
    name: str,
    model: LlavaForConditionalGeneration,
    source: StepSource,
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
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    log: dict[str, list[dict[str, Any]]],
    plan: PretrainingPlan,
    folder: Path,
) -> Path:
    """Write the finished model with its training log and the checksum of its weights; the card is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    miniature.save(model, tokenizer, folder)
    weights = folder / "model.safetensors"
    write_whole(folder / "SHA256SUMS", f"{file_digest(weights)}  {weights.name}\n")
    record = {"plan": dataclasses.asdict(plan), "torch": torch.__version__, "stages": log}
    write_whole(folder / "training_log.json", json.dumps(record, indent=1) + "\n")
    return folder
