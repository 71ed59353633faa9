"""Changes as a watch reports them, and a fleet on a clock of the test's own."""

from datetime import UTC, datetime, timedelta
from typing import Any

from primepods import InstallationState, PodChange, PodState, PodStatus
from primepods.fleet import Fleet

BEGIN = datetime(2026, 11, 25, 9, 58, tzinfo=UTC)

ROWS: dict[str, dict[str, Any]] = {
    "failed": {"status": PodState.ERROR},
    "pending": {"status": PodState.PROVISIONING},
    "installing": {"status": PodState.ACTIVE, "installation_status": InstallationState.ACTIVE},
    "unknown": {"status": PodState("HIBERNATING")},
    "deleting": {"status": PodState.DELETING},
    "stopped": {"status": PodState.STOPPED},
    "ready": {"status": PodState.ACTIVE, "ip": "192.0.2.1"},
}


def change(pod_id: str, condition: str, price: float | None = 2.0) -> PodChange:
    """The change to one of `ROWS`, or to "gone"."""
    row = None if condition == "gone" else PodStatus(pod_id=pod_id, cost_per_hr=price, **ROWS[condition])
    return PodChange(pod_id=pod_id, before=None, after=row)


class Timeline:
    """A clock for a fleet, moved by hand."""

    def __init__(self) -> None:
        self.time = BEGIN

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)


def grow(clock: Timeline, fleet: Fleet, pods: int, seconds: float) -> None:
    """Let pods appear, install and get ready; one in seven fails, half of those are gone then."""
    for condition in ("pending", "installing", "ready"):
        for number in range(pods):
            clock.advance(seconds / pods / 3)
            wrong = condition == "ready" and number % 7 == 0
            fleet.add(change(f"pod{number}", "failed" if wrong else condition))
    for number in range(0, pods, 14):
        fleet.add(change(f"pod{number}", "gone"))
