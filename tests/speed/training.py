"""Training on the miniature: samples per second with a frozen tower that looks every time, and with one that remembers.

    python tests/speed/training.py [--methods lora,kore] [--steps N] [--threads 1,2] [--bfloat16]

The same first steps of one training, interleaved: with a tower that looks at each picture in each epoch, in the first
epoch of one that remembers, and in a later one; then what six epochs come to. With ``--bfloat16`` the later epoch once
more under autocast, which not every processor has; the preset stays at float32, whose bits are the same everywhere.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from injected import Few, Injected  # noqa: E402
from side_by_side import header, interleaved  # noqa: E402


def sides(made: Injected, steps: int, half: bool):
    """What is timed, by name; "first" leaves behind what "later" remembers."""
    warm = made.source()

    def every_time():
        source = made.source()
        source._memory = None
        return made.train(Few(source, steps))

    def first():
        nonlocal warm
        warm = made.source()
        return made.train(Few(warm, steps))

    runs = {"every time": every_time, "first": first, "later": lambda: made.train(Few(warm, steps))}
    return runs | ({"bfloat16": lambda: made.train(Few(warm, steps), "bfloat16")} if half else {})


def report(name: str, threads: int, steps: int, repeats: int, half: bool) -> None:
    torch.set_num_threads(threads)
    made = Injected(name)
    runs = sides(made, steps, half)
    for run in runs.values():  # warm up: texts are encoded, kernels chosen
        run()
    found = interleaved(runs, repeats)
    rows = min(len(made.conversations), steps * made.training.batch_size)
    for place, unit in enumerate(("wall", "cpu")):
        before, first, later = (found[key][place] for key in ("every time", "first", "later"))
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
    asked = parser.parse_args()
    header("samples per second")
    print("    method threads samples  time  every time first epoch       later  six epochs    gain bfloat16")
    for threads in map(int, asked.threads.split(",")):
        for name in asked.methods.split(","):
            report(name, threads, asked.steps, asked.repeats, asked.bfloat16)


if __name__ == "__main__":
    main()
