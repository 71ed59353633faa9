"""HTML of a fleet, with the totals, a table of pods, and the chart."""

from __future__ import annotations

from typing import Final

from .._utils.money import money
from .._utils.summaries import escape_html, html_table
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
    trouble = ""
    if fleet.trouble is not None:
        reason = escape_html(str(fleet.trouble), _MAX_LINE_LENGTH)
        trouble = f"<p>The list cannot be read in full: {reason}</p>"
    parts = [
        _STYLE,
        f"<p><strong>{escape_html(heading)}</strong><br>{escape_html(totals(fleet), _MAX_LINE_LENGTH)}</p>",
        trouble,
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


def _table(fleet: Fleet) -> str:
    pods = fleet.pods(_MAX_ROWS)
    if not pods:
        return ""
    # The length of a fleet does not count gone pods.
    hidden = len(fleet) + fleet.counts.get(Condition.GONE, 0) - len(pods)
    return html_table(f"and {hidden:,} more" if hidden else "", _COLUMNS, map(_row, pods))


def _row(pod: FleetPod) -> tuple[object, ...]:
    listed, status = pod.pod, pod.status
    progress = None if status is None else status.installation_progress
    is_installing = pod.condition is Condition.INSTALLING and progress is not None
    return (
        pod.name,
        pod.condition or "not seen",
        f"{progress} %" if is_installing else None,
        None if listed is None else f"{listed.gpu_count} x {listed.gpu_name}",
        money(pod.price_hr),
        pod.pod_id,
        None if status is None else status.failure or status.ssh,
    )
