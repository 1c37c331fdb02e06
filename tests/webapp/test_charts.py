"""Charts: what is drawn is what the numbers say, and names cannot become markup."""

from __future__ import annotations

import itertools
import re

import pytest

from webapp.charts import BOTTOM, HEIGHT, TOP, bars, trend


def dots(svg: str, line: int) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for x, y in re.findall(rf'<circle class="dot line-{line}" cx="([\d.]+)" cy="([\d.]+)"', svg)
    ]


def test_a_trend_starts_at_zero_and_leaves_out_runs_without_a_value():
    svg = trend(["a", "b", "c"], [("one", [0, 100, 50]), ("other", [None, 100, 50])], "Runs")
    one, other = dots(svg, 0), dots(svg, 1)
    bottom, top = HEIGHT - BOTTOM, TOP
    assert [y for _, y in one] == pytest.approx([bottom, top, (top + bottom) / 2])
    assert other == one[1:] and one[0][0] < one[1][0] < one[2][0]
    assert one[1][0] - one[0][0] == pytest.approx(one[2][0] - one[1][0], abs=0.11)


def test_names_of_lines_that_end_together_do_not_lie_on_each_other():
    svg = trend(["a", "b"], [("one", [1, 5]), ("other", [2, 5]), ("third", [3, 5])], "Runs")
    places = sorted(float(y) for y in re.findall(r'class="name" x="[\d.]+" y="([\d.]+)"', svg))
    assert len(places) == 3 and all(after - before >= 12.9 for before, after in itertools.pairwise(places))


def test_bars_are_as_long_as_their_counts_and_say_them():
    svg = bars([("missing", [10, 30]), ("wrong", [0, 20])], ["low", "high"], "Open findings")
    sizes = {title: float(width) for width, title in re.findall(r'width="([\d.]+)" height="18"><title>([^<]*)<', svg)}
    assert set(sizes) == {"missing, low: 10", "missing, high: 30", "wrong, high: 20"}
    assert sizes["missing, high: 30"] == pytest.approx(3 * sizes["missing, low: 10"], abs=0.2)
    assert sizes["wrong, high: 20"] == pytest.approx(2 * sizes["missing, low: 10"], abs=0.2)
    assert ">40</text>" in svg and ">20</text>" in svg


def test_nothing_to_draw_is_an_empty_chart():
    assert "<svg" in bars([], [], "None") and "<svg" in trend([], [], "None")
    assert not dots(trend(["a"], [("x", [None])], "None"), 0)


def test_words_in_a_chart_are_words():
    svg = bars([("<b>", [1])], ['"x"'], '"><script>') + trend(["<i>"], [("<u>", [1])], "t")
    assert not re.search(r"<(b|i|u|script)>", svg)
