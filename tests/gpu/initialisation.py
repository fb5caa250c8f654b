"""KORE's calibration and initialisation against the literal recipe, at full shape with random weights.

    python tests/gpu/initialisation.py [--layers 2] [--samples 256] [--sides literal,ours] [--calibration]

The literal recipe is that of the released code: the model in float32, one prompt at a time, a covariance for each
linear layer in memory until the last prompt, a full singular value decomposition of C and one of W0 P. For all layers
this takes hours, so compare a few (``--layers 2``: each layer costs the same) and measure ours for all (``--sides
ours``). ``--calibration`` stops after our covariances. Peak memory does not include the model.
"""

from __future__ import annotations

import time

from full_shape import build, measure, parser, resolve_options, samples, table, with_empty_caches
from kore_init import literal

from methods.components.covariance import covariances
from methods.components.kore_init import initial_factors
from methods.components.lora_layers import target_layers


def ours(model, prompts, rank):
    """Leaked energy of each layer."""
    made = initial_factors(model, covariances(model, prompts), rank, with_b=False)
    return [float(made[f"{name}.leaked"]) for name in target_layers(model)]


def theirs(model, prompts, rank):
    return [share for _, share in literal(model, prompts, rank).values()]


def calibrated(model, prompts, _rank):
    """The covariances only, each released before the next."""
    for part in covariances(model, prompts):
        assert part.covariance.isfinite().all()
        del part
    return []


def measured(name, run, model, prompts, args):
    """One row."""
    with measure(args.device) as usage:
        leaks = run(model, prompts, args.ranks["kore"])
    return {
        "side": name,
        "weights": str(model.module.dtype).removeprefix("torch."),
        "decoder layers": str(model.module.config.text_config.num_hidden_layers),
        "samples": str(len(prompts)),
        "seconds": f"{usage.seconds:.2f}",
        "peak GB beyond the model": f"{usage.peak:.2f}",
        "leaked energy, mean": f"{sum(leaks) / len(leaks):.4e}" if leaks else "",
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int)
    options.add_argument("--sides", default="ours,literal")
    options.add_argument("--calibration", action="store_true", help="stop after the covariances")
    args = resolve_options(options.parse_args())
    started = time.perf_counter()
    model = build(args)
    prompts = samples(args.samples or (8 if args.shape == "tiny" else 256), args)
    lengths = model.prompt_batch(prompts[:32])["attention_mask"].sum(-1).float()
    print(
        f"model made in {time.perf_counter() - started:.0f} s; {float(lengths.mean()):.0f} tokens a prompt", flush=True
    )
    runs = {"ours": calibrated if args.calibration else ours, "literal": theirs}
    rows = []
    for side in args.sides.split(","):
        if side == "literal":
            model = with_empty_caches(model, model.module.float())
        rows.append(measured(side, runs[side], model, prompts, args))
        if args.calibration:
            break
    seconds = {row["side"]: float(row["seconds"]) for row in rows}
    for row in rows:
        row["literal / this"] = f"{seconds['literal'] / float(row['seconds']):.1f}x" if "literal" in seconds else ""
    table("Calibration and initialisation", args, rows)


if __name__ == "__main__":
    main()
