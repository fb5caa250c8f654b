"""Which of the decoder's linear layers a setting such as ``targets`` names: by kind, by place, or by a pattern.

Layers go by their full names in the model, such as ``model.language_model.layers.3.self_attn.q_proj``. The first number
in a name is that of the decoder layer; the part after it says what the layer belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.errors import UserError, suggest

ALL = "all"
KINDS: Mapping[str, tuple[str, ...]] = {
    "attention": ("attn", "attention"),
    "mlp": ("mlp", "feed_forward", "ffn", "moe", "fc"),
}
"""Named choices, and what the part of a decoder layer that they stand for is called in the models of transformers."""
CHOICES = f"{ALL}, {', '.join(KINDS)}, first-N or last-N decoder layers, or a pattern of whole module names"
"""What such a setting may be, for help and hints."""
_NAME = re.compile(r"[\w-]*")
_PLACE = re.compile(r"(first|last)-([1-9][0-9]*)")
_SPECTRUM = re.compile(r"(steep|flat)-([1-9][0-9]?)")
_IN_A_LAYER = re.compile(r"(?:.*?\.)?([0-9]+)\.([^.]+)(.*)")


class LinearShapes(tuple[tuple[int, int], ...]):
    """d_in and d_out of linear layers, in the model's order, and the full ``names`` of these layers."""

    names: tuple[str, ...]

    def __new__(cls, shapes: Mapping[str, tuple[int, int]]) -> LinearShapes:
        """Make it from d_in and d_out by name."""
        made = super().__new__(cls, shapes.values())
        made.names = tuple(shapes)
        return made

    def only(self, names: Iterable[str]) -> LinearShapes:
        """The layers of these names."""
        kept = set(names)
        return LinearShapes({name: shape for name, shape in zip(self.names, self, strict=True) if name in kept})


def problem_of(targets: str) -> str:
    """Why a value can name no layers of any model, with what to write instead; empty if it can."""
    if _NAME.fullmatch(targets):
        known = targets == ALL or targets in KINDS or _PLACE.fullmatch(targets)
        pattern = rf", such as .*\.{targets}" if targets else ""
        return "" if known else f"{suggest(targets, [ALL, *KINDS, 'first-N', 'last-N'])}choose {CHOICES}{pattern}"
    try:
        re.compile(targets)
    except re.error as error:
        return f"it is no regular expression: {error}"
    return ""


def choose(names: Sequence[str], targets: str, setting: str = "targets") -> tuple[str, ...]:
    """Those of the names that the value of a setting stands for, in their order.

    Args:
        names: Full names of linear layers.
        targets: A named choice, or a pattern that a whole name must match.
        setting: Its name, for messages.

    Raises:
        UserError: It stands for none of them, or for more decoder layers than there are.
    """
    if targets == ALL:
        return tuple(names)
    if place := _PLACE.fullmatch(targets):
        chosen = _outermost((place_of(name)[0] for name in names), place[1], int(place[2]), setting)
        return tuple(name for name in names if place_of(name)[0] in chosen)
    if targets in KINDS:
        found = tuple(name for name in names if any(word in place_of(name)[1] for word in KINDS[targets]))
    else:
        pattern = re.compile(targets)
        found = tuple(name for name in names if pattern.fullmatch(name))
    if not found:
        raise UserError(
            f"no linear layer of the decoder matches {targets!r}",
            location=f"setting {setting}",
            hint=f"give {CHOICES}; a layer here is called {names[0] if names else '-'}",
        )
    return found


def check_rank(layers: LinearShapes, rank: int, *, outputs: bool = False, below: bool = False) -> None:
    """Refuse a number of directions that one of the layers does not have.

    Args:
        layers: The layers.
        rank: How many directions of each are needed.
        outputs: Whether they are directions of its outputs as well as of its inputs.
        below: Whether one must be left over.

    Raises:
        UserError: It names the narrowest layer.
    """
    widths = [min(sizes) if outputs else sizes[0] for sizes in layers]
    width, name = min(zip(widths, layers.names, strict=True), default=(rank + below, ""))
    if rank > width - below:
        raise UserError(
            f"rank {rank} is too large for {name}, which has {width} {'inputs or outputs' if outputs else 'inputs'}",
            location="setting rank",
            hint=f"choose at most {width - below}",
        )


def is_spectrum_rule(value: str) -> bool:
    """Whether a value is ``steep-P`` or ``flat-P``: P % of the layers, chosen by the spectra of their inputs."""
    return _SPECTRUM.fullmatch(value) is not None


def choose_by_spectrum(flatness: Mapping[str, float], rule: str) -> tuple[str, ...]:
    """P % of each kind of layer, at least one of it, with the steepest or flattest spectra of their inputs.

    Of each kind, such as all ``self_attn.q_proj``, since only inputs of equal width compare, and so that the number of
    parameters does not depend on the spectra. Of equally flat ones the first come first.

    Args:
        flatness: By full name of the layer; a steep spectrum has a small number.
        rule: ``steep-P`` or ``flat-P``.

    Returns:
        The names, in the order in which they are given.
    """
    match = _SPECTRUM.fullmatch(rule)
    if match is None:
        raise ValueError(f"{rule!r} is no rule")
    kinds: dict[str, list[str]] = {}
    for name in flatness:
        kinds.setdefault(kind_of(name), []).append(name)
    sign, chosen = 1 if match[1] == "steep" else -1, set()
    for names in kinds.values():
        count = max(1, (len(names) * int(match[2]) + 50) // 100)
        chosen |= set(sorted(names, key=lambda name: sign * flatness[name])[:count])
    return tuple(name for name in flatness if name in chosen)


def place_of(name: str) -> tuple[int, str]:
    """The number of the decoder layer that a linear layer is in, and the part of it: (3, ``self_attn``).

    Raises:
        UserError: The name has no number, so that the layer is in no list of layers.
    """
    match = _IN_A_LAYER.fullmatch(name)
    if match is None:
        raise UserError("it is in no list of decoder layers", location=name, hint="narrow linear_targets")
    return int(match[1]), match[2]


def kind_of(name: str) -> str:
    """A linear layer's name within its decoder layer: ``self_attn.q_proj``."""
    match = _IN_A_LAYER.fullmatch(name)
    return f"{match[2]}{match[3]}" if match else name


def count_layers(names: Iterable[str]) -> int:
    """The number of decoder layers that these linear layers are in."""
    return len({place_of(name)[0] for name in names})


def _outermost(numbers: Iterable[int], side: str, count: int, setting: str) -> list[int]:
    there = sorted(set(numbers))
    if count > len(there):
        raise UserError(
            f"{side}-{count} of {len(there)} decoder layers",
            location=f"setting {setting}",
            hint=f"choose at most {side}-{len(there)}",
        )
    return there[:count] if side == "first" else there[-count:]
