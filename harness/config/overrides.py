"""Nested settings as layers of dotted keys that override each other, and the errors about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import UserError, shown, suggest

Layer = dict[str, Any]
"""Dotted key to value: {"training.epochs": 3}."""


def unknown_name(what: str, name: str, known: Iterable[str], *, where: str = "") -> UserError:
    """The error for an unknown name, with the closest known one as a hint."""
    names = sorted(known)
    hint = suggest(name, names).rstrip() or f"choose one of: {', '.join(names)}"
    return UserError(f"there is no {what} {name!r}", location=where, hint=hint)


class RepeatedKeyError(ValueError):
    """A mapping in YAML has a key twice; YAML forbids it, and its reader would keep the last.

    Args:
        key: The key.
        line: Where it stands for the second time, from 1.
    """

    def __init__(self, key: str, line: int) -> None:
        self.line = line
        super().__init__(f"the key {shown(key)} is given twice")


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:  # before keys of anchors (<<) are added, which a mapping's own may replace
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise RepeatedKeyError(key.value, key.start_mark.line + 1)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        RepeatedKeyError: A mapping has a key twice.
        yaml.YAMLError: The text is not YAML.
        ValueError: A value, such as a date, does not exist.
    """
    loader = _UniqueKeyLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        UserError: The file cannot be read or does not contain a mapping.
    """
    try:
        content = load_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", location=str(path), hint="check the path") from error
    except RepeatedKeyError as error:
        location = f"{path}, row {error.line}"
        raise UserError(str(error), location=location, hint="delete one of the two") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2026-13-01 is a ValueError
        mark = getattr(error, "problem_mark", None)
        location = f"{path}, row {mark.line + 1}" if mark else str(path)
        raise UserError("this is not valid YAML", location=location, hint="correct the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError("a preset is a mapping of settings", location=str(path), hint="write lines like `key: value`")
    return content


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Layer:
    """Dotted keys of a nested mapping.

    Raises:
        UserError: A setting is given twice, once with a dotted key.
    """
    flat: Layer = {}
    for key, value in nested.items():
        found = flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        if repeated := flat.keys() & found.keys():
            location = min(repeated)
            raise UserError("this setting is given twice", location=location, hint="delete one of the two")
        flat |= found
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested mapping of dotted keys.

    Raises:
        UserError: A key has both a value and keys below it.
    """
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, leaf = dotted.split(".")
        group = nested
        for parent in parents:
            group = group.setdefault(parent, {})
            if not isinstance(group, dict):
                message = "a value and a group of settings share a name"
                raise UserError(message, location=dotted, hint="give one of the two")
        group[leaf] = value
    return nested


def parse_assignment(text: str) -> tuple[str, Any]:
    """Parse ``a.b=value`` of the command line; the value is read as YAML.

    Raises:
        UserError: There is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        message = "this is not an assignment"
        raise UserError(message, location=f"--set {text}", hint="write --set training.epochs=3")
    try:
        return key.strip(), load_yaml(value) if value.strip() else ""
    except RepeatedKeyError as error:
        raise UserError(str(error), location=f"--set {key}", hint="delete one of the two") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError("the value cannot be read", location=f"--set {text}", hint="put it in quotes") from error
