"""Check of the events of leases against the model."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from primepods.events import Event, OperationEnded, OperationStarted, RequestEnded

from .model import PODS, UNLOCKED, State, World, reach

_EVENTS: Final = {
    "orders": "POST",
    "records the id": "LeaseStarted",
    "hands": "LeaseReady",
    "keeps": "LeaseKept",
    "deletes": "DeletionEnded",
    "gets a": "DeletionEnded",
    "gives up the": "ReleaseFailed",
}
"""The events of a lease's steps, by their verbs; other steps have none."""
_WORLD: Final = World(has_expiry=True)


def check_trace(events: Iterable[Event]) -> None:
    """Check that the model allows what each lease of a client has done.

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
        elif kind in {"LeaseReleased", *_EVENTS.values()}:
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
    # Each order reports its own release, and the last order is released first.
    is_released = state.phase == "delete" and not state.is_kept and state.pod not in ("", "theirs")
    if is_released and state.pod not in state.deletes and PODS[state.pod] not in state.told:
        moves.append(("LeaseReleased", state._replace(pod="")))
    for text, after in _WORLD.steps(state):
        step = text.removeprefix("the lease ")
        label = next((event for verb, event in _EVENTS.items() if step.startswith(verb)), "")
        if label == "DeletionEnded" and not (state.pod and f" {state.pod}" in text):
            label += " of another pod"
        is_end = state.phase == "delete" and not state.deletes
        is_unseen = state.pod == "theirs" or (state.pod and state.status(state.pod) == "hidden")
        if is_end and is_unseen and state.open_orders:
            # Nothing has shown the pod of the order under its name.
            label = "ReleaseFailed"
        is_silent = is_end and not label and is_released and PODS[state.pod] not in state.told
        if not is_silent and (step != text or text.startswith("the list")):
            moves.append((label, after))
            if after.phase == "begin":
                # There may be more than two specs: one in between is like the first.
                moves.append((label, after._replace(order=0)))
    return moves
