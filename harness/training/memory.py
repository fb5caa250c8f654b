"""A forecast of the memory that a cell needs, from sizes alone.

Everything here counts tensors. What a library allocates beyond that (the CUDA context, fragments between tensors,
workspaces of kernels) is not part of it; on a GPU leave about a tenth of the card for that.

The activations are those of a decoder of the Llama kind with torch's fused attention, as transformers writes it: what
autograd keeps for the backward pass, tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.models.shapes import ModelSizes
from harness.training.hardware import Precision, WeightPrecision
from methods.memory import FLOAT32, DecoderShapes, MemoryNeeds

BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}
NF4 = 0.5 + 1 / 64 + FLOAT32 / (64 * 256)
"""Bytes of a quantised value: 4 bits, a scale of 8 bits for 64 values, a scale of those for 256 (QLoRA, section 3)."""
CALIBRATED_TOKENS, CALIBRATED_ROWS = 8192, 32
"""Most tokens and prompts of a pass whose statistics are measured, as ``methods.components.covariance`` has them."""
MOMENTS = {"adamw": 2.0 * FLOAT32, "adamw-8bit": 2 * (1 + FLOAT32 / 256)}
"""Bytes of the optimiser's two moments of a parameter; of the 8 bits' also a scale for 256 values."""


@dataclass(frozen=True)
class Machine:
    """How a cell is computed.

    Attributes:
        device: ``cpu`` or ``cuda``.
        stored: How the frozen weights are stored.
        computed: The type of matrix products.
        optimizer: Kind of AdamW.
        checkpointing: Whether each layer keeps its input alone.
        shards: Processes that share the decoder's layers (FSDP, ZeRO-3).
        moment_shards: Processes that share the moments (those, and ZeRO-2).
        copies: Processes with gradients of their own.
    """

    device: str
    stored: WeightPrecision
    computed: Precision
    optimizer: str = "adamw"
    checkpointing: bool = False
    shards: int = 1
    moment_shards: int = 1
    copies: int = 1


@dataclass(frozen=True)
class MicroBatch:
    """The largest micro-batch of a training.

    Attributes:
        rows: Conversations.
        width: Tokens of the longest.
        supervised: Tokens with a loss.
        image_tokens: Over all pictures of the rows.
        alone: Whether the step consists of it, so that no gradient is held while it runs.
        padded: Whether the rows differ in length, so that attention has a mask.
    """

    rows: int
    width: int
    supervised: int
    image_tokens: int
    alone: bool
    padded: bool = True


@dataclass(frozen=True)
class Asked:
    """The largest batch of questions: rows, tokens of a prompt, and tokens that an answer may have."""

    rows: int
    width: int
    new: int


@dataclass(frozen=True)
class Forecast:
    """Bytes by what they are for; ``peak`` is the largest sum of what is there at the same time."""

    weights: int
    trained: int
    gradients: int
    optimizer: int
    statistics: int
    activations: int
    preparation: int
    answering: int
    peak: int


def forecast(
    sizes: ModelSizes,
    needs: MemoryNeeds,
    machine: Machine,
    batch: MicroBatch | None,
    asked: Asked | None,
    prompts: Sequence[int] = (),
) -> Forecast:
    """What a cell needs.

    Args:
        sizes: Of the model.
        needs: Of the method.
        machine: How it is computed.
        batch: The largest micro-batch; None if nothing is trained.
        asked: The largest batch of questions; None if nothing is asked.
        prompts: Tokens of each prompt that the method's statistics are measured on.
    """
    weights = weight_bytes(sizes, needs, machine)
    added = FLOAT32 * (needs.frozen + (0 if needs.trains_base else needs.trained))
    own = needs.trained // machine.shards if needs.trains_base else needs.trained
    gradients = FLOAT32 * own * (2 if machine.copies > 1 else 1)  # summed over processes as one flat copy
    moments = round(MOMENTS[machine.optimizer] * needs.trained / machine.moment_shards)
    activations = activation_bytes(sizes, needs, machine, batch) if batch else 0
    # Gradients appear while activations are released, layer by layer; with further micro-batches they are there before.
    passing = max(activations, gradients) if batch and batch.alone else activations + gradients
    training = weights + added + moments + needs.statistics + needs.step + passing if batch else 0
    answering = answering_bytes(sizes, machine, asked) if asked else 0
    statistics = needs.preparation + prompt_bytes(sizes, machine, prompts)
    preparing = weights + statistics if statistics else 0
    return Forecast(
        weights=weights,
        trained=added,
        gradients=gradients if batch else 0,
        optimizer=moments if batch else 0,
        statistics=needs.statistics + needs.step,
        activations=activations,
        preparation=statistics,
        answering=answering,
        peak=max(training, preparing, weights + added + answering if asked else weights),
    )


def weight_bytes(sizes: ModelSizes, needs: MemoryNeeds, machine: Machine) -> int:
    """The model's weights: float32 where they are trained, or on a CPU; in shards where processes share them."""
    plain = BYTES["float32"] if machine.device == "cpu" else BYTES[machine.computed]
    language = FLOAT32 if needs.trains_base else plain
    matrices = sizes.shapes.matrices * (NF4 if machine.stored == "nf4" else language) / machine.shards
    rest = sizes.shapes.others * language + (sizes.shapes.projector + sizes.tower) * plain
    # While weights are trained, the base waits in main memory, to be restored bit for bit.
    copy = (sizes.shapes.matrices + sizes.shapes.others) * plain if needs.trains_base and machine.device == "cpu" else 0
    return round(matrices + rest + copy)


def activation_bytes(sizes: ModelSizes, needs: MemoryNeeds, machine: Machine, batch: MicroBatch) -> int:
    """What is kept from the forward to the backward pass, and the largest temporary tensors beside it."""
    tokens, layers, each = batch.rows * batch.width, sizes.shapes.layers, BYTES[machine.computed]
    base = tokens * layer_bytes(sizes, needs, machine, batch)
    adapters = tokens * adapter_bytes(sizes, needs, machine)
    adapted = needs.adapted.layers if needs.adapted else layers
    # Under autocast each matrix product keeps a copy of its weight in half precision, unless it is stored so.
    casts = each * (needs.trained + needs.frozen) if machine.computed == "bfloat16" and not needs.trains_base else 0
    if machine.computed == "bfloat16" and (machine.device == "cpu" or needs.trains_base):
        casts += each * sizes.shapes.matrices
    # In the backward pass of a layer: gradients of its output, of its input and of three values inside the MLP.
    passing = tokens * each * (2 * sizes.hidden + 3 * sizes.inner)
    logits = logit_bytes(sizes, needs, machine, batch)
    # Embeddings with the pictures' features, the mask of the image tokens, the last norm; the projector's own inputs.
    outside = tokens * sizes.hidden * (2 * each + FLOAT32 + 1)
    outside += batch.image_tokens * FLOAT32 * (sizes.encoded + 3 * sizes.hidden)
    if machine.checkpointing:  # a layer is computed again after the logits are released
        again = base + adapters + casts // adapted + passing
        return round(layers * tokens * sizes.hidden * each + outside + max(again, logits))
    return round(layers * base + adapted * adapters + casts + outside + max(passing, logits))


def layer_bytes(sizes: ModelSizes, needs: MemoryNeeds, machine: Machine, batch: MicroBatch) -> float:
    """What one decoder layer keeps of one token, without adapters."""
    each = BYTES[machine.computed]
    # Two norms keep their inputs in float32. Attention keeps queries, keys, values and its output; with a mask, keys
    # and values are repeated for each query head. The MLP keeps its gate, the activation of that, and the other factor.
    kept = 2 * FLOAT32 * sizes.hidden
    kept += each * (2 * sizes.query + 2 * (sizes.query if batch.padded else sizes.key) + 3 * sizes.inner)
    # The mask of the attention, once for each layer: a row of it for each token.
    kept += each * batch.width if batch.padded else 0
    if needs.trains_base:  # the norms' own weights are trained, so that they keep what these multiply
        kept += 2 * each * sizes.hidden
    return kept


def adapter_bytes(sizes: ModelSizes, needs: MemoryNeeds, machine: Machine) -> float:
    """What the adapters of one decoder layer, or its trained weights, keep of one token."""
    each, shapes = BYTES[machine.computed], needs.adapted or sizes.shapes
    linears = shapes.linears[: len(shapes.linears) // shapes.layers]
    # An adapter keeps A x for B. If A or the weight is trained, the inputs are kept as well: the outputs of both norms
    # and the input of the last projection (that of the attention's output is kept already).
    kept: float = each * needs.rank * len(linears)
    if needs.dropout:
        # Each layer drops other values of its input: the result, and the mask, which on a CPU has the input's type.
        kept += sum(d_in for d_in, _ in linears) * (each + (each if machine.device == "cpu" else 1))
    elif needs.keeps_inputs:
        kept += each * _kept_inputs(sizes, needs.adapted)
    return kept


def _kept_inputs(sizes: ModelSizes, adapted: DecoderShapes | None) -> int:
    """Values of the inputs of a decoder layer's adapted linear layers that nothing else keeps."""
    if adapted is None:
        return 2 * sizes.hidden + sizes.inner
    leaves = {name.rpartition(".")[2] for name in adapted.linears.names}
    norms = bool(leaves & {"q_proj", "k_proj", "v_proj"}) + bool(leaves & {"gate_proj", "up_proj"})
    return norms * sizes.hidden + ("down_proj" in leaves) * sizes.inner


def logit_bytes(sizes: ModelSizes, needs: MemoryNeeds, machine: Machine, batch: MicroBatch) -> float:
    """Logits of the supervised tokens: kept log-probabilities, their gradient, and that of the logits."""
    copies = 3 + needs.vocabulary_copies
    half = BYTES["bfloat16"] if machine.computed == "bfloat16" else 0
    return batch.supervised * (sizes.vocabulary * (copies * FLOAT32 + half) + sizes.hidden * BYTES[machine.computed])


def answering_bytes(sizes: ModelSizes, machine: Machine, asked: Asked) -> int:
    """Keys and values of all tokens, the logits of one position, and the first pass over the prompts."""
    each = BYTES[machine.computed] if machine.device != "cpu" else BYTES["float32"]
    cache = 2 * sizes.shapes.layers * sizes.key * each * asked.rows * (asked.width + asked.new)
    logits = 2 * FLOAT32 * asked.rows * sizes.vocabulary
    prompt = asked.rows * asked.width * each * (4 * sizes.hidden + 3 * sizes.inner + asked.width)
    return round(cache + logits + prompt)


def prompt_bytes(sizes: ModelSizes, machine: Machine, prompts: Sequence[int]) -> int:
    """One decoder layer's pass over a batch of prompts; of all of them positions and masks, on a CPU hidden states too.

    The batches are those of ``methods.components.covariance``: sorted by length, at most 8,192 tokens.
    """
    if not prompts:
        return 0
    each, ordered = BYTES["float32"] if machine.device == "cpu" else BYTES[machine.computed], sorted(prompts)
    rows = max(1, min(CALIBRATED_ROWS, CALIBRATED_TOKENS // ordered[-1]))
    parts = [ordered[at : at + rows] for at in range(0, len(ordered), rows)]
    padded = [len(part) * part[-1] for part in parts]
    hidden = each * sizes.hidden * sum(padded) if machine.device == "cpu" else 0
    # Cosine and sine of each position, and its row of the mask, are arguments of every layer.
    hidden += sum(len(part) * part[-1] * (2 * each * sizes.head + part[-1]) for part in parts)
    return hidden + max(padded) * each * (4 * sizes.hidden + 3 * sizes.inner)


def largest_micro_batch(
    steps: Sequence[Sequence[int]],
    lengths: Sequence[int],
    supervised: Sequence[int],
    image_tokens: Sequence[int],
    limit: int,
) -> MicroBatch:
    """The micro-batch with the most padded tokens.

    Args:
        steps: Rows of each optimiser step.
        lengths: Tokens of each row.
        supervised: Those with a loss.
        image_tokens: Those of pictures.
        limit: Rows of a micro-batch.
    """
    parts = ((step[at : at + limit], len(step)) for step in steps for at in range(0, len(step), limit))
    rows, whole = max(parts, key=lambda part: len(part[0]) * max(lengths[row] for row in part[0]))
    return MicroBatch(
        rows=len(rows),
        width=max(lengths[row] for row in rows),
        supervised=sum(supervised[row] for row in rows),
        image_tokens=sum(image_tokens[row] for row in rows),
        alone=len(rows) == whole,
        padded=len({lengths[row] for row in rows}) > 1,
    )
