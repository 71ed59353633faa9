"""HTML of a fleet, with the totals, a table of pods, and the chart."""

from __future__ import annotations

from typing import Final

from .._utils.money import money
from .._utils.summaries import escape_html
from ..charts import fleet_chart
from ..fleet import Condition, Fleet, FleetPod

_MAX_ROWS: Final = 12
_MAX_LINE_LENGTH: Final = 400
_COLUMNS: Final = (
    "name",
    "condition",
    "installed",
    "GPUs",
    "price/h",
    "id",
    "how to log in, or why it failed",
)
# Notebooks align table cells to the right. The class limits the rules to outputs of this package.
_STYLE: Final = """<style>
.primepods-live th, .primepods-live td { text-align: left !important }
.primepods-live td:nth-child(-n+6) { white-space: nowrap }
.primepods-live caption { caption-side: bottom; text-align: left }
</style>"""


def bundle(fleet: Fleet, heading: str) -> dict[str, str]:
    """Return a fleet as HTML and as a line of text, by MIME type."""
    line = f"{heading}: {totals(fleet)}"
    parts = [
        _STYLE,
        f"<p><strong>{escape_html(heading)}</strong><br>{escape_html(totals(fleet), _MAX_LINE_LENGTH)}</p>",
        _trouble(fleet),
        _table(fleet),
        str(fleet_chart(fleet)) if fleet.samples else "",
    ]
    return {"text/plain": line, "text/html": f'<div class="primepods-live">{"".join(parts)}</div>'}


def totals(fleet: Fleet) -> str:
    """Return the totals of a fleet as one line."""
    parts = [f"{count:,} {condition}" for condition, count in fleet.counts.items()]
    if fleet.unseen:
        parts.append(f"{fleet.unseen:,} not seen")
    if not parts:
        parts.append("no pods" if fleet.listed else "no pod seen yet")
    parts += [f"{money(fleet.cost_per_hr)} an hour", f"{money(fleet.spent)} so far"]
    return " · ".join(parts)


def _trouble(fleet: Fleet) -> str:
    if fleet.trouble is None:
        return ""
    return f"<p>The list cannot be read in full: {escape_html(str(fleet.trouble), _MAX_LINE_LENGTH)}</p>"


def _table(fleet: Fleet) -> str:
    pods = fleet.pods(_MAX_ROWS)
    if not pods:
        return ""
    # The length of a fleet does not count gone pods.
    total = len(fleet) + fleet.counts.get(Condition.GONE, 0)
    more = f"<caption>and {total - len(pods):,} more</caption>" if total > len(pods) else ""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "".join(f"<tr>{_row(pod)}</tr>" for pod in pods)
    return f"<table>{more}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(pod: FleetPod) -> str:
    listed = pod.pod
    failure_or_login = None if pod.status is None else pod.status.failure or pod.status.ssh
    cells = (
        escape_html(pod.name),
        escape_html(pod.condition or "not seen"),
        _progress(pod),
        escape_html("" if listed is None else f"{listed.gpu_count} x {listed.gpu_name}"),
        money(pod.price_hr),
        escape_html(pod.pod_id),
        escape_html("" if failure_or_login is None else str(failure_or_login)),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _progress(pod: FleetPod) -> str:
    """Return a progress bar, or an empty text if the pod is not installing or its progress is unknown."""
    progress = None if pod.status is None else pod.status.installation_progress
    if pod.condition is not Condition.INSTALLING or progress is None:
        return ""
    return f'<progress max="100" value="{progress}"></progress> {progress} %'
