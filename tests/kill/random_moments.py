"""Kill ``compare`` again and again at random moments; the tables must come out byte for byte as if nothing had been.

    python tests/kill/random_moments.py [--kills 20] [--seed 0] [--out FOLDER] [--whole RUN] [-- options of compare]

    python tests/kill/random_moments.py --out /tmp/kills -- --methods kore,lora,replay
    python tests/kill/random_moments.py --kills 5 -- --methods lora --limit 24

First comes an undisturbed run (or name one that was made by the same options with ``--whole``), then as many lives of
another as there are kills, each ended by SIGKILL: half of them with all their child processes, as when the machine goes
down, half of them alone. The lives are spread over the length of the undisturbed run; once the run is complete, the
remaining kills hit the repetition, which reads the store and writes the report. Then one more life runs to its end.
Exits with 1 when a table differs or a half-written file is left.
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
    """Start a run; what it says goes to a file beside its folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "compare", *options, "--out", str(out)],
            stdout=said,
            stderr=said,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )


def to_the_end(out: Path, options: list[str]) -> float:
    """Seconds of a run that nobody kills."""
    started = time.monotonic()
    code = compare(out, options).wait()
    if code:
        raise SystemExit(f"compare ended with {code}; see {out.with_suffix('.log')}")
    return time.monotonic() - started


def life(out: Path, options: list[str], seconds: float, *, all_of_it: bool) -> float | None:
    """Let a run live for so long; returns how long it lived if it was killed, None if it ended before."""
    started = time.monotonic()
    process = compare(out, options)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        if all_of_it:
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
    """Files in the store that are whole."""
    return sum(1 for path in (run / "store").rglob("*") if path.is_file() and path.suffix != ".part")


def kill_often(out: Path, options: list[str], kills: int, whole: float, draw: random.Random) -> None:
    """As many lives as there are kills. Each life first has to start, which takes a few seconds."""
    lost, complete = 0, False
    start_up = min(8.0, 0.2 * whole)
    while lost < kills:
        longest = whole if complete else start_up + 2 * whole / (kills + 1)
        seconds, all_of_it = draw.uniform(0.3, longest), draw.random() < 0.5
        started = time.monotonic()
        lived = life(out, options, seconds, all_of_it=all_of_it)
        if lived is None:
            complete, whole = True, time.monotonic() - started  # from now on a life takes so long
            print(f"        a life of {whole:.1f} s came to the end of the run", flush=True)
            continue
        lost += 1
        how = "with its children" if all_of_it else "alone"
        print(f"kill {lost:>2} after {lived:>6.1f} s, {how:<17}; {progress(out)} files in the store", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a folder for both runs; a temporary one if left out")
    parser.add_argument("--whole", type=Path, help="an undisturbed run by the same options")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="after --: options of compare")
    asked = parser.parse_args()
    options = [option for option in asked.options if option != "--"] or DEMO
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.out or Path(scratch)
        whole, killed = asked.whole or folder / "whole", folder / "killed"
        if killed.exists():
            raise SystemExit(f"{killed} is there already: delete it, or give another --out")
        took = float("nan")
        if not asked.whole:
            took = to_the_end(whole, options)
            print(f"the undisturbed run took {took:.1f} s", flush=True)
        started = time.monotonic()
        kill_often(killed, options, asked.kills, took if took == took else 300.0, random.Random(asked.seed))
        last = to_the_end(killed, options)
        print(f"the last life took {last:.1f} s; all lives together {time.monotonic() - started:.1f} s")
        wanted, found = tables(whole), tables(killed)
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        left = sorted(str(path) for path in killed.rglob("*.part"))
        print(f"{len(wanted)} tables, {len(different)} differ; {len(left)} half-written files left")
        for name in [*different, *left]:
            print(f"    {name}")
    sys.exit(bool(different or left or not wanted))


if __name__ == "__main__":
    main()
