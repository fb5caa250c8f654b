"""What vLLM should do, by plain Hugging Face and PEFT code, one token after the other: an oracle and a stand-in."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from harness.serving.engine import Completion


class PlainEngine:
    """Takes and gives what ``ServedEngine`` does, for models whose positions are the tokens' indices."""

    def __init__(self, spec, log: Path) -> None:
        self.spec, self.has_adapter, self.names = spec, spec.adapter is not None, []
        self.model = AutoModelForImageTextToText.from_pretrained(spec.options["model"], dtype=torch.float32).eval()
        self.image = self.model.config.image_token_id
        self.peft = PeftModel.from_pretrained(self.model, spec.adapter).eval() if spec.adapter else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def generate(self, prompts, pictures, *, adapter=True, fresh=True):
        off = nullcontext() if adapter or self.peft is None else self.peft.disable_adapter()
        self.names += [list(prompt.pictures) for prompt in prompts]
        with off, torch.inference_mode():
            return [self._continue(prompt, pictures) for prompt in prompts]

    def _continue(self, prompt, pictures) -> Completion:
        embed, shown = self.model.get_input_embeddings(), iter(prompt.pictures)
        parts = [pictures[next(shown)] if token == self.image else embed(torch.tensor([token])) for token in prompt.ids]
        ids, logprobs = [], []
        while len(ids) < prompt.limit:
            inputs = torch.cat([*parts, *(embed(torch.tensor([token])) for token in ids)])[None]
            hidden = self.model.model.language_model(inputs_embeds=inputs).last_hidden_state
            logits = self.model.lm_head(hidden[0, -1])
            ids.append(int(logits.argmax()))
            logprobs.append(float(logits.log_softmax(-1)[ids[-1]]))
            if ids[-1] in self.spec.stops:
                return Completion(ids, logprobs, ended=True)
        return Completion(ids, logprobs, ended=False)
