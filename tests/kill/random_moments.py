"""Kill ``compare`` again and again at random moments; the tables must be byte for byte those of an undisturbed run.

    python tests/kill/random_moments.py [--kills 20] [--seed 0] [--out FOLDER] [--whole RUN] [-- options of compare]

    python tests/kill/random_moments.py --out /tmp/kills -- --methods kore,lora,replay
    python tests/kill/random_moments.py --kills 5 -- --methods lora --limit 24

First comes an undisturbed run (or name one that was made with the same options with ``--whole``), then another that is
started and killed again and again: half of the times with all its child processes, as when the machine goes down, and
half of the times alone. The kills are spread over the length of the undisturbed run; once the run is complete, the
remaining ones hit its repetition, which reads the store and writes the report. A last start runs to the end. Exits with
1 when a table differs or a half-written file is left.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ["--methods", "kore,lora,replay"]


def compare(out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    """Start a run; its output goes to a file beside its folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "compare", *options, "--out", str(out)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )


def run_to_end(out: Path, options: list[str]) -> float:
    """Run without a kill; returns its seconds."""
    started = time.monotonic()
    code = compare(out, options).wait()
    if code:
        raise SystemExit(f"compare ended with {code}; see {out.with_suffix('.log')}")
    return time.monotonic() - started


def run_and_kill(out: Path, options: list[str], seconds: float, *, children: bool) -> float | None:
    """Kill a run after so many seconds; returns how long it ran, or None if it ended before."""
    started = time.monotonic()
    process = compare(out, options)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        if children:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return time.monotonic() - started
    if code:
        raise SystemExit(f"compare ended with {code}; see {out.with_suffix('.log')}")
    return None


def tables(run: Path) -> dict[str, bytes]:
    """All tables of a run by name."""
    return {path.name: path.read_bytes() for path in sorted((run / "report" / "tables").iterdir())}


def progress(run: Path) -> int:
    """Number of complete files in the store."""
    return sum(1 for path in (run / "store").rglob("*") if path.is_file() and path.suffix != ".part")


def kill_often(out: Path, options: list[str], kills: int, whole: float, draw: random.Random) -> None:
    """Start and kill the run until there are ``kills`` kills. Each start takes a few seconds."""
    count, complete = 0, False
    start_up = min(8.0, 0.2 * whole)
    while count < kills:
        longest = whole if complete else start_up + 2 * whole / (kills + 1)
        seconds, children = draw.uniform(0.3, longest), draw.random() < 0.5
        started = time.monotonic()
        ran = run_and_kill(out, options, seconds, children=children)
        if ran is None:
            complete, whole = True, time.monotonic() - started  # from now on a run takes so long
            print(f"        one of {whole:.1f} s ran to the end", flush=True)
            continue
        count += 1
        how = "with its children" if children else "alone"
        print(f"kill {count:>2} after {ran:>6.1f} s, {how:<17}; {progress(out)} files in the store", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a folder for both runs; a temporary one if left out")
    parser.add_argument("--whole", type=Path, help="an undisturbed run with the same options")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="after --: options of compare")
    arguments = parser.parse_args()
    options = [option for option in arguments.options if option != "--"] or DEMO
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        whole, killed = arguments.whole or folder / "whole", folder / "killed"
        if killed.exists():
            raise SystemExit(f"{killed} is there already: delete it, or give another --out")
        took = float("nan")
        if not arguments.whole:
            took = run_to_end(whole, options)
            print(f"the undisturbed run took {took:.1f} s", flush=True)
        started = time.monotonic()
        kill_often(killed, options, arguments.kills, took if took == took else 300.0, random.Random(arguments.seed))
        last = run_to_end(killed, options)
        print(f"the last run took {last:.1f} s; all of them together {time.monotonic() - started:.1f} s")
        expected, actual = tables(whole), tables(killed)
        different = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
        left = sorted(str(path) for path in killed.rglob("*.part"))
        print(f"{len(expected)} tables, {len(different)} differ; {len(left)} half-written files left")
        for name in [*different, *left]:
            print(f"    {name}")
    sys.exit(bool(different or left or not expected))


if __name__ == "__main__":
    main()
