"""SVG charts of the contests and of the pods that nobody owns, readable on light and dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .measure import Contest, quartiles

_WIDTH = 860
_LABEL_WIDTH = 250
_BAR_HEIGHT = 20
_BAR_GAP = 8
_HEADING_HEIGHT = 44
_FIGURE_WIDTH = 130
"""Width of the text after a bar."""
_MAX_BAR_WIDTH = _WIDTH - _LABEL_WIDTH - _FIGURE_WIDTH
_STYLE = """
  svg {
    --page: #ffffff; --text: #1f2328; --soft: #59636e; --ours: #0969da; --floor: #afb8c1; --peer: #d1d9e0
  }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --text: #f0f6fc; --soft: #9198a1; --ours: #4493f8; --floor: #656c76;
      --peer: #3d444d }
  }
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--text) }
  .head { font-weight: 600; font-size: 15px } .soft { fill: var(--soft) } .strong { font-weight: 600 }
  .ours { fill: var(--ours) } .floor { fill: var(--floor) } .peer { fill: var(--peer) }
  .whisker { stroke: var(--text); stroke-width: 1.5 } .page { fill: var(--page) }
"""


def draw(contests: Sequence[Contest], machine: str) -> str:
    """Return the SVG: a panel for each contest, a bar for each client, shorter is better."""
    parts: list[str] = []
    y = 16
    for contest in contests:
        panel, height = _panel(contest, y)
        parts += panel
        y += height
    notes = ["Medians; whiskers: quartiles; x: times primepods' median.", *_wrap(machine)]
    return _picture(parts, y, notes, label="How long primepods and other clients take")


def draw_leaks(results: Sequence[Mapping[str, Any]], machine: str) -> str:
    """Return the SVG of `benchmarks.leaks`: a bar for each tool, shorter is better."""
    parts: list[str] = []
    y = 16
    jobs = results[0]["jobs"]
    for what, key in (
        (f"Pods that nobody owns, after {jobs:,} jobs with faults", "left"),
        ("Pods that run, though the tool said that they were deleted", "false claims"),
    ):
        parts.append(f'<text class="head" x="16" y="{y + 20}">{what}</text>')
        y += _HEADING_HEIGHT - 10
        longest = max(1, *(row[key] for row in results))
        for row in sorted(results, key=lambda row: (row[key], row["tool"] != "primepods")):
            figure = f"{row[key]}"
            if key == "left":
                figure += f"  (${row['dollars a day']:,.0f} a day)"
            kind = "ours" if row["tool"] == "primepods" else "peer"
            weight = ' class="strong"' if kind == "ours" else ""
            length = _MAX_BAR_WIDTH * row[key] / longest
            middle = y + _BAR_HEIGHT / 2 + 4.5
            size = f'width="{max(2.0, length):.1f}" height="{_BAR_HEIGHT}"'
            parts += [
                f'<text{weight} x="{_LABEL_WIDTH - 8}" y="{middle}" text-anchor="end">{row["tool"]}</text>',
                f'<rect class="{kind}" x="{_LABEL_WIDTH}" y="{y}" {size} rx="3"/>',
                f'<text{weight} x="{_LABEL_WIDTH + length + 8:.1f}" y="{middle}">{figure}</text>',
            ]
            y += _BAR_HEIGHT + _BAR_GAP
        y += 12
    return _picture(parts, y, _wrap(machine), label="How many pods primepods and other clients leave")


def _picture(parts: list[str], y: int, notes: Sequence[str], *, label: str) -> str:
    """Return the SVG of some parts, with notes below them."""
    for note in notes:
        parts.append(f'<text class="soft" x="16" y="{y + 12}" font-size="11">{escape(note)}</text>')
        y += 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" width="{_WIDTH}" '
        f'height="{y + 12}" role="img" aria-label="{label}">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" width="100%" height="100%" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(contest: Contest, top: int) -> tuple[list[str], int]:
    """Return the panel of a contest, and its height."""
    clients = sorted(contest.clients.items(), key=lambda item: statistics.median(item[1]))
    ours = statistics.median(contest.clients["primepods"])
    # A bar that is far longer than the others is cut, to keep those visible.
    uncut = [samples for _, samples in clients if statistics.median(samples) <= 25 * ours]
    longest = max(quartiles(samples)[1] for samples in uncut)
    parts = [f'<text class="head" x="16" y="{top + 20}">{escape(contest.what.replace("`", ""))}</text>']
    y = top + _HEADING_HEIGHT - 10
    for name, samples in clients:
        parts += _bar(name, samples, y, ours=ours, longest=longest)
        y += _BAR_HEIGHT + _BAR_GAP
    return parts, y - top + 12


def _bar(name: str, samples: Sequence[float], y: int, *, ours: float, longest: float) -> list[str]:
    """Return a client's label, bar, whisker and figure; ``longest`` seconds have the full width."""
    median = statistics.median(samples)
    first, third = (_MAX_BAR_WIDTH * quartile / longest for quartile in quartiles(samples))
    is_cut = median > longest
    length = _MAX_BAR_WIDTH if is_cut else _MAX_BAR_WIDTH * median / longest
    end = _LABEL_WIDTH + (length if is_cut else third) + 8
    kind = {"primepods": "ours", "floor": "floor"}.get(name, "peer")
    weight = ' class="strong"' if kind == "ours" else ""
    label = escape("floor: aiohttp + orjson, untyped" if name == "floor" else name)
    figure = _time(median) if kind == "ours" else f"{_time(median)}  ({_ratio(median / ours)}x)"
    middle = y + _BAR_HEIGHT / 2
    if is_cut:
        x = _LABEL_WIDTH + _MAX_BAR_WIDTH - 30
        mark = f'<path class="page" d="M{x} {y} l8 0 l-6 {_BAR_HEIGHT} l-8 0 z"/>'
    else:
        ends = f'x1="{_LABEL_WIDTH + first:.1f}" x2="{_LABEL_WIDTH + third:.1f}"'
        mark = f'<line class="whisker" {ends} y1="{middle}" y2="{middle}"/>'
    size = f'width="{length:.1f}" height="{_BAR_HEIGHT}"'
    return [
        f'<text{weight} x="{_LABEL_WIDTH - 8}" y="{middle + 4.5}" text-anchor="end">{label}</text>',
        f'<rect class="{kind}" x="{_LABEL_WIDTH}" y="{y}" {size} rx="3"/>',
        f'<text{weight} x="{end:.1f}" y="{middle + 4.5}">{figure}</text>',
        mark,
    ]


def _ratio(value: float) -> str:
    # With two significant digits, 100 and more would be written as a power of ten.
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _wrap(text: str, width: int = 120) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
