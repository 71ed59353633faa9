"""The model of leases: its promises hold in all states, each of its rules is needed, and leases follow it."""

import sys
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

import primepods
from primepods.emulator import Status
from primepods.events import Event, LeaseReady, LeaseReleased, LeaseStarted, RequestEnded
from tests.renting.stage import stage

from .model import ALL_DELETED, ASKED, CAN_END, KNOWN, NOT_ANOTHERS, Rules, State, World, explore
from .trace import check_trace

# The rules, with the promise that is broken without each, and what happens in the last step.
RULES = {
    "syncs_record_before_order": (KNOWN, "a power cut"),
    "awaits_sent_order": (KNOWN, "cancelled before the response"),
    "remembers_all_names": (ALL_DELETED, "removes its record"),
    "keeps_record_of_unseen_pod": (KNOWN, "removes its record"),
    "believes_list": (NOT_ANOTHERS, "hands theirs over"),
    "awaits_list": (NOT_ANOTHERS, "hands theirs over"),
    "compares_whole_names": (NOT_ANOTHERS, "deletes theirs"),
    "deletes_twins": (ALL_DELETED, "removes its record"),
    "doubts_404": (KNOWN, "the sweep ends"),
    "confirms_deletion": (KNOWN, "the sweep ends"),
    "unlocks_on_giving_up": (CAN_END, "fails"),
    "keeps_record_on_giving_up": (CAN_END, "reads the list"),
    "lists_after_locking": (KNOWN, "the sweep ends"),
    "respects_lock": (ASKED, "the sweep deletes pod-1"),
    "sweeps_by_name": (NOT_ANOTHERS, "the sweep deletes theirs"),
    "records_keeping": (ASKED, "the sweep deletes pod-1"),
    "keeps_record_until_twins_are_deleted": (KNOWN, "a power cut"),
    "sweeps_by_server_time": (ASKED, "a sweep elsewhere deletes pod-1"),
    "names_server_time": (ASKED, "a sweep elsewhere deletes pod-1"),
    "always_names_expiry": (KNOWN, "the machine and its disk are lost"),
    "reads_damaged_rows": (KNOWN, "a power cut"),
}


@pytest.mark.parametrize(
    ("has_expiry", "states"), [(False, 2_000), pytest.param(True, 30_000, marks=pytest.mark.slow)]
)
def test_all_promises_hold_in_all_states(*, has_expiry: bool, states: int) -> None:
    """No run of a lease, two sweeps, the API and faults breaks a promise."""
    search = explore(World(has_expiry), State())
    sys.stdout.write(f"{search.states} states")
    assert (search.promise, search.trace) == ("", [])
    assert search.states > states


@pytest.mark.slow
@pytest.mark.parametrize("rule", [field.name for field in attrs.fields(Rules)])
def test_each_rule_is_needed(rule: str) -> None:
    """Without it, a run breaks a promise."""
    promise, last_step = RULES[rule]
    rules = Rules(**{rule: False})
    # The promises without an expiry need more rules; those about the expiry need one.
    search = next(s for s in (explore(World(e, rules), State()) for e in (False, True)) if s.promise)
    sys.stdout.write("\n  ".join([f"{search.promise} Not so without {rule}:", *search.trace]))
    assert search.promise == promise
    assert last_step in search.trace[-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with the records of leases."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    return tmp_path


SOLD_OUT = {"detail": "That machine is sold out"}


async def lease(folder: Path, end: str) -> list[Event]:
    """Lease a pod, and return the client's events."""
    events: list[Event] = []
    async with stage(folder, options={"on_event": events.append}) as it:
        if end in {"refused", "twin"}:
            sold_out = Status(400, acted=end == "twin", body=SOLD_OUT)
            it.emulator.faults.add(sold_out, on="create", times=1)
        with suppress(primepods.NotReleasedError):
            async with it.client.pods.lease([it.spec, it.spec], release_timeout=30) as pod:
                if end == "kept":
                    pod.keep()
                elif end == "not released":
                    it.emulator.faults.add(Status(503), on="delete")
    return events


@pytest.mark.parametrize("end", ["released", "kept", "not released", "refused"])
async def test_leases_follow_the_model(folder: Path, end: str) -> None:
    """The model allows what a lease does, however it ends."""
    check_trace(await lease(folder, end))


BROKEN = ["POST", "LeaseStarted", "DeletionEnded", "LeaseReleased", "use of another", "second pod"]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_trace_that_breaks_the_model_is_refuted(folder: Path, broken: str) -> None:
    """The model does not allow a missing step, the use of another pod, or a second pod."""
    events = await lease(folder, "released")
    (ready,) = (event for event in events if isinstance(event, LeaseReady))
    (released,) = (event for event in events if isinstance(event, LeaseReleased))
    match broken:
        case "use of another":
            events[events.index(ready)] = attrs.evolve(ready, pod_id="theirs")
        case "second pod":
            events[events.index(released)] = next(e for e in events if isinstance(e, LeaseStarted))
        case "POST":
            events = [e for e in events if not isinstance(e, RequestEnded) or e.method != "POST"]
        case _:
            events = [event for event in events if type(event).__name__ != broken]
    with pytest.raises(AssertionError, match="no run of the model"):
        check_trace(events)
