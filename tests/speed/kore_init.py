"""KORE's calibration and initialisation against the literal recipe, side by side in one process.

    python tests/speed/kore_init.py [--full]

The literal recipe is the paper's: one prompt at a time, one covariance for each linear layer, a full singular value
decomposition of C, and another of W0 P. Prints the medians of interleaved repetitions, their ratio, and each basis'
leaked energy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

from side_by_side import header, interleaved  # noqa: E402

from harness.models.llava import LlavaModel  # noqa: E402
from helpers.tiny import conversations, write_tiny_model  # noqa: E402
from methods.components.covariance import covariances  # noqa: E402
from methods.components.kore_init import initial_factors  # noqa: E402
from methods.components.lora_layers import target_layers  # noqa: E402


def literal(model, prompts, rank):
    """A and the leaked energy of each layer by the paper's equations, in float32 as in its code."""
    layers = target_layers(model)
    device = model.device
    sums = {n: torch.zeros(layer.in_features, layer.in_features, device=device) for n, layer in layers.items()}
    tokens = 0

    def hook(name):
        def add(_, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1])
            sums[name] += x.T @ x

        return add

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    with torch.no_grad():
        for prompt in prompts:
            batch = model.prompt_batch([prompt])
            tokens += int(batch["attention_mask"].sum())
            model.module(**batch)
    for handle in handles:
        handle.remove()
    found = {}
    for name, layer in layers.items():
        covariance = sums[name] / tokens
        null = torch.linalg.svd(covariance)[0][:, -rank:]
        projected = layer.weight.detach() @ (null @ null.T)
        _, s, vt = torch.linalg.svd(projected, full_matrices=False)
        exact, basis = covariance.double(), null.double()
        share = float((basis * (exact @ basis)).sum() / exact.trace())
        found[name] = (s[:rank].sqrt()[:, None] * vt[:rank], share)
    return found


def ours(model, prompts, rank):
    """The same with this package."""
    made = initial_factors(model, covariances(model, prompts), rank)
    return {name: (made[f"{name}.A"], float(made[f"{name}.leaked"])) for name in target_layers(model)}


def compare(width, inner, layers, rank, samples, repeats):
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_tiny_model(Path(folder), hidden_size=width, intermediate_size=inner, num_hidden_layers=layers)
        model = LlavaModel.load(path, torch.device("cpu"), torch.float32)
    prompts = [c for c in conversations(4 * samples) if len(c.pictures) == 1][:samples]
    sides = {"literal": lambda: literal(model, prompts, rank), "ours": lambda: ours(model, prompts, rank)}
    found = interleaved(sides, repeats)
    (before, cpu_before, reference), (after, cpu_after, made) = found["literal"], found["ours"]
    leaks = [sum(share for _, share in each.values()) / len(each) for each in (reference, made)]
    print(
        f"{width:>6} {inner:>6} {layers:>6} {rank:>5} {samples:>8} {before:>10.2f} {after:>8.2f} "
        f"{before / after:>6.1f}x {cpu_before / cpu_after:>6.1f}x "
        f"{leaks[0]:>12.4e} {leaks[1]:>12.4e} {leaks[1] / leaks[0] - 1:>+9.2%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also widths closer to real models (minutes)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    header("KORE's start by the literal recipe and by ours")
    print(" width  inner layers  rank  samples  literal s   ours s   wall     cpu leak literal    leak ours   differs")
    compare(256, 704, 4, 32, 256, args.repeats)  # the miniature's decoder
    compare(1024, 2752, 1, 58, 64, args.repeats)  # a quarter of LLaVA-1.5-7B's widths
    if args.full:
        compare(2048, 5504, 1, 118, 64, 1)


if __name__ == "__main__":
    main()
