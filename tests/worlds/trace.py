"""Check of the events of leases against the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from primepods.events import Event, OperationEnded, OperationStarted, RequestEnded

from .model import UNLOCKED, State, World, reach

_EVENTS: Final = {
    "orders": "POST",
    "records the id": "LeaseStarted",
    "hands": "LeaseReady",
    "keeps": "LeaseKept",
    "deletes": "DeletionEnded",
    "gets a": "DeletionEnded",
    "gives up the": "ReleaseFailed",
    "ends, and": "LeaseReleased",
    "tries": "LeaseReleased",
}
"""The events of a lease's steps, by their verbs; other steps have none."""
_WORLD: Final = World(has_expiry=True)


def check_trace(events: Iterable[Event]) -> None:
    """Check that the model allows what each lease of a client has done; a lease has at most two specs.

    Args:
        events: All events of the client, in their order.

    Raises:
        AssertionError: A lease has done something that no run of the model does.
    """
    leases: dict[int, list[Event]] = {}
    lease_of: dict[int, int] = {}
    for event in events:
        if isinstance(event, OperationStarted):
            (number,) = event.operations
            lease = number if event.name == "pods.lease" else lease_of.get(event.parent or 0)
            lease_of |= {} if lease is None else {number: lease}
        for lease in {lease_of[number] for number in event.operations if number in lease_of}:
            leases.setdefault(lease, []).append(event)
    for lease, its_events in leases.items():
        states, labels = _after(frozenset({State()}), ""), list[str]()
        for label in _labels(lease, its_events):
            labels.append(label)
            states = _after(states, label)
            assert states, f"no run of the model has these events of a lease: {labels}"


def _labels(lease: int, events: list[Event]) -> Iterator[str]:
    """Yield a label for each event that a step of the model has."""
    pod_id, is_ordering = "", False
    for event in events:
        kind = type(event).__name__
        if kind == "LeaseStarted":
            pod_id = getattr(event, "pod_id", "")
        owner = "" if getattr(event, "pod_id", None) in (pod_id, None) else " of another pod"
        if isinstance(event, RequestEnded):
            is_order = event.method == "POST" and event.route == "/api/v1/pods/"
            # A refused order may be sent again at once: that is one step.
            if is_order and not is_ordering:
                yield "POST"
            is_ordering = is_order
        elif isinstance(event, OperationEnded) and event.operations == (lease,):
            yield "end"
        elif kind in _EVENTS.values():
            yield f"{kind}{owner}"


@cache
def _after(states: frozenset[State], label: str) -> frozenset[State]:
    """Return where a label, and then steps without events, can lead."""
    if label == "end":
        return frozenset(state for state in states if state.phase in UNLOCKED)
    moved = {after for state in states for seen, after in _moves(state) if seen == label} if label else states
    return frozenset(reach(moved, lambda state: [after for seen, after in _moves(state) if not seen]))


@cache
def _moves(state: State) -> list[tuple[str, State]]:
    """Return what the lease and the list can do next: label and result."""
    moves = list[tuple[str, State]]()
    for text, after in _WORLD.steps(state):
        actor, step = text[:10], text[10:]
        label = next((event for verb, event in _EVENTS.items() if step.startswith(verb)), "")
        if label == "DeletionEnded":
            label += "" if state.pod and f" {state.pod}" in text else " of another pod"
        if label == "LeaseReleased" and (state.phase != "delete" or not state.pod or state.is_kept):
            label = ""
        if label == "LeaseReleased" and state.pod == "theirs":
            # It has forgotten the id in the response to its order. Its own pod may have been found by name.
            label = "ReleaseFailed" if state.unseen else ""
        if actor in ("the lease ", "the list s"):
            moves.append((label, after))
    return moves
