"""An entailment model as judge of generated statements."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from methods.augmentation.hf_loading import opened

THRESHOLD = 0.5
"""Probability of entailment from which a statement counts as supported."""


class Entailment:
    """Asks whether the item's text entails a statement. Satisfies ``Judge``.

    Args:
        folder: A sequence classifier for natural language inference, in Hugging Face layout.

    Raises:
        UserError: The folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._model, self._tokenizer, _ = opened(folder, AutoModelForSequenceClassification, AutoTokenizer)
        labels = {str(name).casefold(): int(number) for number, name in self._model.config.id2label.items()}
        if "entailment" not in labels:
            raise UserError(
                f"none of its labels is called entailment: {', '.join(labels)}",
                location=str(folder / "config.json"),
                hint="give a model for natural language inference",
            )
        self._label, self._lock = labels["entailment"], threading.Lock()

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """Each statement on its own, with name and text as the premise."""
        import torch

        premises = [f"{item.name}. {item.text}"] * len(statements)
        with self._lock, torch.inference_mode():
            batch = self._tokenizer(
                premises, list(statements), return_tensors="pt", padding=True, truncation="only_first"
            )
            chances = self._model(**batch).logits.softmax(-1)[:, self._label]
        return [bool(chance >= THRESHOLD) for chance in chances]
