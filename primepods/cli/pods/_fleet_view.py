"""Screen of a fleet: totals, a bar of conditions, and the pods that fit."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from rich.console import Console

from primepods._utils.money import money
from primepods.fleet import Condition, Fleet, FleetPod

from .._shared.durations import short_age
from .._shared.table import Cell, Column, paint, render_table
from .._shared.text import count, printable, shorten_ids

_COLUMNS: Final = (
    Column("ID"),
    Column("NAME", min_width=8),
    # The heading is as wide as the longest condition, so that the following columns do not move.
    Column("STATE".ljust(max(map(len, Condition)))),
    Column("GPU", min_width=12, rank=3),
    Column("PRICE/H", right=True, rank=1),
    Column("AGE", right=True, rank=3),
    Column("PROGRESS", min_width=12, rank=2),
)
_PROGRESS_WIDTH: Final = 10
"""Characters of a pod's progress bar."""
_MAX_NOTE_LENGTH: Final = 300
_NOT_SEEN: Final = "not seen"
"""Text for a pod whose status has not been received yet."""
_COLOURS: Final = {
    Condition.FAILED: "red",
    Condition.INSTALLING: "cyan",
    Condition.PENDING: "yellow",
    Condition.UNKNOWN: "magenta",
    Condition.DELETING: "dim",
    Condition.STOPPED: "dim",
    Condition.READY: "green",
    Condition.GONE: "dim",
}


def render_fleet(fleet: Fleet, console: Console, notes: Sequence[str] = ()) -> str:
    """Return a fleet as at most ``console.height`` lines.

    Args:
        fleet: The fleet.
        console: The screen.
        notes: Messages to show below the pods, such as warnings.
    """
    lines_above = [*render_totals(fleet, console), _bar(fleet, console), ""]
    lines_below: list[str] = []
    for note in notes:
        note_lines = wrap(printable(note, max_length=_MAX_NOTE_LENGTH), console.width)
        lines_below += [_styled(line, "yellow", console) for line in note_lines]
    max_lines = console.height - len(lines_above) - len(lines_below)
    lines = [*lines_above, *_pod_lines(fleet, max_lines, console), *lines_below]
    return "\n".join(lines[: console.height])


def _pod_lines(fleet: Fleet, max_lines: int, console: Console) -> list[str]:
    """Return a table of the pods that fit, and "and N more" for the others; no lines if no pod fits."""
    total = len(fleet) + fleet.counts.get(Condition.GONE, 0)
    max_rows = max_lines - 1  # without the heading
    if total > max_rows:
        max_rows -= 1  # the line "and N more"
    if max_rows <= 0 or not total:
        return []
    pods = fleet.pods(max_rows)
    ids = shorten_ids(pod.pod_id for pod in pods)
    rows = [[ids[pod.pod_id], *_cells(pod)] for pod in pods]
    lines = render_table(_COLUMNS, rows, width=console.width, colour=not console.no_color).splitlines()
    if total > max_rows:
        lines.append(_styled(f"and {total - max_rows:,} more", "dim", console))
    return lines


def render_totals(fleet: Fleet, console: Console) -> list[str]:
    """Return lines with the number of pods, their costs, and the number of pods in each condition."""
    if not (fleet.listed or len(fleet)):
        return ["reading the list of pods"]
    costs = (count(fleet, "pod"), f"{money(fleet.cost_per_hr)} an hour", f"{money(fleet.spent)} so far")
    counts = [
        Cell(f"{number:,} {condition}", _COLOURS[condition]) for condition, number in fleet.counts.items()
    ]
    if fleet.unseen:
        counts.append(Cell(f"{fleet.unseen:,} {_NOT_SEEN}"))
    return [*_wrap([Cell(text, "bold") for text in costs], console), *_wrap(counts, console)]


def describe(pod: FleetPod) -> str:
    """Return a pod's condition, with its failure, progress or ssh address if these are known."""
    condition, detail = pod.condition or _NOT_SEEN, _detail(pod)
    return f"{condition}: {detail}" if detail else condition


def _detail(pod: FleetPod) -> str:
    status = pod.status
    if status is None:
        return ""
    if pod.condition is Condition.FAILED:
        # The reason or, if the API gives none, the failed state.
        return status.installation_failure or status.failure or ""
    if pod.condition is Condition.INSTALLING and status.installation_progress is not None:
        return f"{status.installation_progress} %"
    return str(status.ssh) if pod.condition is Condition.READY and status.ssh is not None else ""


def _wrap(words: Sequence[Cell], console: Console) -> list[str]:
    """Return words with gaps between them, wrapped into lines."""
    lines = [""]
    width = 0
    for word in words:
        gap = "   " if width else ""
        if width and width + len(gap) + len(word.text) > console.width:
            lines.append("")
            width = 0
            gap = ""
        lines[-1] += gap + _styled(word.text, word.colour, console)
        width += len(gap) + len(word.text)
    return lines


def _bar(fleet: Fleet, console: Console) -> str:
    """Return a bar with a segment for each condition that pods have, except GONE.

    Without colours, a segment repeats the first letter of its condition.
    """
    counts = {
        condition: number for condition, number in fleet.counts.items() if condition is not Condition.GONE
    }
    total = sum(counts.values())
    segments: list[str] = []
    start = 0
    pods_so_far = 0
    for position, (condition, number) in enumerate(counts.items(), start=1):
        pods_so_far += number
        # Each segment has at least one character, and leaves one for each segment that follows.
        max_end = console.width - (len(counts) - position)
        end = min(max_end, max(start + 1, round(pods_so_far * console.width / total)))
        character = condition[0] if console.no_color else "█"
        segments.append(_styled(character * (end - start), _COLOURS[condition], console))
        start = end
    return "".join(segments)


def _cells(pod: FleetPod) -> list[str | Cell]:
    colour = None if pod.condition is None else _COLOURS[pod.condition]
    is_gone_or_unseen = pod.status is None
    return [
        pod.name,
        Cell(pod.condition or _NOT_SEEN, colour),
        "" if pod.pod is None else f"{pod.pod.gpu_count} x {pod.pod.gpu_name}",
        "" if is_gone_or_unseen else money(pod.price_hr),
        "" if pod.pod is None else short_age(pod.pod.created_at),
        _progress(pod),
    ]


def _progress(pod: FleetPod) -> str | Cell:
    detail = _detail(pod)
    if pod.condition is Condition.FAILED:
        return Cell(detail, "red")
    if pod.condition is Condition.INSTALLING and pod.status is not None and detail:
        progress = pod.status.installation_progress or 0
        done = max(0, min(_PROGRESS_WIDTH, progress * _PROGRESS_WIDTH // 100))
        return Cell(f"{'█' * done}{'░' * (_PROGRESS_WIDTH - done)} {detail}", "cyan")
    return detail


def _styled(text: str, colour: str | None, console: Console) -> str:
    return text if console.no_color else paint(text, colour)
