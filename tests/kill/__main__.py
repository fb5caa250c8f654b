"""A campaign of kills: whatever stops a command, started again it must leave what an undisturbed one leaves.

    python -m tests.kill [--kills 1000] [--hours H] [--seed 0] [--only compare,augment] [--miniature] [--folder FOLDER]

Scenarios take turns: comparisons in stages, with workers and under ``accelerate launch``, augmentation, export and
pre-training. Each is started, disturbed by SIGKILL, SIGTERM, a full disk or a torn write in turn, and started again, at
most six times in a round; then it runs to its end, and every file is compared with that of an undisturbed command. Half
of the signals come at a random time, the rest and the other faults at a change on the disk: any, or one of a kind that
is delicate, such as between content and manifest, or while the state of a training is exchanged.

A seed gives the same moments again, as far as they do not depend on time. Ctrl-C ends it early, with the table of what
was done. Exits with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))  # for helpers
os.environ["OMP_NUM_THREADS"] = "1"

from tests.kill.campaign import KINDS, Campaign  # noqa: E402
from tests.kill.processes import prepare_forks  # noqa: E402
from tests.kill.scenarios import list_scenarios  # noqa: E402


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300, help="after so many it ends")
    parser.add_argument("--hours", type=float, default=float("inf"), help="or after so many hours")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    parser.add_argument("--only", help="names of scenarios, by comma")
    parser.add_argument("--kinds", default=",".join(KINDS), help="faults, by comma; 'unnoticed' is a control")
    parser.add_argument("--miniature", action="store_true", help="compare the miniature, not a random model")
    parser.add_argument("--folder", type=Path, help="for what the commands write; a temporary one if left out")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> Campaign:
    """The whole campaign, or up to Ctrl-C."""
    prepare_forks()
    only = options.only.split(",") if options.only else None
    scenarios = list_scenarios(folder, only, miniature=options.miniature)
    turn = [scenario for scenario in scenarios for _ in range(scenario.share)]
    draw, end = random.Random(options.seed), time.monotonic() + 3600 * options.hours
    campaign = Campaign(folder, draw, options.kinds.split(","), lambda line: print(line, flush=True))
    with contextlib.suppress(KeyboardInterrupt):
        while campaign.kills < options.kills and time.monotonic() < end:
            for scenario in draw.sample(turn, len(turn)):
                if campaign.kills < options.kills and time.monotonic() < end:
                    campaign.run_round(scenario, options.kills - campaign.kills)
    return campaign


def show(campaign: Campaign) -> None:
    """Print the table, then everything that was found."""
    kinds = list(dict.fromkeys(kind for counts in campaign.counts.values() for kind in counts.kills))
    head = ["scenario", "rounds", *kinds, "kills", "resumes", "damaged entries found", "wrong ends", "differences"]
    print("", f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}", sep="\n")
    for name, counts in sorted(campaign.counts.items()):
        numbers = [counts.rounds, *(counts.kills[kind] for kind in kinds), counts.kills.total(), counts.resumes]
        numbers += [counts.damaged, len(counts.findings), len(counts.different)]
        print(f"| {name} | {' | '.join(map(str, numbers))} |")
    all_counts = campaign.counts.values()
    found = [
        f"{name}, {each}" for name, counts in campaign.counts.items() for each in counts.findings + counts.different
    ]
    resumes, damaged = sum(counts.resumes for counts in all_counts), sum(counts.damaged for counts in all_counts)
    print(f"\nkills: {campaign.kills}, resumes: {resumes}, damaged entries found: {damaged}, ", end="")
    print(f"differences: {len(found) or 'none'}", *found, sep="\n  ")


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        campaign = run(options, options.folder or Path(scratch))
    show(campaign)
    sys.exit(not campaign.is_clean)


if __name__ == "__main__":
    main()
