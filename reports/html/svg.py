"""Plots inside the page: SVG without inline styles (the page's security policy forbids them), in the page's colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Tree

from reports.plots import style

_LINK = "{http://www.w3.org/1999/xlink}href"
_THEMED = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.RULE: "var(--rule)",
    style.BASELINE: "var(--baseline)",
    **{colour: f"var(--c{number})" for number, colour in enumerate(style.COLOURS)},
}
_FONT = re.compile(r"(?:(?P<weight>bold|\d{3})\s+)?(?P<size>[\d.]+)px")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(svg: bytes, key: str, alt: str) -> str:
    """Convert a drawing to an ``<svg>`` element for the page.

    Args:
        svg: The bytes from ``style.save``.
        key: Prefix that makes ids unique on the page.
        alt: Text alternative.
    """
    root = Tree.fromstring(svg)  # noqa: S314  (our own drawing)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rsplit("}", 1)[-1] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
        _inline_style(element)
        _prefix_ids(element, key)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {
        "role": "img",
        "aria-label": alt,
        "class": "plot",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for element in list(root):
        if element.tag == "defs" and len(element) == 0:
            root.remove(element)
    return Tree.tostring(root, encoding="unicode", short_empty_elements=True)


def _inline_style(element: Tree.Element) -> None:
    """Replace a style attribute by presentation attributes, and colours by the page's variables."""
    for part in element.attrib.pop("style", "").split(";"):
        name, _, value = (piece.strip() for piece in part.partition(":"))
        if name == "font" and (font := _FONT.search(value)):
            element.set("font-size", font["size"])
            if font["weight"]:
                element.set("font-weight", font["weight"])
        elif name in ("font-size", "font-weight"):
            element.set(name, value.removesuffix("px"))
        elif name and value and name != "font-family":
            element.set(name, value)
    for name in ("fill", "stroke"):
        if (colour := element.get(name, "").lower()) in _THEMED:
            element.set(name, _THEMED[colour])
    if element.tag == "text" and "fill" not in element.attrib:
        element.set("fill", "currentColor")


def _prefix_ids(element: Tree.Element, key: str) -> None:
    if "id" in element.attrib:
        element.set("id", f"{key}-{element.attrib['id']}")
    link = element.attrib.pop(_LINK, None)
    if link is not None and link.startswith("#"):
        element.set("href", f"#{key}-{link[1:]}")
    for name, value in element.attrib.items():
        if "url(#" in value:
            element.set(name, _REFERENCE.sub(rf"url(#{key}-\1)", value))
