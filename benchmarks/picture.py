"""SVG chart of the contests, readable on light and dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape

from .measure import Contest, spread

_WIDTH = 860
_LABEL = 250
_BAR = 20
_GAP = 8
_HEAD = 44
_ROOM = 130
"""Space for the figure after a bar."""
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
    for note in notes:
        parts.append(f'<text class="soft" x="16" y="{y + 12}" font-size="11">{escape(note)}</text>')
        y += 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" width="{_WIDTH}" '
        f'height="{y + 12}" role="img" aria-label="How long primepods and other clients take">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" width="100%" height="100%" rx="8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(contest: Contest, top: int) -> tuple[list[str], int]:
    clients = sorted(contest.clients.items(), key=lambda item: statistics.median(item[1]))
    ours = statistics.median(contest.clients["primepods"])
    # Cut a bar that is far longer than the others, to keep those visible.
    medians = [statistics.median(samples) for _, samples in clients]
    shown = [samples for _, samples in clients if statistics.median(samples) <= 25 * ours]
    longest = max(spread(samples)[1] for samples in shown)
    width = _WIDTH - _LABEL - _ROOM
    parts = [f'<text class="head" x="16" y="{top + 20}">{escape(contest.what.replace("`", ""))}</text>']
    y = top + _HEAD - 10
    for (name, samples), median in zip(clients, medians, strict=True):
        kind = {"primepods": "ours", "floor": "floor"}.get(name, "peer")
        label = "floor: aiohttp + orjson, untyped" if name == "floor" else name
        cut = median > longest
        length = width if cut else width * median / longest
        first, third = (width * quartile / longest for quartile in spread(samples))
        end = _LABEL + (length if cut else third) + 8
        weight = ' class="strong"' if kind == "ours" else ""
        text = f"{_time(median)}" + ("" if kind == "ours" else f"  ({median / ours:.2g}x)")
        if median / ours >= 100:  # noqa: PLR2004 - where two digits would be written as a power of ten
            text = f"{_time(median)}  ({median / ours:.0f}x)"
        middle = y + _BAR / 2
        parts += [
            f'<text{weight} x="{_LABEL - 8}" y="{middle + 4.5}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="3"/>',
            f'<text{weight} x="{end:.1f}" y="{middle + 4.5}">{text}</text>',
        ]
        if cut:
            x = _LABEL + width - 30
            parts.append(f'<path class="page" d="M{x} {y} l8 0 l-6 {_BAR} l-8 0 z"/>')
        else:
            ends = f'x1="{_LABEL + first:.1f}" x2="{_LABEL + third:.1f}"'
            parts.append(f'<line class="whisker" {ends} y1="{middle}" y2="{middle}"/>')
        y += _BAR + _GAP
    return parts, y - top + 12


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - two digits


def _wrap(text: str, width: int = 120) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
