"""The rules of leases, as a model that is searched exhaustively: which pods may be used or deleted, and when.

A lease orders a pod under a unique name, waits until it is ready, hands it over, and deletes it. If its
process dies, a sweep on the same machine reads the lease's record, and a sweep on any other machine reads the
expiry in the pod's name. :func:`explore` visits every state that these three, the API and the faults can
reach together, and checks the promises in each. :class:`Rules` has the rules: without any of them, a promise
is broken.

The model is smaller than the world: two specs, one order that a gateway sends twice, one pod of somebody
else, and a list that lags behind, but shows each pod in the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import attrs

PODS: Final = {
    "pod-1": "training-k3v9q2mxz7",
    "twin-1": "training-k3v9q2mxz7",
    "pod-2": "training-5t7hw0c8nd",
    "theirs": "training",
}
"""The pods and their names. A gateway that sends the first order twice creates the twin; the last pod is
somebody else's."""
ORDERS: Final = (PODS["pod-1"], PODS["pod-2"])
"""The unique names of the lease's two orders, one for each spec."""
OURS: Final = ("pod-1", "twin-1", "pod-2")
RUNNING: Final = ("hidden", "listed")
UNLOCKED: Final = ("ended", "dead")
"""Phases in which the lease's process no longer holds the lock of its record."""


@attrs.frozen(kw_only=True)
class Rules:
    """What a lease and a sweep must do. With one of these ``False``, a promise is broken."""

    # Before the order is sent, its name is on the disk: a power cut loses what is not synced.
    syncs_record_before_order: bool = True
    # An order that was sent is never abandoned: a cancellation waits for its response.
    awaits_sent_order: bool = True
    # All names that a lease has ordered under remain its own: what appears under them is deleted at its end.
    remembers_all_names: bool = True
    # What nothing has ever shown stays in the record, for sweeps.
    keeps_record_of_unseen_pod: bool = True
    # An id that the list shows under another name is somebody else's pod, whatever a response has claimed.
    believes_list: bool = True
    # An id that the list does not show may be somebody else's: it is neither used nor deleted.
    awaits_list: bool = True
    # Only the whole unique name is a proof: a name that somebody chose may be its prefix.
    compares_whole_names: bool = True
    # All pods under a unique name are the lease's, not only the one in the response.
    deletes_twins: bool = True
    # A 404 alone proves nothing: the replica that answers may lag behind.
    doubts_404: bool = True
    # An accepted deletion is no proof, either: a pod is gone when the API shows that it has ended.
    confirms_deletion: bool = True
    # A lease that gives up unlocks its record, so that a sweep deletes the pod.
    unlocks_on_giving_up: bool = True
    # A lease that gives up leaves its record.
    keeps_record_on_giving_up: bool = True
    # A sweep reads the list when it holds the lock: the process may order and die after an earlier list.
    lists_after_locking: bool = True
    # A sweep leaves a locked record alone: its process lives.
    respects_lock: bool = True
    # A sweep deletes what the list shows under the recorded name, not what was recorded as the id.
    sweeps_by_name: bool = True
    # The record says which pod is kept, so that no sweep deletes it.
    records_keeping: bool = True
    # The record of a kept pod stays until the list was searched for twins.
    keeps_record_until_twins_are_deleted: bool = True
    # Sweeps compare an expiry with the server's time: the clock of their machine may be hours ahead.
    sweeps_by_server_time: bool = True
    # The expiry in a name is in the server's time: the clock of the lease's machine may be hours behind.
    names_server_time: bool = True
    # With `max_hours`, nothing is ordered under a name without an expiry.
    always_names_expiry: bool = True
    # Only id and name are decoded to identify a pod: another field that cannot be read hides no pod.
    reads_damaged_rows: bool = True


class State(NamedTuple):
    """The world at one moment."""

    phase: str = "begin"  # of the lease's process
    order: int = 0  # the number of its current order
    pod: str = ""  # the pod that it holds, by the response to its order or by its name
    is_kept: bool = False
    goes_on: bool = False  # whether it tries the next spec when its pod is deleted
    open_orders: frozenset[str] = frozenset()  # names of orders whose pods are not known to be gone
    deletes: frozenset[str] = frozenset()  # the pods that it deletes
    told: frozenset[str] = frozenset()  # names in the errors that its user got
    record: frozenset[str] = frozenset()  # lines of its record: names, ids, and the pod that is kept
    unsynced: frozenset[str] = frozenset()  # lines that a power cut loses
    pods: tuple[str, ...] = ("", "", "", "hidden")  # of each of PODS: "", hidden, listed or gone
    is_expired: bool = False  # whether the server's clock has passed the end of `max_hours`
    sweep: frozenset[str] | None = None  # what a sweep with the record deletes: pods, and the record
    old_list: tuple[str, ...] = ()  # the list that a sweep has read before it has locked the record

    def status(self, pod: str) -> str:
        """Return whether a pod is hidden (by a list that lags), listed or gone."""
        return self.pods[tuple(PODS).index(pod)]

    def set(self, status: str, *pods: str) -> State:
        """Return a state in which these pods have this status."""
        statuses = tuple(status if pod in pods else self.status(pod) for pod in PODS)
        return self._replace(pods=statuses)

    def sync(self, *lines: str) -> State:
        """Return a state in which lines are appended to the record, which is on the disk."""
        return self._replace(record=self.record | self.unsynced | {*lines}, unsynced=frozenset())

    def remove_record(self) -> State:
        """Return a state without the record."""
        return self._replace(record=frozenset(), unsynced=frozenset())

    def keeps(self, pod: str) -> bool:
        """Return whether a pod is kept."""
        return self.is_kept and pod == self.pod

    def has_shown(self, name: str) -> bool:
        """Return whether the list or the history shows a pod with a name."""
        return any(PODS[pod] == name and self.status(pod) in ("listed", "gone") for pod in OURS)


Step = tuple[str, State]


@attrs.frozen
class World:
    """A lease, two sweeps, the API and faults.

    Attributes:
        has_expiry: Whether the lease has ``max_hours``. The promises without it are smaller: they need the
            disk, and a list that shows at once what a gateway has created beside the response.
        rules: The rules.
    """

    has_expiry: bool
    rules: Rules = Rules()

    def steps(self, state: State) -> Iterator[Step]:
        """Yield what can happen next without a fault, and its result."""
        act = getattr(self, f"_{state.phase}", None)
        for text, after in act(state) if act else ():
            yield f"the lease {text}", after
        yield from self._sweep_with_record(state)
        yield from self._sweep_elsewhere(state)
        for pod in PODS:
            # While the lease deletes, it does not look: this is the same as a pod that appears later.
            if state.status(pod) == "hidden" and state.phase != "delete":
                yield f"the list shows {pod}", state.set("listed", pod)
        if self.has_expiry and not state.is_expired:
            yield "max_hours pass", state._replace(is_expired=True)

    def faults(self, state: State) -> Iterator[Step]:
        """Yield the faults that can happen next."""
        if state.phase not in UNLOCKED:
            crash = state._replace(phase="dead", deletes=frozenset(), unsynced=frozenset())
            yield "FAULT: a power cut", crash
            if self.has_expiry:
                yield "FAULT: the machine and its disk are lost", crash._replace(record=frozenset())
        if state.sweep is not None:
            yield "FAULT: the sweep is killed", state._replace(sweep=None)

    # The process of the lease: a method for each phase.

    def _begin(self, state: State) -> Iterator[Step]:
        name = ORDERS[state.order]
        state = state._replace(phase="order", unsynced=frozenset({name}))
        if self.rules.syncs_record_before_order:
            state = state.sync()
        yield f"records the name {name}", state

    def _order(self, state: State) -> Iterator[Step]:
        yield "is cancelled before it orders", state._replace(phase="release")
        name, pod = ORDERS[state.order], f"pod-{state.order + 1}"
        outcomes = {"no pod": (), "a pod": (pod,), "two pods": (pod, "twin-1")}
        for what, created in list(outcomes.items())[: 3 - state.order]:
            text = f"orders {name}; the API creates {what}"
            is_hidden = self.has_expiry or len(created) < 2
            sent = state.set("hidden" if is_hidden else "listed", *created)
            sent = sent._replace(open_orders=sent.open_orders | {name})
            if created:
                yield f"{text}; the response has its id", sent._replace(phase="answered", pod=pod)
            yield f"{text}; the response has the id of theirs", sent._replace(phase="answered", pod="theirs")
            yield f"{text}; the response is lost", sent._replace(phase="unanswered")
            refused = sent if self.has_expiry else sent.set("listed", *created)
            yield f"{text}; the response is a refusal", refused._replace(phase="refused")
            if not self.rules.awaits_sent_order:
                yield (
                    f"{text}; is cancelled before the response",
                    sent.remove_record()._replace(phase="ended"),
                )

    def _answered(self, state: State) -> Iterator[Step]:
        yield f"records the id {state.pod}", state.sync(f"id {state.pod}")._replace(phase="boot")

    def _unanswered(self, state: State) -> Iterator[Step]:
        """Search for the pod of an order that was refused, or whose response was lost."""
        name = ORDERS[state.order]
        if found := sorted(self._listed_as(state, {name})):
            yield f"finds {found[0]} by its name", state._replace(phase="answered", pod=found[0])
            return
        told = state.told
        if state.phase == "refused":
            state = state._replace(open_orders=state.open_orders - {name}, record=state.record - {name})
        else:
            told |= {name}
        if state.order == 0:
            yield "finds no pod, and tries the next spec", state._replace(phase="begin", order=1)
        yield "finds no pod, and fails", state._replace(phase="release", told=told)

    _refused = _unanswered

    def _boot(self, state: State) -> Iterator[Step]:
        yield "is cancelled while its pod boots", state._replace(phase="release")
        if state.order == 0:
            text = "gives its pod up, which does not become ready"
            yield text, state._replace(phase="release", goes_on=True)
        if state.status(state.pod) in RUNNING:
            if self._is_anothers(state, state.pod):
                yield "reads the list: its pod is another's", state._replace(phase="release")
            elif not self._is_doubtful(state):
                seen = state._replace(open_orders=state.open_orders - {PODS[state.pod]})
                yield f"hands {state.pod} over", seen._replace(phase="use")

    def _use(self, state: State) -> Iterator[Step]:
        yield "ends its block", state._replace(phase="release")
        if not state.is_kept:
            kept = state.sync(f"kept {state.pod}") if self.rules.records_keeping else state
            if not self.rules.keeps_record_until_twins_are_deleted:
                kept = state.remove_record()
            yield f"keeps {state.pod}", kept._replace(is_kept=True)
        for pod in sorted(self._found(state) - {state.pod}):
            for text, after, _ in self._deletion(state, pod):
                yield text, after

    def _release(self, state: State) -> Iterator[Step]:
        """Read the list once, and choose the pods to delete."""
        is_own = state.pod and not state.keeps(state.pod) and not self._is_anothers(state, state.pod)
        is_own = is_own and not self._is_doubtful(state)
        deletes = (self._found(state) - {state.pod}) | ({state.pod} if is_own else set())
        open_orders = frozenset(name for name in state.open_orders if not state.has_shown(name))
        yield (
            "reads the list",
            state._replace(phase="delete", deletes=frozenset(deletes), open_orders=open_orders),
        )

    def _delete(self, state: State) -> Iterator[Step]:
        """Delete one pod after the other, and confirm that it is gone."""
        for pod in sorted(state.deletes):
            name = PODS[pod]
            for text, after, is_confirmed in self._deletion(state, pod):
                rest = after._replace(deletes=state.deletes - {pod}, open_orders=state.open_orders - {name})
                failed = after._replace(phase="release", deletes=frozenset())
                yield text, rest if is_confirmed else failed
            yield (
                f"gives up the deletion of {pod}",
                state._replace(
                    deletes=frozenset(other for other in state.deletes if PODS[other] != name),
                    open_orders=state.open_orders | {name},
                    told=state.told | {name},
                ),
            )
        if state.deletes:
            return
        given_up = state.open_orders & state.told if self.rules.keeps_record_on_giving_up else set[str]()
        unknown = state.open_orders - state.told if self.rules.keeps_record_of_unseen_pod else set[str]()
        names = {*given_up, *unknown}
        lines = {*names, f"kept {state.pod}"} if names else names
        state = state._replace(record=state.record & lines, unsynced=frozenset())
        if state.goes_on and not state.told:
            yield "tries the next spec", state._replace(phase="begin", order=1, pod="", goes_on=False)
        else:
            is_stuck = state.told and not self.rules.unlocks_on_giving_up
            text = "ends, and leaves its record" if state.record else "ends, and removes its record"
            yield text, state._replace(phase="stuck" if is_stuck else "ended")

    # Sweeps.

    def _sweep_with_record(self, state: State) -> Iterator[Step]:
        """Sweep on the machine of the lease."""
        is_locked = state.phase not in UNLOCKED and self.rules.respects_lock
        if state.sweep is None and not state.old_list and not self.rules.lists_after_locking:
            yield "a sweep reads the list", state._replace(old_list=state.pods)
        elif state.sweep is None and state.record and not is_locked:
            swept = state._replace(sweep=self._swept(state), old_list=())
            yield "a sweep locks the record, and reads the list", swept
        elif state.sweep is not None and not state.sweep & {*PODS}:
            swept = state.remove_record() if state.sweep else state
            yield "the sweep ends", swept._replace(sweep=None)
        for pod in sorted((state.sweep or frozenset()) & {*PODS})[:1]:
            for text, after, is_confirmed in self._deletion(state, pod):
                rest = (state.sweep or frozenset()) - {pod}
                yield f"the sweep {text}", after._replace(sweep=rest if is_confirmed else None)

    def _swept(self, state: State) -> frozenset[str]:
        """Return what a sweep with the record deletes: pods, and the record if nothing else is unknown."""
        ids = {pod for pod in PODS if f"id {pod}" in state.record}
        if ids and not self.rules.sweeps_by_name:
            return frozenset(ids)
        names = state.record & {*ORDERS}
        seen = state._replace(pods=state.old_list or state.pods)
        # A recorded id that the list lacks is looked up.
        pods = self._listed_as(seen, names) | (ids & self._listed_as(state, names))
        is_known = all(seen.has_shown(name) or name in map(PODS.get, pods) for name in names)
        kept = {pod for pod in pods if f"kept {pod}" in state.record}
        return frozenset((pods - kept) | ({"record"} if is_known else set()))

    def _sweep_elsewhere(self, state: State) -> Iterator[Step]:
        """Sweep on another machine, which has no record, and whose clock is hours ahead."""
        is_past = state.is_expired or not self.rules.sweeps_by_server_time or not self.rules.names_server_time
        if self.has_expiry and self.rules.always_names_expiry and is_past:
            for pod in sorted(self._listed_as(state, {*ORDERS})):
                yield f"a sweep elsewhere deletes {pod}, which has expired", state.set("gone", pod)

    # What leases and sweeps know from the API.

    def _listed_as(self, state: State, names: set[str] | frozenset[str]) -> set[str]:
        """Return the pods that the list shows under these names."""
        if not self.rules.reads_damaged_rows:
            return set()
        listed = [pod for pod in PODS if state.status(pod) == "listed"]
        if self.rules.compares_whole_names:
            return {pod for pod in listed if PODS[pod] in names}
        return {pod for pod in listed if any(name.startswith(PODS[pod]) for name in names)}

    def _found(self, state: State) -> set[str]:
        """Return the pods that the list shows under the names that the lease has ordered under."""
        names = ORDERS[: state.order + 1] if self.rules.remembers_all_names else [ORDERS[state.order]]
        return self._listed_as(state, {*names}) if self.rules.deletes_twins else set()

    def _is_anothers(self, state: State, pod: str) -> bool:
        """Return whether the list shows a pod under a name that is not the lease's."""
        is_listed = state.status(pod) == "listed" and self.rules.believes_list
        return is_listed and pod not in self._listed_as(state, {*ORDERS})

    def _is_doubtful(self, state: State) -> bool:
        """Return whether the list has not shown yet whose the lease's pod is."""
        return state.status(state.pod) == "hidden" and self.rules.awaits_list

    def _deletion(self, state: State, pod: str) -> Iterator[tuple[str, State, bool]]:
        """Yield the outcomes of a deletion, and whether it is confirmed."""
        yield f"deletes {pod}", state.set("gone", pod), True
        if state.status(pod) in RUNNING:
            yield f"gets a 404 for {pod}, which runs", state, not self.rules.doubts_404
            yield f"gets a 200 for {pod}, which runs on", state, not self.rules.confirms_deletion


NOT_ANOTHERS: Final = "Another's pod is neither used nor deleted."
ASKED: Final = "Only pods whose lease has ended or expired are deleted."
ALL_DELETED: Final = "After a lease, no pod is left running but the one that is kept."
KNOWN: Final = "Each running pod is in a record, has an expiry, or was told."
CAN_END: Final = "If nothing else fails, all pods are deleted at last."


def broken_promise(world: World, before: State, after: State) -> str:
    """Return the promise that a step breaks, or an empty text."""
    if after.status("theirs") == "gone" or (after.phase == "use" and after.pod == "theirs"):
        return NOT_ANOTHERS
    is_ending = before.phase in ("delete", *UNLOCKED)
    is_released = before.phase == "delete" and not before.deletes and after.phase == "ended"
    has_expiry = world.has_expiry and world.rules.always_names_expiry
    for pod in OURS:
        is_deleted = before.status(pod) != "gone" and after.status(pod) == "gone"
        is_needed = before.keeps(pod) or not (is_ending or (before.phase == "use" and pod != before.pod))
        if is_deleted and is_needed and not before.is_expired:
            return ASKED
        if after.keeps(pod) or after.phase not in UNLOCKED or after.status(pod) not in RUNNING:
            continue
        if is_released and after.status(pod) == "listed" and PODS[pod] not in after.told:
            return ALL_DELETED
        if not has_expiry and PODS[pod] not in after.record | after.told:
            return KNOWN
    return ""


def is_end(state: State) -> bool:
    """Return whether the lease and its sweeps have left nothing behind."""
    left = any(state.status(pod) in RUNNING and not state.keeps(pod) for pod in OURS)
    return state.phase in UNLOCKED and state.sweep is None and not left


class Search(NamedTuple):
    """Result of :func:`explore`."""

    states: int  # how many were visited
    promise: str  # the promise that is broken, or an empty text
    trace: list[str]  # the shortest run that breaks it, step by step


def explore(world: World, start: State) -> Search:
    """Visit all states that can follow, the nearest first, until a promise is broken."""
    origins: dict[State, tuple[State, str] | None] = {start: None}
    sources: dict[State, list[State]] = {}

    def result(promise: str, state: State, *trace: str) -> Search:
        while origin := origins[state]:
            state, text = origin
            trace = (text, *trace)
        return Search(len(origins), promise, [*trace])

    queue = deque([start])
    while queue:
        state = queue.popleft()
        steps = [*world.steps(state)]
        for _, after in steps:
            sources.setdefault(after, []).append(state)
        for text, after in [*steps, *world.faults(state)]:
            if promise := broken_promise(world, state, after):
                return result(promise, state, text)
            if after not in origins:
                origins[after] = (state, text)
                queue.append(after)
    can_end = reach(filter(is_end, origins), lambda state: sources.get(state, ()))
    stuck = next((state for state in origins if state not in can_end), None)
    return result(CAN_END, stuck) if stuck else Search(len(origins), "", [])


def reach(starts: Iterable[State], following: Callable[[State], Iterable[State]]) -> set[State]:
    """Return the states that can be reached, including those at the start."""
    queue = deque(starts)
    reached = set(queue)
    while queue:
        found = {*following(queue.pop())} - reached
        reached |= found
        queue.extend(found)
    return reached
