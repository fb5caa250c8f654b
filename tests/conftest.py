"""Fixtures for all rooms. pytest puts this folder on the import path: ``from tiny import conversation``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.models.llava import LlavaModel


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaVA in Hugging Face layout. Read only: copy it before changing anything."""
    from tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def tiny_model(tiny_folder: Path) -> LlavaModel:
    """A freshly loaded tiny LLaVA in float32 on the CPU."""
    import torch

    from harness.models.llava import LlavaModel

    return LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in Hugging Face layout. Read only."""
    from tiny_clip import write_clip

    return write_clip(tmp_path_factory.mktemp("tiny-clip"))
