"""The shape of KORE's knowledge tree: its branches, and how deep its dialogues are."""

from __future__ import annotations

BRANCHES = ("dialogue", "recognition", "caption", "vqa")
RELATION = "relation"
"""The branch of questions over two items, which KORE's tree does not have."""
ROUNDS = 10
"""Maximum number of rounds in a dialogue, including the first, heuristic one."""
