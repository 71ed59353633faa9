"""Page, scale and text elements of charts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import attrs

from .._utils.summaries import escape_html

WIDTH: Final = 860
HEIGHT: Final = 280
# The edges of the plot.
LEFT: Final = 72
RIGHT: Final = WIDTH - 16
TOP: Final = 52
BOTTOM: Final = HEIGHT - 34

_GRID_LINES: Final = 4
"""Approximate number of grid lines."""
# Scoped to charts, since in a notebook a style element applies to the whole page.
_STYLE: Final = """
.primepods-chart { --page: #ffffff; --text: #1f2328; --soft: #59636e; --line: #d1d9e0; --bar: #0969da;
  --ready: #2da44e; --installing: #54aeff; --pending: #d4a72c; --failed: #cf222e; --deleting: #bc8cff;
  --stopped: #8c959f; --unknown: #bf8700; font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif }
@media (prefers-color-scheme: dark) {
  .primepods-chart { --page: #0d1117; --text: #f0f6fc; --soft: #9198a1; --line: #3d444d; --bar: #4493f8 }
}
.primepods-chart text { fill: var(--text) }
.primepods-chart .head { font-size: 15px; font-weight: 600 }
.primepods-chart .soft { fill: var(--soft) }
.primepods-chart .line { stroke: var(--line) }
.primepods-chart .bar { fill: var(--bar) }
.primepods-chart .page { fill: var(--page) }
"""


@attrs.frozen
class Chart:
    """An SVG chart.

    Attributes:
        svg: The SVG document.
        description: The content in a sentence, for screen readers.
    """

    svg: str = attrs.field(repr=False)
    description: str

    def __str__(self) -> str:
        return self.svg

    def _repr_svg_(self) -> str:
        return self.svg


def draw(title: str, description: str, parts: Iterable[str], *, note: str = "") -> Chart:
    """Return a chart of SVG elements, with a heading at the left and a note at the right."""
    body = "\n".join(
        [
            f"<title>{escape_html(title)}</title>",
            f"<desc>{escape_html(description, max_length=500)}</desc>",
            f"<style>{_STYLE}</style>",
            '<rect class="page" width="100%" height="100%" rx="8"/>',
            text(16, 26, title, kind="head"),
            text(RIGHT, 26, note, anchor="end"),
            *parts,
        ]
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="primepods-chart" role="img" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">\n{body}\n</svg>\n'
    )
    return Chart(svg, description)


def text(x: float, y: float, value: str, *, kind: str = "", anchor: str = "start") -> str:
    """Escape a line of text, and return its SVG element."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape_html(value)}</text>'


def empty_chart_text(words: str) -> str:
    return text(WIDTH / 2, HEIGHT / 2, words, kind="soft", anchor="middle")


def scale(highest: float) -> tuple[float, list[float]]:
    """Return the upper end of a scale from 0 that includes ``highest``, and its round tick values."""
    min_spacing = highest / _GRID_LINES
    power = 10.0 ** math.floor(math.log10(min_spacing)) if min_spacing > 0 else 1.0
    spacing = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min_spacing)
    # Ignore rounding errors: 0.1 + 0.2 is a little above 0.3.
    count = max(1, math.ceil(highest / spacing - 1e-9))
    return spacing * count, [spacing * number for number in range(count + 1)]


def grid_lines(marks: Iterable[tuple[float, str]], right: float = RIGHT) -> list[str]:
    """Return horizontal grid lines with labels at the left, given as pairs of y coordinate and label."""
    parts: list[str] = []
    for y, label in marks:
        parts.append(f'<line class="line" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 8, y + 4, label, kind="soft", anchor="end"))
    return parts
