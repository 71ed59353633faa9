"""Client-side filters, applied to each page of a list as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from fnmatch import fnmatchcase

from .._utils.arguments import check_text, check_texts
from .._utils.text import quote
from ..models import HistoryRecord, Pod, PodState

Words = str | Iterable[str] | None
"""One word, several alternatives, or ``None`` for all."""


def pod_filter(*, status: Words, name: Words, gpu_type: Words) -> Callable[[Pod], bool]:
    """Return a predicate that accepts the wanted pods.

    Raises:
        TypeError: A value is neither a string nor an iterable of strings.
        ValueError: A string is not valid, an iterable is empty, or a status is unknown.
    """
    states = _alternatives("status", status)
    names, gpus = _alternatives("name", name), _alternatives("gpu_type", gpu_type)
    if states is not None:
        states = tuple(map(_check_state, states))

    def keep(pod: Pod) -> bool:
        return (
            (states is None or pod.status in states)
            # `[` is not a wildcard, unlike in fnmatch.
            and _matches_any(
                names, lambda name: pod.name == name or fnmatchcase(pod.name or "", name.replace("[", "[[]"))
            )
            and _matches_any(gpus, pod.has_gpu)
        )

    return keep


def record_filter(
    *, since: datetime | None, until: datetime | None, kind: Words
) -> Callable[[HistoryRecord], bool]:
    """Return a predicate that accepts the wanted history records.

    Raises:
        TypeError: A time is not a datetime, or ``kind`` is neither a string nor an iterable of strings.
        ValueError: A time has no time zone, a string is not valid, or an iterable is empty.
    """
    _check_time("since", since)
    _check_time("until", until)
    kinds = _alternatives("kind", kind)

    def keep(record: HistoryRecord) -> bool:
        # A record without an end has only a creation time.
        recorded_at = record.terminated_at or record.created_at
        return (
            (since is None or recorded_at >= since)
            and (until is None or recorded_at < until)
            and _matches_any(kinds, lambda word: word.lower() == record.type.lower())
        )

    return keep


def _matches_any(wanted: tuple[str, ...] | None, holds: Callable[[str], bool]) -> bool:
    return wanted is None or any(map(holds, wanted))


def _alternatives(name: str, value: Words) -> tuple[str, ...] | None:
    """Return the allowed words, checked; ``None`` if all are allowed."""
    if value is None:
        return None
    words = (check_text(name, value),) if isinstance(value, str) else check_texts(name, value)
    if not words:
        raise ValueError(f"{name} must have at least one value, got {quote(value)}. Leave it out for all.")
    return words


def _check_state(word: str) -> PodState:
    state = word if isinstance(word, PodState) else PodState(word.upper())
    if not state.is_known and not isinstance(word, PodState):
        known = ", ".join(PodState)
        raise ValueError(
            f"status must be one of {known}, got {quote(word)}. To filter by a status that this "
            f"version does not know, pass PodState({quote(word)})."
        )
    return state


def _check_time(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {quote(value)}")
    if value.utcoffset() is None:
        raise ValueError(f"{name} must have a time zone, such as datetime.UTC, got {quote(value)}")
