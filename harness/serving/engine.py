"""vLLM in a process of its own, which is watched, and which ends with this one whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

import torch

from benchmarks.errors import UserError
from harness.models.batched_generation import GeneratorEnded
from harness.serving.messages import read_message, write_message

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # its core in the process itself, which then is all there is to end
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the threads of OMP_NUM_THREADS, wherever the system puts them
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
CPU_CACHE = {"VLLM_CPU_KVCACHE_SPACE": "2"}
"""GiB for keys and values on a CPU, unless the environment says otherwise."""
WORKER = ("-m", "harness.serving.worker")
"""What Python runs in the process."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What an adapter's rank is rounded up to."""
LOG_TAIL = 600
"""Characters from the end of the log that are searched for its last line."""
HINT = "run the command again: it continues; or leave out answering.engine=vllm"
PATIENCE = 30.0
"""Seconds that the process has to end in."""


@dataclass(frozen=True)
class Prompt:
    """What one question is to the engine.

    Attributes:
        ids: Token ids, with one token in the place of each picture.
        pictures: Names of its pictures' embeddings, by their content.
        grids: Patches in time, height and width of each picture, if the model's positions need them.
        limit: Most new tokens.
        penalty: Repetition penalty.
    """

    ids: Sequence[int]
    pictures: Sequence[str] = ()
    grids: Sequence[tuple[int, int, int]] = ()
    limit: int = 1
    penalty: float = 1.0


@dataclass(frozen=True)
class Completion:
    """The continuation of a prompt: token ids, the last of which stopped it if it ``ended``, and log-probabilities."""

    ids: list[int]
    logprobs: list[float]
    ended: bool


@dataclass(frozen=True)
class EngineSpec:
    """What an engine serves.

    Attributes:
        options: Of ``vllm.LLM``.
        stops: Token ids that end an answer.
        adapter: The folder of the adapter, as PEFT writes it; None for the base alone.
        environment: Variables of the process.
    """

    options: Mapping[str, Any]
    stops: Sequence[int]
    adapter: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class CannotServe(UserError):
    """vLLM refuses the model or the adapter."""


def served_rank(rank: int) -> int | None:
    """The smallest rank that vLLM has room for an adapter of this rank in; None if it is too large."""
    return next((size for size in RANKS if size >= rank), None)


class EngineFailed(GeneratorEnded):
    """vLLM has failed over its own computation."""


class ServedEngine:
    """One process with vLLM in it; use it in a ``with`` block.

    Args:
        spec: What it serves.
        log: The file for what vLLM prints.

    Raises:
        CannotServe: vLLM refuses to load what it is to serve.
        GeneratorEnded: The process ended over it.
    """

    def __init__(self, spec: EngineSpec, log: Path) -> None:
        self._log, self.has_adapter = log, spec.adapter is not None
        with log.open("w") as file:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
                [sys.executable, *WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**CPU_CACHE, **os.environ, **ENVIRONMENT, **spec.environment},
                start_new_session=True,  # Ctrl-C is for this process only, and the whole group can be ended
            )
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        adapter = str(spec.adapter) if spec.adapter else ""
        try:
            reply = self._call({"options": dict(spec.options), "stops": list(spec.stops), "adapter": adapter})
        except BaseException:
            self.close()
            raise
        if "error" in reply:
            self.close()
            raise CannotServe(
                f"vLLM cannot load it ({reply['error']})", location=str(log), hint="use the built-in engine"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def generate(
        self,
        prompts: Sequence[Prompt],
        pictures: Mapping[str, torch.Tensor],
        *,
        adapter: bool = True,
        fresh: bool = True,
    ) -> list[Completion]:
        """Continue prompts, greedy.

        Args:
            prompts: All are answered at once.
            pictures: Embeddings (tokens, hidden) by name; each must name its content.
            adapter: Whether the adapter, if there is one, takes part.
            fresh: Forget the keys and values of earlier prompts.

        Raises:
            RuntimeError: vLLM refuses one of them.
            EngineFailed: vLLM fails.
            GeneratorEnded: The process has ended.
        """
        request = {"prompts": [vars(prompt) for prompt in prompts], "adapter": adapter, "fresh": fresh}
        reply = self._call(request, pictures)
        if reply.get("broken"):
            raise EngineFailed(f"vLLM has failed ({reply['error']})", location=str(self._log), hint=HINT)
        if "error" in reply:
            raise RuntimeError(f"vLLM: {reply['error']}")
        return [Completion(row["ids"], row["logprobs"], row["ended"]) for row in reply["rows"]]

    def close(self) -> None:
        """End the process and all that it has started."""
        for stream in filter(None, (self._process.stdin, self._process.stdout)):
            with suppress(OSError):  # what was not sent is needed by nobody
                stream.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._watcher.join()

    def _watch(self) -> None:
        """Once the process has ended, end what it has started: that could keep its output open, and us waiting."""
        self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _call(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None) -> dict[str, Any]:
        try:
            write_message(cast("IO[bytes]", self._process.stdin), values, tensors)
            reply = read_message(cast("IO[bytes]", self._process.stdout))
        except OSError:
            reply = None
        if reply is None:
            raise GeneratorEnded(
                f"the process that vLLM runs in has ended ({self._end()})",
                location=str(self._log),
                hint=HINT,
            )
        return reply[0]

    def _end(self) -> str:
        """How the process ended, and the last line that it wrote."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        lines = self._log.read_text("utf-8", "replace")[-LOG_TAIL:].split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ": ".join(filter(None, (f"signal {-code}" if code < 0 else f"status {code}", last)))
