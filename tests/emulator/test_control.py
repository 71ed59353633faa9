"""The control routes, and snapshots: looking at and changing what clients cannot."""

import json
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from primepods.emulator import Emulator, Fault, ManualClock
from primepods.emulator.faults import Response

from .caller import GPUS, HISTORY, KEYS, PODS, STATUS, Answer, Caller, body_for, order, plain_offer
from .conftest import Serve
from .test_keys import upload


def control(call: Caller, method: str, path: str, body: Any = None) -> Answer:
    """Ask a control route."""
    return call(method, f"/_emulator/{path}", body=body)


def done(call: Caller, method: str, path: str, body: Any = None) -> Any:
    """The JSON of a control route that must succeed."""
    return call.json(method, f"/_emulator/{path}", body=body)


@pytest.fixture
def call(serve: Serve) -> Caller:
    """An emulator with control routes."""
    return serve(pods=3, history=2, control=True)


def test_control_is_off_unless_asked_for(serve: Serve) -> None:
    """Then its routes are unknown paths."""
    assert control(serve(), "GET", "state").status == 404


def test_control_wants_the_key(call: Caller) -> None:
    """As the API."""
    assert call("GET", "/_emulator/state", headers={}).status == 403
    assert call("GET", "/_emulator/state", headers={"Authorization": "Bearer x"}).status == 401


def test_control_is_not_in_the_request_log(call: Caller) -> None:
    """It is no request of a client under test."""
    done(call, "GET", "state")
    assert len(call.emulator.requests) == 0


def test_bodies_that_cannot_be_read_are_refused(call: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """As by the API: too long, no JSON, broken off."""
    assert call("POST", "/_emulator/pods", body=b" " * (1 << 20) + b"{}").status == 413
    assert call("POST", "/_emulator/pods", body=b"{").status == 422
    with call.connect() as connection:
        connection.sendall(b"POST /_emulator/pods HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 100\r\n\r\n{")
    done(call, "GET", "state")
    assert not caplog.records


def test_pods_are_added_and_vanish(call: Caller) -> None:
    """With all that `add_pod` takes."""
    pod_id = done(call, "POST", "pods", {"name": "x", "boot_seconds": 0, "failure": "broken"})["id"]
    assert call.status(pod_id)[0]["installationFailure"] == "broken"
    done(call, "DELETE", f"pods/{pod_id}")
    assert call.status(pod_id) == []
    assert control(call, "DELETE", f"pods/{pod_id}").status == 404
    for wrong in ({"colour": "red"}, {"price_hr": "x"}, {"price_hr": -1}, {"nodes": 0}, {"nodes": 9}):
        assert control(call, "POST", "pods", wrong).status == 422
    assert done(call, "POST", "pods")["id"] in call.emulator.pods


def test_the_clock_is_advanced(call: Caller) -> None:
    """If it is moved by hand; else that is a conflict."""
    assert done(call, "POST", "advance", {"seconds": 90}) == {"now": 90.0}
    assert {pod.installation_status for pod in call.emulator.pods.values()} == {"FINISHED"}
    assert [
        control(call, "POST", "advance", body).status for body in ({"seconds": -1}, {"seconds": True}, {})
    ] == [422, 422, 422]
    with Emulator(control=True) as emu:
        assert control(Caller(emu), "POST", "advance", {"seconds": 1}).status == 409


def test_more_pods_and_history_are_seeded(call: Caller) -> None:
    """Besides those that there are."""
    done(call, "POST", "seed", {"pods": 5, "history": 7})
    assert (call.get(PODS)["total_count"], call.get(HISTORY)["total_count"]) == (8, 9)
    done(call, "POST", "seed", {})
    assert len({row["id"] for row in call.get(HISTORY)["data"]}) == 9


def test_prices_stock_and_funds_are_set(call: Caller) -> None:
    """As in Python."""
    offer = plain_offer(call)
    done(call, "POST", "price", {"cloud_id": offer["cloudId"], "price_hr": 3})
    assert order(call, body_for(offer)).json["priceHr"] == 3
    assert control(call, "POST", "price", {"cloud_id": offer["cloudId"], "price_hr": -3}).status == 422
    done(call, "POST", "stock", {"cloud_id": offer["cloudId"], "left": 0})
    assert order(call, body_for(offer)).status == 400
    assert control(call, "POST", "stock", {"cloud_id": "nowhere", "left": 0}).status == 404
    assert control(call, "POST", "stock", {"left": 0}).status == 422
    done(call, "POST", "funds", {"dollars": 0})
    call.emulator.advance(1000)
    assert order(call, body_for(offer)).status == 402


def test_faults_are_added_listed_and_removed(call: Caller) -> None:
    """Of every kind, with all that picks requests."""
    rule = done(call, "POST", "faults", {"kind": "status", "status": 503, "on": "list", "times": 1})
    assert call("GET", PODS).status == 503
    assert call("GET", PODS).status == 200
    [listed] = done(call, "GET", "faults")["faults"]
    assert (listed["number"], listed["kind"], listed["hits"]) == (rule["number"], "status", 1)
    assert (listed["fault"]["status"], listed["when"]["on"], listed["when"]["times"]) == (503, ["list"], 1)
    done(call, "DELETE", f"faults/{rule['number']}")
    assert control(call, "DELETE", f"faults/{rule['number']}").status == 404
    done(call, "POST", "faults", {"kind": "delay", "seconds": "inf", "after": 5})
    assert done(call, "GET", "faults")["faults"][0]["fault"] == {"seconds": "inf"}
    done(call, "DELETE", "faults")
    assert done(call, "GET", "faults") == {"faults": []}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "delay", "seconds": 1},
        {"kind": "reset", "acted": True},
        {"kind": "cut", "share": 0.1},
        {"kind": "wrong_length", "by": -1},
        {"kind": "html", "status": 502},
        {"kind": "empty"},
        {"kind": "empty_data", "null": True},
        {"kind": "stale", "seconds": 5},
        {"kind": "redirect", "location": "/"},
        {"kind": "edit", "put": {"total_count": 9}, "drop": ["data.0"], "rows": 3},
        {"kind": "status", "status": 404, "text": ""},
        {"kind": "drip", "seconds": 1, "pieces": 2},
        {"kind": "bad_chunk", "probability": 0.5, "duration": 3},
    ],
)
def test_every_fault_has_a_name_over_http(call: Caller, fault: dict[str, Any]) -> None:
    """And comes back as it was given."""
    listed = done(call, "POST", "faults", fault)
    assert listed["kind"] == fault.pop("kind")
    assert {**listed["fault"], **listed["when"]}.items() >= {
        k: v for k, v in fault.items() if k != "duration"
    }.items()


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"kind": "plague"},
        {"kind": "status"},
        {"kind": "status", "status": "bad"},
        {"kind": "edit", "change": "x"},
        {"kind": "edit", "put": 3},
        {"kind": "edit", "drop": [3]},
        {"kind": "edit", "drop": 3},
        {"kind": "edit", "rows": -1},
        {"kind": "status", "status": 500, "on": "lists"},
        {"kind": "status", "status": 500, "path": 5},
        {"kind": "status", "status": 500, "often": True},
        [],
    ],
)
def test_faults_that_make_no_sense_are_422(call: Caller, fault: Any) -> None:
    """With the reason."""
    answer = control(call, "POST", "faults", fault)
    assert answer.status == 422
    assert answer.body


def test_a_fault_of_another_class_can_be_listed(call: Caller) -> None:
    """A fault of the user's own class is listed with the class's name."""

    @attrs.frozen
    class Teapot(Fault):
        body: bytes
        seen: frozenset[object] = frozenset({1, "a"})

        def outcome(self, response: Response) -> Response:
            return attrs.evolve(response, status=418, body=self.body)

    call.emulator.faults.add(Teapot(b"short"))
    assert call("GET", PODS).status == 418
    [listed] = done(call, "GET", "faults")["faults"]
    assert (listed["kind"], listed["hits"], listed["fault"]["body"]) == ("Teapot", 1, "b'short'")
    assert listed["fault"]["seen"] == [1, "a"]


def test_the_request_log_is_read_and_cleared(call: Caller) -> None:
    """With what a test in another language wants to know."""
    call.get(STATUS, ("pod_ids", "a"))
    [entry] = done(call, "GET", "requests")["requests"]
    assert entry == {
        "method": "GET",
        "path": STATUS,
        "query": [["pod_ids", "a"]],
        "concurrency": 1,
        "time": 0.0,
        "operation": "status",
        "faults": [],
        "status": 200,
    }
    done(call, "DELETE", "requests")
    assert len(call.emulator.requests) == 0


def test_a_reset_goes_back_to_the_start(call: Caller) -> None:
    """The same fleet, born now; nothing else."""
    before = list(call.emulator.pods)
    call.emulator.advance(100)
    call.emulator.add_pod()
    call("DELETE", PODS + before[0])
    upload(call, "key")
    done(call, "POST", "faults", {"kind": "status", "status": 500})
    done(call, "POST", "reset")
    assert list(call.emulator.pods) == before
    assert {pod.status for pod in call.emulator.pods.values()} == {"PROVISIONING"}
    assert call.get(HISTORY)["total_count"] == 2
    assert call.get(KEYS)["data"] == []
    assert call.get(PODS)["data"][0]["createdAt"] == "2026-01-01T00:01:40Z"
    call.emulator.reset()
    assert len(call.emulator.requests) == 0


def lived(serve: Serve) -> Caller:
    """An emulator in which all sorts of things have happened."""
    call = serve(
        pods=30,
        history=5,
        seed=9,
        failure_rate=0.2,
        flaky_rate=0.2,
        cluster_rate=0.3,
        spot_rate=0.3,
        funds=500.0,
    )
    offer = plain_offer(call)
    call.emulator.set_stock(offer["cloudId"], 1)
    call.emulator.set_price(offer["cloudId"], 2.5)
    order(call, body_for(offer, name="ordered"))
    call.emulator.add_pod("late", appear_seconds=100.0, status_fields={"odd": [1]})
    call.emulator.advance(20)
    for pod_id in list(call.emulator.pods)[:3]:
        call("DELETE", PODS + pod_id)
    call.emulator.advance(3)
    call.emulator.delete_pod(next(iter(call.emulator.pods)))
    upload(call, "key")
    return call


def everything(call: Caller) -> list[bytes]:
    """All that the API has to tell."""
    ids = [("pod_ids", pod_id) for pod_id in call.emulator.pods]
    return [
        call("GET", path, query).body
        for path, query in ((PODS, []), (STATUS, ids), (HISTORY, []), (KEYS, []), (GPUS, []))
    ]


def test_a_fleet_is_saved_and_goes_on_elsewhere(serve: Serve, tmp_path: Path) -> None:
    """From one JSON file, exactly as the one that was saved, for as long as anybody looks."""
    first = lived(serve)
    first.emulator.save(tmp_path / "fleet.json")
    clock = ManualClock()
    clock.advance(first.emulator.requests[-1].time)
    with Emulator.load(tmp_path / "fleet.json", clock=clock) as emu:
        second = Caller(emu)
        assert emu.api_key != first.emulator.api_key
        assert emu.spent == pytest.approx(first.emulator.spent)
        for seconds in (0, 1, 5, 30, 100, 5000):
            first.emulator.advance(seconds)
            emu.advance(seconds)
            assert everything(second) == everything(first)


def test_time_does_not_pass_while_a_fleet_is_saved(serve: Serve) -> None:
    """Whatever the clock says when it is restored; here over HTTP, into an emulator that had other things."""
    first = lived(serve)
    states = {pod_id: pod.status for pod_id, pod in first.emulator.pods.items()}
    second = serve(pods=2, control=True)
    second.emulator.advance(1e6)
    done(second, "PUT", "state", first.emulator.snapshot())
    assert {pod_id: pod.status for pod_id, pod in second.emulator.pods.items()} == states
    again = done(second, "GET", "state")
    timelines = [(pod["id"], pod["timeline"]) for pod in again["pods"]]
    saved = json.loads(json.dumps(first.emulator.snapshot()))
    assert timelines == [(pod["id"], pod["timeline"]) for pod in saved["pods"]]


def test_options_of_a_saved_emulator_can_be_changed(serve: Serve, tmp_path: Path) -> None:
    """What is not said stays as it was."""
    first = serve(pods=1, delete_seconds=77.0, seed=3)
    first.emulator.save(tmp_path / "fleet.json")
    emu = Emulator.load(tmp_path / "fleet.json", api_key="other", clock=ManualClock())
    with emu:
        [pod_id] = emu.pods
        Caller(emu)("DELETE", PODS + pod_id)
        emu.advance(76)
        assert pod_id in emu.pods
    assert emu.api_key == "other"


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "something else"}'])
def test_what_is_no_snapshot_is_refused(tmp_path: Path, text: str) -> None:
    """With the file's name or what is wrong with it."""
    (tmp_path / "file.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="not a snapshot"):
        Emulator.load(tmp_path / "file.json")


@pytest.mark.parametrize(
    "damage",
    [{"pods": None}, {"pods": [{}]}, {"history": [{"created": "x"}]}, {"created_count": None}, {"stock": 3}],
)
def test_a_damaged_snapshot_changes_nothing(serve: Serve, damage: dict[str, Any]) -> None:
    """It is refused as a whole."""
    call = lived(serve)
    before = call.emulator.snapshot()
    with pytest.raises(ValueError, match="damaged"):
        call.emulator.restore({**before, **damage})
    assert call.emulator.snapshot() == before


@pytest.mark.parametrize("change", [None, {"colour": "red"}, {"boot_seconds": "x"}, {"boot_seconds": -1}])
def test_a_file_with_damaged_settings_is_refused(serve: Serve, tmp_path: Path, change: Any) -> None:
    """Loading a snapshot without settings, or with unknown or invalid ones, raises a ValueError."""
    saved = serve().emulator.snapshot()
    settings = cast("dict[str, object]", saved.pop("config"))
    if change is not None:
        saved["config"] = settings | change
    (tmp_path / "file.json").write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        Emulator.load(tmp_path / "file.json")


def test_keys_that_are_added_to_restored_ones_are_new(serve: Serve) -> None:
    """Their ids are drawn from the same seed."""
    first = lived(serve)
    second = serve(seed=9)
    second.emulator.restore(first.emulator.snapshot())
    upload(second, "another")
    assert [key["name"] for key in second.get(KEYS)["data"]] == ["key", "another"]
