"""``python -m harness``."""

import sys
from pathlib import Path


def search_working_folder_last() -> None:
    """Move the working folder to the end of the import path.

    ``python -m`` puts it first, where a ``benchmarks/`` of the user's project would hide the one of this program.
    """
    if sys.path and sys.path[0] in ("", str(Path.cwd())):
        working_folder, root = sys.path.pop(0), str(Path(__file__).resolve().parents[1])
        if root not in sys.path:  # a checkout that is not installed
            sys.path.insert(0, root)
        sys.path.append(working_folder)


if __name__ == "__main__":
    search_working_folder_last()
    from harness.cli import main

    main()
