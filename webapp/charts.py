"""Charts as inline SVG, drawn on the server: they print, need no script, and stand beside a table with the same numbers."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from tagcheck.svg import drawing, part

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 28
NAMES = 110  # the room beside a trend for the names of its lines


def trend(labels: Sequence[str], series: Sequence[tuple[str, Sequence[float | None]]], title: str) -> Markup:
    """Lines over runs, one for each named series (None: no value at that run); the y axis starts at zero.

    Line n has the class `line-n`; its name stands at its last point, so that colour is not needed to tell them apart.
    """
    top = nice(max((value for _, values in series for value in values if value is not None), default=1))
    across = (WIDTH - LEFT - RIGHT - NAMES) / max(len(labels) - 1, 1)

    def x(place: int) -> float:
        return LEFT + across * place

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    parts = [_axis(y, top)]
    ends: list[tuple[str, float, float]] = []
    for number, (name, values) in enumerate(series):
        points = [(x(place), y(value)) for place, value in enumerate(values) if value is not None]
        if not points:
            continue
        path = " ".join(f"{'ML'[place > 0]}{px:.1f} {py:.1f}" for place, (px, py) in enumerate(points))
        parts.append(part("path", class_=f"line line-{number}", d=path))
        parts += [part("circle", class_=f"dot line-{number}", cx=px, cy=py, r=3) for px, py in points]
        ends.append((name, *points[-1]))
    for (name, px, _), height in zip(ends, spread([py for _, _, py in ends])):
        parts.append(part("text", text=name, class_="name", x=px + 8, y=height + 4))
    for place in sorted({0, len(labels) - 1}) if labels else ():
        anchor = "start" if place == 0 else "end"
        parts.append(part("text", text=labels[place], x=x(place), y=HEIGHT - 8, text_anchor=anchor))
    return _svg(parts, title, HEIGHT)


def bars(rows: Sequence[tuple[str, Sequence[int]]], names: Sequence[str], title: str) -> Markup:
    """One horizontal bar a row, stacked from the counts of `names`; part n has the class `part-n`."""
    largest = max((sum(counts) for _, counts in rows), default=1) or 1
    label, step = 170, 28
    wide = WIDTH - label - 70
    parts = []
    for place, (name, counts) in enumerate(rows):
        top = place * step + 6
        parts.append(part("text", text=name, x=label - 8, y=top + 13, text_anchor="end"))
        left = float(label)
        for number, value in enumerate(counts):
            if value:
                size = wide * value / largest
                says = part("title", text=f"{name}, {names[number]}: {value:,}")
                parts.append(part("rect", says, class_=f"part-{number}", x=left, y=top, width=size, height=18))
                left += size
        parts.append(part("text", text=f"{sum(counts):,}", x=left + 6, y=top + 13))
    return _svg(parts, title, len(rows) * step + 6)


def spread(wanted: Sequence[float], apart: float = 13) -> list[float]:
    """Heights near those wanted, in the same order and `apart` from each other: pushed up from the axis, then down from the top.

    >>> spread([100, 100, 40]), spread([HEIGHT - BOTTOM] * 2), spread([TOP, TOP])
    ([87, 100, 40], [159, 172], [12, 25])
    """
    out = list(wanted)
    order = sorted(range(len(out)), key=out.__getitem__)
    lowest, highest = float(HEIGHT - BOTTOM), float(TOP)
    for place in reversed(order):
        out[place] = min(out[place], lowest)
        lowest = out[place] - apart
    for place in order:
        out[place] = max(out[place], highest)
        highest = out[place] + apart
    return out


def nice(value: float) -> float:
    """The next round number at or above `value`: 1, 2 or 5 times a power of ten.

    >>> nice(3), nice(5), nice(180), nice(0)
    (5, 5, 200, 1)
    """
    scale = 1
    while value > 10 * scale:
        scale *= 10
    return next(step * scale for step in (1, 2, 5, 10) if value <= step * scale)


def _axis(y: Callable[[float], float], top: float) -> str:
    return "".join(
        part("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT - NAMES, y1=y(mark), y2=y(mark))
        + part("text", text=f"{mark:,g}", x=LEFT - 6, y=y(mark) + 4, text_anchor="end")
        for mark in (0, top / 2, top)
    )


def _svg(parts: list[str], title: str, height: float) -> Markup:
    return Markup(drawing(parts, WIDTH, height, class_="chart", role="img", aria_label=title))
