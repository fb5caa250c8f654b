"""Our batched generation against vLLM, on the twelve mini benchmarks, in an environment that has vLLM.

    python tests/speed/vllm_answering.py [--rows N] [--repeats R] [--batch-size B] [--compile]

Both get the same questions of the untouched base from the same process. vLLM gets token ids, and embeddings of pictures
that our code computes, as with ``answering.engine=vllm``. What starting either takes, and compiling, is not measured;
pictures are encoded in each repetition. The number of threads is that of ``OMP_NUM_THREADS``.

Prints for each benchmark medians of interleaved repetitions and the share of equal answers. Only wall time is compared,
because vLLM computes in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from side_by_side import header, interleaved, with_empty_caches  # noqa: E402

from benchmarks.registry import get_benchmark  # noqa: E402
from benchmarks.retention import questions_batch  # noqa: E402
from benchmarks.retention_specs import MINI_PREFIX, SPECS  # noqa: E402
from harness.config.settings import resolve  # noqa: E402
from harness.models.batched_generation import answer  # noqa: E402
from harness.models.llava import LlavaModel  # noqa: E402
from harness.serving.engine import ServedEngine  # noqa: E402
from harness.serving.generator import VllmGenerator  # noqa: E402
from harness.serving.spec import engine_spec  # noqa: E402


def longest_prompt(model, questions):
    """Tokens of the longest dialogue with all its answers."""
    return max(
        model.prompt_length(each.open_dialogue, each.pictures) + len(each.turns) * each.max_new_tokens
        for each in questions
    )


def ask(model, questions, batch_size, engine=None):
    """The answers by id, of an engine or of ours, with empty caches of texts and pictures."""
    fresh = with_empty_caches(model)
    generator = None if engine is None else VllmGenerator(fresh, engine)
    batches = answer(fresh, questions, batch_size=batch_size, generator=generator)
    found = [one for batch in batches for one in batch]
    assert not any(one.error for one in found)
    return {one.question_id: one.texts for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only so many questions of each benchmark (whole clusters)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32, help="questions at once, for both")
    parser.add_argument("--compile", action="store_true", help="let vLLM compile the model")
    args = parser.parse_args()
    folder = resolve("mini").settings.model
    model = LlavaModel.load(folder, torch.device("cpu"), torch.float32)
    with tempfile.TemporaryDirectory() as scratch:
        opened = [get_benchmark(MINI_PREFIX + spec.name).open(Path(scratch)) for spec in SPECS]
        questions_batch(opened)
        asked = {each.name: each.questions(args.rows) for each in opened}
        longest = longest_prompt(model, [question for each in asked.values() for question in each])
        spec = engine_spec(model, folder, args.batch_size, longest, {}, Path(scratch))
        spec = dataclasses.replace(spec, options={**spec.options, "enforce_eager": not args.compile})
        with ServedEngine(spec, Path(scratch) / "vllm.log") as engine:
            compare(model, asked, engine, args)


def compare(model, asked, engine, args):
    header("vLLM against the answering engine")
    print(f"{'benchmark':>22} {'rows':>5} {'vLLM s':>8} {'ours s':>8} {'ratio':>7} {'equal':>8}")
    total = [0.0, 0.0]
    for name, questions in asked.items():
        ask(model, questions[:2], args.batch_size, engine)
        sides = {
            "vllm": lambda questions=questions: ask(model, questions, args.batch_size, engine),
            "ours": lambda questions=questions: ask(model, questions, args.batch_size),
        }
        found = interleaved(sides, args.repeats)
        (theirs, _, said), (ours, _, own) = found["vllm"], found["ours"]
        equal = sum(said[key] == text for key, text in own.items()) / len(own)
        print(f"{name:>22} {len(own):>5} {theirs:>8.2f} {ours:>8.2f} {theirs / ours:>6.2f}x {equal:>8.2%}", flush=True)
        total = [total[0] + theirs, total[1] + ours]
    rows = sum(map(len, asked.values()))
    print(f"{'all':>22} {rows:>5} {total[0]:>8.2f} {total[1]:>8.2f} {total[0] / total[1]:>6.2f}x")
    print(f"questions a second: vLLM {rows / total[0]:.0f}, ours {rows / total[1]:.0f}")


if __name__ == "__main__":
    main()
