"""Drawings as SVG text: every chart, diagram and note of this project is made of these two."""

from html import escape
from typing import Any


def part(name: str, *inside: str, text: str = "", **attributes: Any) -> str:
    """One element, around `inside` or `text`. Numbers get one digit after the point; `class_` is `class`, `_` is `-`.

    >>> part("circle", cx=1.25, r=3), part("text", text="<b>", class_="name", text_anchor="end")
    ('<circle cx="1.2" r="3"/>', '<text class="name" text-anchor="end">&lt;b&gt;</text>')
    """
    told = {key.rstrip("_").replace("_", "-"): one for key, one in attributes.items()}
    numbers = {key: f"{one:.1f}" if isinstance(one, float) else str(one) for key, one in told.items()}
    head = "".join(f' {key}="{escape(one)}"' for key, one in numbers.items())
    body = "".join(inside) + escape(text)
    return f"<{name}{head}>{body}</{name}>" if body else f"<{name}{head}/>"


def drawing(parts: list[str], width: float, height: float, /, **attributes: Any) -> str:
    """The whole drawing, `width` by `height` of its own units."""
    return part("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height:g}", **attributes)
