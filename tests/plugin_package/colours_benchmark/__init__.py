"""A benchmark in a separate package, found by its entry point: which colour a picture has."""

from pathlib import Path

BENCHMARK = Path(__file__).with_name("colours.yaml")
