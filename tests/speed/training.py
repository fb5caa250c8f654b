"""Training on the miniature: samples per second with and without a cache of the frozen tower's outputs.

    python tests/speed/training.py [--methods lora,kore] [--steps N] [--threads 1,2] [--bfloat16]

The same first steps of one training, interleaved: without a cache, in the first epoch with a cache, and in a later one;
then the mean over six epochs. With ``--bfloat16`` also the later epoch under autocast, which not every processor
supports; the preset uses float32, whose bits are the same everywhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from injected import AttachedMethod, FirstSteps  # noqa: E402
from side_by_side import header, interleaved  # noqa: E402


def sides(made: AttachedMethod, steps: int, half: bool):
    """The runs to measure, by name; "first" fills the cache that "later" uses."""
    warm = made.source()

    def uncached():
        source = made.source()
        source._vision_cache = None
        return made.train(FirstSteps(source, steps))

    def first():
        nonlocal warm
        warm = made.source()
        return made.train(FirstSteps(warm, steps))

    runs = {"uncached": uncached, "first": first, "later": lambda: made.train(FirstSteps(warm, steps))}
    return runs | ({"bfloat16": lambda: made.train(FirstSteps(warm, steps), "bfloat16")} if half else {})


def report(name: str, threads: int, steps: int, repeats: int, half: bool) -> None:
    torch.set_num_threads(threads)
    made = AttachedMethod(name)
    runs = sides(made, steps, half)
    for run in runs.values():  # warm-up: encodes texts, chooses kernels
        run()
    found = interleaved(runs, repeats)
    rows = min(len(made.conversations), steps * made.training.batch_size)
    for place, unit in enumerate(("wall", "cpu")):
        before, first, later = (found[key][place] for key in ("uncached", "first", "later"))
        six = (first + 5 * later) / 6
        speeds = " ".join(f"{rows / seconds:>11.1f}" for seconds in (before, first, later, six))
        more = f"{rows / found['bfloat16'][place]:>9.1f}" if half else ""
        print(f"{name:>10} {threads:>7} {len(made.conversations):>7} {unit:>5} {speeds} {before / six:>6.2f}x {more}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,kore")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--bfloat16", action="store_true")
    args = parser.parse_args()
    header("samples per second")
    print("    method threads samples  time    uncached first epoch       later  six epochs    gain bfloat16")
    for threads in map(int, args.threads.split(",")):
        for name in args.methods.split(","):
            report(name, threads, args.steps, args.repeats, args.bfloat16)


if __name__ == "__main__":
    main()
