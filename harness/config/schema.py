"""Everything that can be set, with defaults. Imports no torch, so that settings can be listed instantly."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from benchmarks.further import FurtherBenchmark
from benchmarks.retention_specs import Protocol

Beta = Annotated[float, Field(ge=0, lt=1)]
SweepValue = bool | int | float | str
NO_EFFECT = frozenset({"save_every", "gradient_checkpointing", "allow_long"})
"""Settings of the training loop that do not affect what is learned."""
OLD = "old"
"""What earlier versions had below ``data`` instead of a setting for each ``Pool``."""


EVERY = "*"
"""Stands for all methods below ``methods`` in a preset, and for all benchmarks below ``answering.max_new_tokens``."""
SOURCES = ("mini", "none")
"""What a pool may be besides a file."""


class Pool(StrEnum):
    """The samples beside the new knowledge, by the name of their setting below ``data``."""

    CALIBRATION = auto()
    REPLAY = auto()

    @classmethod
    def serving(cls, purpose: str) -> Pool:
        """The pool that serves a purpose: calibration is measured on prompts alone, all else needs answers."""
        return cls.CALIBRATION if purpose == cls.CALIBRATION else cls.REPLAY


class StrictModel(BaseModel):
    """A group of settings: unknown names are errors, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSettings(StrictModel):
    """Settings of the training loop; ``methods.METHOD.training`` changes them for one method."""

    epochs: PositiveInt = Field(6, description="passes over the training data (KORE table 7)")
    batch_size: PositiveInt = Field(54, description="conversations per optimiser step (KORE table 7)")
    micro_batch: PositiveInt = Field(64, description="rows in one forward pass; halved while memory does not suffice")
    warmup: float = Field(0.03, ge=0, le=1, description="share of the steps in which the learning rate rises (LLaVA)")
    warmup_from_zero: bool = Field(
        False, description="whether the first step has learning rate 0, as in Hugging Face's schedule"
    )
    clip_norm: PositiveFloat = Field(1.0, description="largest norm of the gradient over all trained parameters")
    optimizer: Literal["adamw", "adamw-8bit"] = Field(
        "adamw",
        description="adamw-8bit keeps both moments in 8 bits, in blocks of 256 values, of every tensor with at least "
        "4,096 (needs the extra bitsandbytes)",
    )
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's decay rates")
    epsilon: PositiveFloat = Field(1e-8, description="AdamW's epsilon")
    gradient_checkpointing: bool = Field(
        False,
        description="compute activations again in the backward pass instead of keeping them: the same bits in about a "
        "third more time; not part of a cache key",
    )
    save_every: NonNegativeFloat = Field(60.0, description="seconds between checkpoints; not part of a cache key")
    allow_long: bool = Field(
        False,
        description="train on conversations that are longer than the model's window, at full length; they are counted "
        "in the notes; not part of a cache key",
    )


class SweepAxis(StrictModel):
    """A setting of methods that takes several values in turn."""

    setting: str = Field(description="name of the setting")
    values: tuple[SweepValue, ...] = Field(description="its values", min_length=1)


class DataSettings(StrictModel):
    """Where the data is. Paths in a preset are relative to the preset's file."""

    knowledge: Path | None = Field(
        None, description="what to inject: a file in any format, or its folder; required without a sequence of stages"
    )
    evaluation: Path | None = Field(None, description="questions about it: a file [default: beside the knowledge]")
    editing: Path | None = Field(
        None, description="questions of editing's measures [default: beside the evaluation, or its own further columns]"
    )
    tuning: Path | None = Field(
        None, description="folder of the held-out knowledge that `tune` uses [default: beside the knowledge]"
    )
    retention: Path = Field(description="folder with one TSV for each retention benchmark")
    published: bool = Field(
        False, description="accept only the published data: tables by md5, EVOKE by its 9,422 questions"
    )
    calibration: str = Field(
        "none", description="prompts that methods measure the base's inputs on: mini, none, or a file"
    )
    replay: str = Field("none", description="what methods learn from again, with answers: mini, none, or a file")

    @model_validator(mode="before")
    @classmethod
    def _split_old(cls, data: Any) -> Any:
        """Read ``old`` of earlier versions, in a run's folder, as both pools."""
        if not isinstance(data, Mapping) or OLD not in data:
            return data
        return {**dict.fromkeys(Pool, data[OLD]), **{key: value for key, value in data.items() if key != OLD}}


class StageSettings(StrictModel):
    """One stage of a task sequence: its own knowledge, and questions about it."""

    knowledge: Path = Field(description="what to inject: a file in any format, or its folder")
    evaluation: Path | None = Field(None, description="questions about it: a file [default: beside the knowledge]")
    name: str = Field("", description="heads its columns [default: the file's name, or that of its folder]")


class ExternalRow(StrictModel):
    """Weights or answers from elsewhere, as a row of the tables."""

    kind: Literal["adapter", "model", "answers"] = Field(description="a PEFT adapter, a whole model, or only answers")
    folder: Path = Field(description="the folder of the weights, or the file of the answers")

    @property
    def flag(self) -> str:
        """The command line's option for this kind."""
        return {"adapter": "adapter", "model": "row", "answers": "answers"}[self.kind]


class PictureSettings(StrictModel):
    """Picture processing, where it differs from what the model's folder says."""

    line_break: bool = Field(
        False, description="keep the line break after <image> in training data (Qwen2.5-VL; LLaVA always keeps it)"
    )
    aspect: Literal["folder", "pad"] = Field("folder", description="pad: make square, as LLaVA-1.5's own code does")
    min_pixels: PositiveInt | None = Field(None, description="smallest area after resizing (Qwen2.5-VL)")
    max_pixels: PositiveInt | None = Field(None, description="largest area after resizing (Qwen2.5-VL)")


class AnsweringPictures(StrictModel):
    """Picture processing for the questions; part of the answers' cache key and of a number's signature."""

    adaptation: PictureSettings | None = Field(None, description="for EVOKE [default: as in training]")
    retention: PictureSettings | None = Field(None, description="for the twelve benchmarks [default: as in training]")


class AnsweringSettings(StrictModel):
    """How questions are answered."""

    batch_size: PositiveInt = Field(32, description="questions answered at once; part of the answers' cache key")
    engine: Literal["builtin", "vllm"] = Field(
        "builtin",
        description="what generates answers; vllm (needs the extra vllm) answers for each row that it can serve and "
        "answers like the built-in engine; part of the answers' cache key and of a number's signature",
    )
    pictures: AnsweringPictures = AnsweringPictures()
    allow_long: bool = Field(
        False,
        description="ask questions whose prompt leaves no room for an answer in the model's window; "
        "they are counted in the notes; not part of a cache key",
    )
    max_new_tokens: Mapping[str, PositiveInt] = Field(
        {},
        description="largest number of new tokens of an answer, by benchmark, '*' for all others; part of a number's "
        "signature [default: each benchmark's own]",
    )

    def new_tokens(self, benchmark: str) -> int | None:
        """The largest number of new tokens of a benchmark's answers; None for its own."""
        return self.max_new_tokens.get(benchmark, self.max_new_tokens.get(EVERY))


class Settings(StrictModel):
    """All settings of a run except those of the methods, which ``method_settings`` resolves."""

    model: Path = Field(description="folder of the base model in Hugging Face layout, or its id on the hub")
    label: str = Field("", description="the model's name in reports [default: its folder's name]")
    data: DataSettings
    benchmarks: tuple[str, ...] = Field(description="benchmarks, in the order of the report")
    further: Mapping[str, FurtherBenchmark] = Field({}, description="benchmarks beyond EVOKE and the twelve, by name")
    editing: bool = Field(
        False, description="ask for editing's measures too: generality, portability, locality, K.A by a judge"
    )
    methods: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="settings of single methods or variants, or of all under '*'",
    )
    size_reference: str = Field(
        "",
        description="row with whose trained parameters those of the others are compared [default: the first trained]",
    )
    rows: Mapping[str, ExternalRow] = Field({}, description="rows from elsewhere, by name")
    cross: tuple[SweepAxis, ...] = Field((), description="settings that take several values in turn, for each method")
    training: TrainingSettings = TrainingSettings()
    answering: AnsweringSettings = AnsweringSettings()
    pictures: PictureSettings = PictureSettings()
    seeds: tuple[NonNegativeInt, ...] = Field((0,), description="one cell for each method and seed", min_length=1)
    stages: PositiveInt | tuple[StageSettings, ...] = Field(
        1,
        description="in how many random parts the knowledge is injected, one after the other, or a task sequence: "
        "[{knowledge: ..., evaluation: ...}, ...]",
    )
    judge: str | None = Field(
        None,
        description="grades where a benchmark needs a judge, and reads choices that rules cannot: "
        "rule (only grades), openai:MODEL, local:FOLDER, none "
        "[default: rule for miniatures, else none]",
    )
    protocol: Protocol = Field(
        "vlmevalkit",
        description="whose prompts and rules for the twelve: vlmevalkit, vlmevalkit-llava as its class for LLaVA, "
        "or llava as LLaVA's scripts for MME, MMBench, POPE and ScienceQA and as that class for the other eight",
    )
    limit: PositiveInt | None = Field(
        None, description="largest number of items, and of questions per benchmark; marks the whole run"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bfloat16", "nf4"] = Field(
        "auto",
        description="type of the frozen weights; nf4 is QLoRA: 4 bits for the decoder's linear layers, everything else "
        "in bfloat16 on a GPU and in float32 on a CPU (needs the extra bitsandbytes)",
    )
    executor: Literal["local", "ray"] = Field("local", description="compute cells on this machine or on a Ray cluster")
    workers: PositiveInt | None = Field(
        None, description="cells at once, each in its own process [default: one here; on Ray as many as fit]"
    )
    processes: PositiveInt = Field(1, description="processes that share each cell; set by `accelerate launch`")
    sharding: Literal["none", "fsdp", "zero2", "zero3"] = Field(
        "none", description="how these processes shard the model in training; set by the launcher's configuration"
    )
    track: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = Field(
        (), description="trackers that receive losses and scores; offline, below the run's folder"
    )
    notes: tuple[str, ...] = Field((), description="sentences that the report prints below its tables")

    @property
    def sequence(self) -> tuple[StageSettings, ...]:
        """The stages of a task sequence; empty if the knowledge comes at once or in random parts."""
        return self.stages if isinstance(self.stages, tuple) else ()

    @property
    def stage_count(self) -> int:
        """The number of stages; 1 if all knowledge comes at once."""
        return self.stages if isinstance(self.stages, int) else len(self.stages)
