"""Where an image-text model of transformers keeps its decoder, its encoders and its projector."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.errors import UserError

_IN_A_LAYER = re.compile(r"(?:.*\.)?layers\.\d+\.(.+)")
_NAMED = 4
"""Number of names in a message."""


@dataclass(frozen=True)
class ModelStructure:
    """The parts of a model, by name.

    Attributes:
        decoder: The language model, such as ``model.language_model``.
        projector: The last part of the name of what maps the features of pictures to the decoder's.
        towers: Parts of names below which are encoders, and the projector if it belongs to one.
        linear_targets: Full-match pattern of every linear layer of the decoder's layers.
        left_out: Other matrices of the decoder, which no adapter on linear layers reaches.
    """

    decoder: str
    projector: str
    towers: frozenset[str]
    linear_targets: str
    left_out: tuple[str, ...]

    def complete_targets(self) -> str:
        """The pattern of the linear layers, if they are all that the decoder multiplies with.

        Raises:
            UserError: They are not, as in a mixture of experts whose experts are stored in one tensor.
        """
        if self.left_out:
            more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
            raise UserError(
                f"adapters on linear layers would leave out {', '.join(self.left_out[:_NAMED])}{more}",
                location=f"decoder {self.decoder}",
                hint="train it in full, or use a model whose decoder has linear layers alone",
            )
        return self.linear_targets


def find_structure(module: Any) -> ModelStructure:
    """Find the parts of a model, which may be without weights (on the ``meta`` device).

    The decoder is what transformers itself calls so; the projector is the module between encoder and decoder, or in
    an encoder the part whose output has the decoder's width, such as the merger of Qwen's models.

    Raises:
        UserError: The model has another structure.
    """
    names = {id(part): name for name, part in module.named_modules()}
    decoder = names.get(id(module.get_decoder()), "")
    if not decoder or not isinstance(getattr(module.get_decoder(), "layers", None), torch.nn.ModuleList):
        raise _unknown(module, "a language model with a list of layers")
    parent_name = decoder.rpartition(".")[0]
    parent = module.get_submodule(parent_name)
    beside = {
        name: part
        for name, part in parent.named_children()
        if part is not module.get_decoder() and part is not module.get_output_embeddings() and _has_weights(part)
    }
    projector, towers = _find_projector(module, beside)
    targets, left_out = _find_targets(module.get_decoder(), decoder)
    return ModelStructure(decoder, projector, frozenset(towers), targets, left_out)


def _find_projector(module: Any, beside: dict[str, torch.nn.Module]) -> tuple[str, set[str]]:
    """The projector's name and those of the encoders, among the modules beside the decoder."""
    encoder = module.get_encoder(modality="image")
    tower = next((name for name, part in beside.items() if part is encoder), "")
    if not tower and beside:
        tower = max(beside, key=lambda name: sum(weight.numel() for weight in beside[name].parameters()))
    if not tower:
        raise _unknown(module, "a vision tower beside the language model")
    width = int(module.config.get_text_config().hidden_size)
    others = [name for name in beside if name != tower]
    candidates = others if len(others) == 1 else [name for name in others if _maps_to(beside[name], width)]
    if not others:
        candidates = [name for name, part in beside[tower].named_children() if _maps_to(part, width)]
    if len(candidates) != 1:
        found = f"{len(candidates)} ({', '.join(candidates)})" if candidates else "none"
        raise _unknown(module, f"one projector between the vision tower and the language model, but {found}")
    projector = candidates[0]
    paths = (name.split(".") for name, _ in module.named_modules())
    places = {tuple(path[: path.index(projector)]) for path in paths if projector in path}
    if len(places) > 1:
        raise _unknown(module, f"a projector whose name no other module has, but {len(places)} are called {projector}")
    return projector, {name for name in beside if name != projector}


def _maps_to(part: torch.nn.Module, width: int) -> bool:
    """Whether a module without a list of layers contains a linear layer with this output width."""
    parts = list(part.modules())
    linears = [each for each in parts if isinstance(each, torch.nn.Linear)]
    return any(each.out_features == width for each in linears) and not any(
        isinstance(each, torch.nn.ModuleList) for each in parts
    )


def _find_targets(decoder: torch.nn.Module, name: str) -> tuple[str, tuple[str, ...]]:
    """The pattern of the linear layers in the decoder's list of layers, and the names of other matrices."""
    linears: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for path, part in decoder.named_modules():
        match = _IN_A_LAYER.fullmatch(path)
        if match and isinstance(part, torch.nn.Linear):
            linears[match[1]] = None
        elif not isinstance(part, torch.nn.Embedding):
            left_out |= dict.fromkeys(_matrices(match[1] if match else path, part))
    if not linears:
        raise UserError("its layers contain no linear layer", location=f"decoder {name}", hint="use another model")
    ends = "|".join(map(re.escape, linears))
    return rf"(.*\.)?{re.escape(name.rpartition('.')[2])}\.layers\.\d+\.({ends})", tuple(left_out)


def _matrices(name: str, part: torch.nn.Module) -> Iterator[str]:
    """Names of a module's own weights with two or more dimensions, without filters that keep channels apart."""
    if isinstance(part, torch.nn.Conv1d) and part.groups == part.in_channels:
        return
    for own, weight in part.named_parameters(recurse=False):
        if weight.dim() > 1:
            yield f"{name}.{own}"


def _has_weights(part: torch.nn.Module) -> bool:
    return any(True for _ in part.parameters())


def _unknown(module: Any, expected: str) -> UserError:
    return UserError(
        f"it should have {expected}",
        location=type(module).__name__,
        hint="write a family of your own for it (--plugin)",
    )
