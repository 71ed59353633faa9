"""What a pod writes to its log while it boots: follows from its timeline, as everything does."""

from datetime import datetime

from .._state.pods import PodRecord
from ..clock import timestamp


def log_lines(record: PodRecord, epoch: datetime, now: float) -> list[str]:
    """The log up to `now`, oldest line first."""
    age = now - record.created
    lines: list[str] = []
    for step in record.timeline:
        if step.at > age:
            break
        at = timestamp(epoch, record.created + step.at)
        stage = step.stage
        lines.append(f"{at} pod {stage.status.lower()}, installation {stage.installation.lower()}")
        if stage.failure is not None:
            lines.append(f"{at} error: {stage.failure}")
    return lines
