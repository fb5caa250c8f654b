"""KORE's calibration and initialisation against the literal recipe, at full shape with random weights.

    python tests/gpu/initialisation.py [--layers 2] [--samples 256] [--sides literal,ours] [--calibration]

The literal recipe is the released code's: the model in float32, one prompt at a time, a covariance for each linear
layer kept until all prompts are through, a full singular value decomposition of C and one of W0 P. At all layers that
takes hours, so compare at a few (``--layers 2``: each layer costs the same) and measure ours at all (``--sides ours``).
``--calibration`` stops at our covariances. Peak memory is what is taken beyond the model.
"""

from __future__ import annotations

import time

from full_shape import afresh, build, parser, samples, settled, spending, table
from kore_init import literal

from methods.components.covariance import covariances
from methods.components.kore_init import starting_factors
from methods.components.lora_layers import target_layers


def ours(model, prompts, rank):
    """Leaked energy of each layer."""
    made = starting_factors(model, covariances(model, prompts), rank, both=False)
    return [float(made[f"{name}.leaked"]) for name in target_layers(model)]


def theirs(model, prompts, rank):
    return [share for _, share in literal(model, prompts, rank).values()]


def calibrated(model, prompts, _rank):
    """The covariances alone, each used up before the next."""
    for part in covariances(model, prompts):
        assert part.covariance.isfinite().all()
        del part
    return []


def measured(name, run, model, prompts, asked):
    """One row."""
    with spending(asked.device) as spent:
        leaks = run(model, prompts, asked.ranks["kore"])
    return {
        "side": name,
        "weights": str(model.module.dtype).removeprefix("torch."),
        "decoder layers": str(model.module.config.text_config.num_hidden_layers),
        "samples": str(len(prompts)),
        "seconds": f"{spent.seconds:.2f}",
        "peak GB beyond the model": f"{spent.peak:.2f}",
        "leaked energy, mean": f"{sum(leaks) / len(leaks):.4e}" if leaks else "",
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--samples", type=int)
    made.add_argument("--sides", default="ours,literal")
    made.add_argument("--calibration", action="store_true", help="stop at the covariances")
    asked = settled(made.parse_args())
    started = time.perf_counter()
    model = build(asked)
    prompts = samples(asked.samples or (8 if asked.shape == "tiny" else 256), asked)
    lengths = model.prompt_batch(prompts[:32])["attention_mask"].sum(-1).float()
    print(
        f"model made in {time.perf_counter() - started:.0f} s; {float(lengths.mean()):.0f} tokens a prompt", flush=True
    )
    runs = {"ours": calibrated if asked.calibration else ours, "literal": theirs}
    rows = []
    for side in asked.sides.split(","):
        if side == "literal":
            model = afresh(model, model.module.float())
        rows.append(measured(side, runs[side], model, prompts, asked))
        if asked.calibration:
            break
    seconds = {row["side"]: float(row["seconds"]) for row in rows}
    for row in rows:
        row["literal / this"] = f"{seconds['literal'] / float(row['seconds']):.1f}x" if "literal" in seconds else ""
    table("Calibration and initialisation", asked, rows)


if __name__ == "__main__":
    main()
