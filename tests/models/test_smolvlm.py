"""SmolVLM trains where its embeddings are in float32 beside a tower in half precision, as Full-FT has them."""

from __future__ import annotations

import pytest
import torch

from harness.models.processor_model import ProcessorModel
from harness.models.registry import load_model
from helpers.missing_libraries import replace_missing_libraries
from helpers.tiny import conversations
from helpers.tiny_architectures import write


def test_trained_embeddings_are_read_in_the_type_of_the_tower(tmp_path):
    replace_missing_libraries()
    model = load_model(write("smolvlm2", tmp_path), torch.device("cpu"), torch.bfloat16)
    batch = model.training_batch(conversations(2))
    before = model.supervised(batch)[0]
    model.inner.get_input_embeddings().float()
    with torch.autocast("cpu", torch.bfloat16):
        logits, targets = model.supervised(batch)
        with pytest.raises(RuntimeError, match="masked_scatter"):  # control
            ProcessorModel.supervised(model, batch)
    assert len(logits) == len(targets)
    torch.testing.assert_close(logits, before, rtol=0.05, atol=0.05)
