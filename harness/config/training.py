"""How the training core trains. Imports no torch, so that settings can be listed in an instant."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingSettings(BaseModel):
    """Settings of one training, the same for every method; learning rates and weight decay are the method's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: PositiveInt = Field(6, description="how often each conversation is seen (KORE table 7)")
    batch_size: PositiveInt = Field(54, description="conversations in one optimiser step (KORE table 7)")
    micro_batch: PositiveInt = Field(64, description="rows in one forward pass; halved where memory does not suffice")
    warmup: float = Field(0.03, ge=0, le=1, description="share of the steps in which the learning rate rises (LLaVA)")
    clip_norm: PositiveFloat = Field(1.0, description="largest norm of the gradient over all trained parameters")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="AdamW's decay rates")
    epsilon: PositiveFloat = Field(1e-8, description="AdamW's epsilon")
    save_every: NonNegativeFloat = Field(60.0, description="seconds between checkpoints; no part of a cell's identity")
