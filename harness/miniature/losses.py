"""The objectives of the pre-training's stages 1 to 3."""

from __future__ import annotations

import torch
from torch.nn import functional

from harness.miniature.base import MiniArchitecture
from harness.miniature.batches import InstructionEncoder
from harness.models.base import Batch
from harness.training.loop import StepLoss

ALIGNMENT_WEIGHT = 0.3
TEMPERATURE = 0.07
TEACHER_WEIGHT = 2.0


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


def layer_states(architecture: MiniArchitecture, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The decoder's states after each layer, (rows, tokens, hidden) each, the last one normed; and image features.

    Args:
        architecture: The miniature.
        batch: As from ``collate``.

    Returns:
        The states, and the features as from ``image_features``, or None for a batch without pictures.
    """
    model = architecture.model
    embeddings = model.get_input_embeddings()(batch["input_ids"])
    features = None
    if "pixel_values" in batch:
        features = architecture.image_features(batch["pixel_values"])
        is_image = (batch["input_ids"] == model.config.image_token_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(is_image, features.to(embeddings.dtype))
    output = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=batch["attention_mask"],
        position_ids=architecture.position_ids(batch),
        use_cache=False,
        output_hidden_states=True,
    )
    return [*output.hidden_states[1:-1], output.last_hidden_state], features


def token_loss(architecture: MiniArchitecture, last: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum of the supervised tokens' losses, each by its weight; ``last`` is the last of ``layer_states``."""
    weights = batch["weights"][:, 1:]
    supervised = weights > 0
    logits = architecture.model.lm_head(last[:, :-1][supervised]).float()
    losses = functional.cross_entropy(logits, batch["input_ids"][:, 1:][supervised], reduction="none")
    return (losses * weights[supervised]).sum()


class AnswerLoss:
    """The loss of the answers alone."""

    def __init__(self, architecture: MiniArchitecture) -> None:
        self._architecture = architecture

    def __call__(self, batch: Batch) -> StepLoss:
        """Weighted token loss."""
        states, _ = layer_states(self._architecture, batch)
        return StepLoss(token_loss(self._architecture, states[-1], batch), float(batch["weights"][:, 1:].sum()))


class InstructionLoss:
    """Stages 2 and 3: the loss of the answers, and the alignment loss."""

    def __init__(self, architecture: MiniArchitecture, words: LabelEmbeddings) -> None:
        self._architecture, self._words = architecture, words

    def __call__(self, batch: Batch) -> StepLoss:
        """Weighted token loss plus ``ALIGNMENT_WEIGHT`` times the alignment loss."""
        states, features = layer_states(self._architecture, batch)
        penalty = None
        if features is not None:
            words = self._words(self._architecture.model.get_input_embeddings())
            penalty = ALIGNMENT_WEIGHT * alignment_loss(features, batch["patches"], words)
        return StepLoss(
            token_loss(self._architecture, states[-1], batch), float(batch["weights"][:, 1:].sum()), penalty
        )
