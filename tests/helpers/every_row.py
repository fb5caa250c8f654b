"""Every row that can be asked for by name, with one example of each family."""

from methods.registry import expand_names, registered

NEEDING = [f"{m.name}:{name}" for m in registered().values() for name, v in m.variants.items() if v.needs]
"""The variants that need a value and so are not part of ``all-variants``."""
EVERY_ROW = expand_names(["all-variants", *NEEDING])
