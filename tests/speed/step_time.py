"""Each method's training step against plain LoRA's, on the miniature, with its use of memory.

    python tests/speed/step_time.py [--methods lora,kore,...] [--steps N] [--repeats R]

All methods train on the same batches, the knowledge as published, with the preset's settings; in each repetition every
method runs the same steps in turn. In the first stage O-LoRA and SEFE equal LoRA, so the table is for the second of two
stages (``--first`` for the first). Memory is computed, not sampled, so that it is the same in every run:

- state: trained parameters, their gradient and AdamW's two moments, and the method's frozen parameters;
- saved: what the forward pass saves for the backward pass of one micro-batch, each storage once, without weights;
- prepared: the statistics from the method's ``prepare``.
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

from harness.training.injection_loss import InjectionLoss  # noqa: E402

TARGETS = {"kore": 1.1, "ewc": 1.1, "o-lora": 1.2, "sefe": 1.5, "lwf": 1.6, "moelora": 1.6}
MEGABYTE = 1 << 20


def state(made: AttachedMethod, base: int) -> int:
    """Bytes of the training state without the base."""
    trained = sum(p.nbytes for group in made.groups for p in group["params"])
    inside = sum(p.nbytes for p in made.model.module.parameters())
    return inside - base + 3 * trained


def saved(made: AttachedMethod) -> int:
    """Bytes that one forward pass saves for the backward pass."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in made.model.module.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # keeps it alive, so that no address is used twice
        return tensor

    held: list[torch.Tensor] = []
    batch = next(iter(made.source().micro_batches(0, made.training.micro_batch)))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = InjectionLoss(made.model, made.method)(batch)
    total = sum(storages.values())
    del loss
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(["lora", "full-ft", "replay", *TARGETS]))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--first", action="store_true", help="use the first injection stage instead of the second")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    made = {name: AttachedMethod(name, same_data=True, second=not args.first) for name in args.methods.split(",")}
    if "lora" not in made:
        raise SystemExit("--methods must name lora, which the others are compared with")
    runs = {}
    for name, each in made.items():
        source = FirstSteps(each.source(), args.steps)
        each.train(source)  # warm up
        runs[name] = lambda each=each, source=source: each.train(source)
    found = interleaved(runs, args.repeats)
    header(f"{args.steps} steps of {made['lora'].training.batch_size} conversations")
    print("    method   wall s    cpu s    wall     cpu  target  state MB   saved MB prepared MB")
    wall, cpu, _ = found["lora"]
    plain = made["lora"].model.module.parameters()
    base = sum(p.nbytes for p in plain if not p.requires_grad)
    for name, (its_wall, its_cpu, _) in found.items():
        prepared = sum(tensor.nbytes for tensor in made[name].prepared.values())
        target = f"{TARGETS[name]:.1f}x" if name in TARGETS else ""
        times = f"{its_wall:>8.2f} {its_cpu:>8.2f} {its_wall / wall:>6.2f}x {its_cpu / cpu:>6.2f}x"
        sizes = (part / MEGABYTE for part in (state(made[name], base), saved(made[name]), prepared))
        print(f"{name:>10} {times} {target:>7} " + " ".join(f"{size:>9.1f}" for size in sizes), flush=True)


if __name__ == "__main__":
    main()
