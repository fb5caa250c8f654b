"""What the harness logs, for fixtures and helpers that pytest's ``caplog`` does not reach."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from harness.console import PACKAGES, configure_logging


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """The messages from INFO on that are logged within the block."""
    lines = list[str]()
    before = [(logger, logger.level, logger.handlers) for logger in map(logging.getLogger, PACKAGES)]
    configure_logging(lambda _, line: lines.append(line))
    try:
        yield lines
    finally:
        for logger, level, handlers in before:
            logger.level, logger.handlers = level, handlers
