"""The process that vLLM runs in: it answers what comes on its standard input, and ends when that is closed.

vLLM's core runs in this very process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``), so nothing outlives it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from benchmarks.errors import first_line
from harness.serving.messages import Message, read_message, write_message

GRACE = 10.0
"""Seconds to stop in once the input is closed."""
ADAPTER_ID = 1
"""A process serves one adapter, so its number is never used for another."""


def serve() -> None:
    """Load the model that the first message names, then answer each further message, until the input is closed."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    messages: SimpleQueue[Message | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    engine: Any = None
    try:
        while (message := messages.get()) is not None:
            try:
                if engine is None:
                    engine, reply = _Engine(message[0]), {}
                else:
                    reply = engine.generate(*message)
            except Exception as error:  # the other process decides what follows from it
                traceback.print_exc()
                broken = engine is not None and engine.is_broken
                reply = {"error": f"{type(error).__name__}: {first_line(error)}", "broken": broken}
            write_message(channel, reply)
    finally:
        if engine is not None:
            engine.shutdown()


def _listen(messages: SimpleQueue[Message | None]) -> None:
    while (message := read_message(sys.stdin.buffer)) is not None:
        messages.put(message)
    messages.put(None)
    threading.Timer(GRACE, os.killpg, (os.getpgrp(), signal.SIGKILL)).start()


class _Engine:
    """vLLM with one model and at most one adapter.

    Args:
        spec: ``options`` of ``vllm.LLM``, ``adapter`` (its folder, or empty) and ``stops`` (token ids).
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        self._llm: Any = LLM(**spec["options"])
        self._stops, folder = list(spec["stops"]), str(spec["adapter"])
        self._adapter = LoRARequest(Path(folder).name, ADAPTER_ID, folder) if folder else None

    def generate(self, request: Mapping[str, Any], pictures: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The continuation of each prompt: token ids, their log-probabilities, and whether a stop token ended it."""
        from vllm import SamplingParams

        if request["fresh"]:  # so that rounding depends on this request alone, and a resumed run repeats it
            self._llm.reset_prefix_cache()
        prompts = [self._prompt(prompt, pictures) for prompt in request["prompts"]]
        parameters = [
            SamplingParams(
                temperature=0.0,
                max_tokens=prompt["limit"],
                repetition_penalty=prompt["penalty"],
                stop_token_ids=self._stops,
                ignore_eos=True,
                detokenize=False,
                logprobs=0,
            )
            for prompt in request["prompts"]
        ]
        adapter = self._adapter if request["adapter"] else None
        outputs = self._llm.generate(prompts, parameters, use_tqdm=False, lora_request=adapter)
        return {"rows": [_row(output.outputs[0]) for output in outputs]}

    @property
    def is_broken(self) -> bool:
        """Whether an error has left requests behind: the next ones would never end. A refused prompt leaves none."""
        return bool(self._llm.llm_engine.has_unfinished_requests())

    def shutdown(self) -> None:
        """End what vLLM has started."""
        self._llm.llm_engine.engine_core.shutdown()

    def _prompt(self, prompt: Mapping[str, Any], pictures: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        names, grids = prompt["pictures"], prompt["grids"]
        if not names:
            return {"prompt_token_ids": prompt["ids"]}
        embeddings: Any = [pictures[name] for name in names]
        if grids:
            embeddings = {"image_embeds": torch.cat(embeddings), "image_grid_thw": torch.tensor(grids)}
        return {
            "prompt_token_ids": prompt["ids"],
            "multi_modal_data": {"image": embeddings},
            "multi_modal_uuids": {"image": names},
        }


def _row(output: Any) -> dict[str, Any]:
    ids = [int(token) for token in output.token_ids]
    chosen = [float(values[token].logprob) for token, values in zip(ids, output.logprobs, strict=True)]
    return {
        "ids": ids,
        "logprobs": chosen,
        "ended": output.finish_reason == "stop",
    }


if __name__ == "__main__":
    serve()
