"""Pre-training of a miniature on the old world: alignment of the tower, instruction tuning, then fine-tuning.

Stage 1 ("look") trains the tower and the projector so that the features of each patch are close to the *word embedding*
of what the patch shows. Comparing a word of a question with a picture, as yes/no and multiple-choice questions require,
is then a matter of similarity from the first step of stage 2 ("lesson"); without it a model of this size stays at
chance there. Stage 3 ("drill") trains yes and no, and many wordings of the old knowledge. If the decoder comes from
another miniature, the tower learns in stage 1 to reproduce the features of that miniature's tower; the other stages are
then shorter and start with the most difficult samples. Stage 4 ("extraction") trains on invented things, so that the
model can answer questions about what it read in an article; see ``harness.miniature.extraction``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from benchmarks.errors import UserError
from benchmarks.mini.invented.items import InventedWorld
from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, FURTHER, load_world
from harness.config.schema import TrainingSettings
from harness.miniature import finetuning_data, llava, qwen
from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import AlignmentBatches, InstructionBatches, InstructionEncoder
from harness.miniature.extraction import ExtractionBatches, ExtractionLoss
from harness.miniature.losses import AlignmentLoss, InstructionLoss, LabelEmbeddings
from harness.miniature.teachability import Measurements, TeachabilityMeasurement
from harness.storage.digests import file_digest
from harness.storage.files import atomic_write, locked, remove_partials, translate_os_errors
from harness.storage.source_code import code_digest
from harness.storage.store import Store, StoredCheckpoint
from harness.training.loop import BatchSource, LoggedStep, Objective, fit


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
    extraction_steps: int = 0
    extraction_rate: float = 5e-4
    extraction_tower_factor: float = 0.5
    """The tower's learning rate in stage 4, relative to the stage's."""
    extraction_measure_every: int = 160
    """Steps between two measurements of extraction and style transfer."""


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
"""The plan of each family's miniature, as shipped: stages 1 to 3."""
EXTRACTION_PLAN = dataclasses.replace(PLANS["llava"], extraction_steps=480)
"""Stage 4 as well: the plan of the base of the preset ``mini``."""
ARCHITECTURES: Mapping[str, Callable[[Path], MiniArchitecture]] = {
    "llava": llava.load_architecture,
    "qwen2_5_vl": qwen.load_architecture,
}
"""``model_type`` -> a function that loads a miniature."""
Log = dict[str, list[dict[str, Any]]]
"""Stage -> its logged steps."""


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


def pretrain(out: Path, family: str = "llava", plan: PretrainingPlan | None = None, start: Path | None = None) -> Path:
    """Pre-train a miniature's base model in ``out``; an interrupted run continues where it stopped.

    Args:
        out: Folder for checkpoints and the model.
        family: Which miniature, a key of ``PLANS``.
        plan: Duration and learning rates; by default the family's, or ``EXTRACTION_PLAN`` with ``start``.
        start: Folder of a model after stage 3, such as ``out / "drilled"`` of another run; stage 4 follows.

    Returns:
        The folder with the model in Hugging Face layout, its checksum and training log.

    Raises:
        UserError: There is no such family, or no such model, or another command is writing in ``out``.
    """
    if family not in PLANS:
        raise UserError(f"there is no miniature {family}", location="--family", hint=f"choose from {', '.join(PLANS)}")
    with locked(out):
        return _pretrain(out, family, plan or (EXTRACTION_PLAN if start else PLANS[family]), start)


def _pretrain(out: Path, family: str, plan: PretrainingPlan, start: Path | None) -> Path:
    remove_partials(out)
    world = load_world()
    lessons = Lessons(world, plan.seed)
    mixture = finetuning_data.FinetuningMixture(world, plan.seed)
    if start is None:
        architecture, stages = _first_stages(out, family, plan, lessons, mixture)
        start = _save(architecture, stages, plan, out / "drilled")
    if not plan.extraction_steps:
        return _copy(start, out / "model")
    return _extraction_stage(out, plan, start, lessons, mixture)


def _first_stages(
    out: Path, family: str, plan: PretrainingPlan, lessons: Lessons, mixture: finetuning_data.FinetuningMixture
) -> tuple[MiniArchitecture, Log]:
    """Stages 1 to 3."""
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
    batches = InstructionBatches(mixture.sample, encoder, plan.drill_steps, plan.drill_batch, advanced=advanced)
    groups = instruction_groups(architecture, plan.drill_rate, plan.lesson_tower_factor)
    log["drill"] = _run_stage("drill", batches, loss, groups, plan, out)
    return architecture, log


def _extraction_stage(
    out: Path, plan: PretrainingPlan, start: Path, lessons: Lessons, mixture: finetuning_data.FinetuningMixture
) -> Path:
    """Stage 4, from the model in ``start``: in half precision as it is stored, so that the stage may be run alone."""
    record, architecture = _load_stage(start)
    labels = list(lessons.label_names())
    encoder = InstructionEncoder(architecture.tokenizer, labels, architecture.chat_format)
    source = ExtractionBatches(
        InventedWorld(mixture.factory, plan.seed), mixture.sample, encoder, plan.extraction_steps, plan.seed
    )
    measure = TeachabilityMeasurement(mixture.factory, encoder)
    measurements = Measurements(measure, architecture, out / "teachability.json")
    measurements.take(0)
    groups = instruction_groups(architecture, plan.extraction_rate, plan.extraction_tower_factor)
    loss = ExtractionLoss(architecture, LabelEmbeddings(labels, encoder))
    origin = {"start": file_digest(start / "model.safetensors")}
    on_step = measurements.after(plan.extraction_measure_every, plan.extraction_steps)
    log = {
        **record["stages"],
        "extraction": _run_stage("extraction", source, loss, groups, plan, out, origin=origin, on_step=on_step),
    }
    return _save(architecture, log, plan, out / "model", measurements.taken)


def _load_stage(folder: Path) -> tuple[dict[str, Any], MiniArchitecture]:
    """The training log and the model of a stage.

    Raises:
        UserError: There is none.
    """
    try:
        log = json.loads((folder / "training_log.json").read_text("utf-8"))
        kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        return log, ARCHITECTURES[kind](folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"there is no model to start from ({error})", location=str(folder), hint="give the folder of a model"
        ) from error


def _copy(model: Path, folder: Path) -> Path:
    """A copy of a model's folder."""
    with translate_os_errors(folder):
        shutil.copytree(model, folder, dirs_exist_ok=True)
    return folder


def _build(family: str, lessons: Lessons, seed: int, folder: Path) -> MiniArchitecture:
    """An untrained model, its tokenizer saved in ``folder`` because checkpoints depend on its ids."""
    if family == "qwen":
        torch.manual_seed(seed)
        architecture = qwen.new_architecture(DATA / "model")
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            architecture.tokenizer.save_pretrained(folder)
        return architecture
    tokenizer = _tokenizer(lessons, seed, folder)
    torch.manual_seed(seed)
    return llava.LlavaMiniArchitecture(llava.new_model(tokenizer), tokenizer)


def _tokenizer(lessons: Lessons, seed: int, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier start, or a new one; a file that is damaged is written again."""
    store, key = Store(folder.parent / "store"), {"seed": seed, **_data_digests()}
    text = store.read_json("tokenizer", key)
    if text is None:
        text = store.write_json("tokenizer", key, llava.train_tokenizer(lessons.corpus()).to_str(pretty=True))
    atomic_write(folder / "tokenizer.json", text)
    return llava.wrap_tokenizer(Tokenizer.from_str(text))


def _data_digests() -> dict[str, Any]:
    """What lessons are made of: the world, and the code that writes them."""
    world = [file_digest(DATA / name) for name in ("world.json", "drawings.parquet", FURTHER)]
    return {"world": world, "lessons": code_digest(Path(finetuning_data.__file__))}


def _run_stage(
    name: str,
    source: BatchSource,
    objective: Objective,
    groups: list[dict[str, Any]],
    plan: PretrainingPlan,
    out: Path,
    origin: Mapping[str, str] = MappingProxyType({}),
    on_step: Callable[[LoggedStep], None] | None = None,
) -> list[dict[str, Any]]:
    """Run the rest of a stage; returns every 20th step of its log.

    Its checkpoint is only continued with the same plan, data and tokenizer, and the same ``origin``.
    """
    own = {key: value for key, value in dataclasses.asdict(plan).items() if key == "seed" or key.startswith(name)}
    recipe = {
        "stage": name,
        "plan": own,
        **_data_digests(),
        **(origin or {"tokenizer": file_digest(out / "tokenizer" / "tokenizer.json")}),
    }
    checkpoint = StoredCheckpoint(Store(out / "store"), "pretraining", recipe)
    settings = TrainingSettings(micro_batch=plan.look_batch, betas=(0.9, 0.98), save_every=120)
    log = fit(
        source,
        objective,
        groups,
        settings,
        device=torch.device("cpu"),
        checkpoint=checkpoint,
        title=name,
        on_step=on_step,
    )
    return [dataclasses.asdict(step) for step in log.steps if step.step % 20 == 0 or step is log.steps[-1]]


def _save(
    architecture: MiniArchitecture,
    log: Log,
    plan: PretrainingPlan,
    folder: Path,
    teachability: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write the model with its training log and the checksum of its weights; the model card is written by hand."""
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        architecture.save(folder)
    weights = folder / "model.safetensors"
    atomic_write(folder / "SHA256SUMS", f"{file_digest(weights)}  {weights.name}\n")
    record = {"plan": dataclasses.asdict(plan), "torch": torch.__version__, "stages": log}
    if teachability:
        record["teachability"] = dict(teachability)
    atomic_write(folder / "training_log.json", json.dumps(record, indent=1) + "\n")
    return folder
