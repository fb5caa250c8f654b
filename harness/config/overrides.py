"""Settings in layers: the command line over the preset file over the defaults, each value with its origin."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import UserError

Layer = dict[str, Any]
"""Dotted key to value: {"training.epochs": 3}."""


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name that nobody knows, with the nearest one that somebody does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(names)}"
    return UserError(f"there is no {what} {name!r}", location=where, hint=hint)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: The file cannot be read or holds no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", location=str(path), hint="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, row {mark.line + 1}" if mark else str(path)
        raise UserError("this is no valid YAML", location=place, hint="mend the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(
            "a preset is a mapping of settings", location=str(path), hint="write lines of the form `key: value`"
        )
    return content


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Layer:
    """Dotted keys of a nested mapping."""
    flat: Layer = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested mapping of dotted keys.

    Raises:
        UserError: A key is given a value and keys below it.
    """
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = dotted.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(
                    "a value and a group of settings share a name", location=dotted, hint="give one of the two"
                )
        place[leaf] = value
    return nested


def parse_assignment(text: str) -> tuple[str, Any]:
    """``a.b=value`` of the command line; the value is read as YAML.

    Raises:
        UserError: There is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError("this is no setting", location=f"--set {text}", hint="write --set training.epochs=3")
    try:
        return key.strip(), yaml.safe_load(value) if value.strip() else ""
    except yaml.YAMLError as error:
        raise UserError("the value cannot be read", location=f"--set {text}", hint="put it in quotes") from error
