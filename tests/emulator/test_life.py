"""Birth, boot, failure and end of pods, on a clock that is moved by hand."""

import math
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from primepods.emulator import Emulator, LostDeletion, ManualClock

from .caller import HISTORY, PODS, Caller
from .conftest import Serve


def fleet(emulator: Emulator) -> Counter[str]:
    """How many pods are in which state."""
    return Counter(pod.status for pod in emulator.pods.values())


def test_a_pod_boots_in_the_documented_order(serve: Serve) -> None:
    """PROVISIONING, PENDING, ACTIVE with growing progress, FINISHED; never backwards."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=100.0)
    seen: list[tuple[str, str]] = []
    progress: list[int] = []
    for _ in range(101):
        [row] = call.status(pod_id)
        if (state := (row["status"], row["installationStatus"])) not in seen:
            seen.append(state)
        if row["installationProgress"] is not None:
            progress.append(row["installationProgress"])
        assert (row["ip"] is not None) == (row["status"] == "ACTIVE")
        call.emulator.advance(1)
    assert seen == [
        ("PROVISIONING", "PENDING"),
        ("PENDING", "PENDING"),
        ("ACTIVE", "ACTIVE"),
        ("ACTIVE", "FINISHED"),
    ]
    assert progress == sorted(progress)
    assert progress[0] < 10
    assert progress[-1] == 100
    assert len(set(progress)) > 20


def test_the_fleet_is_ready_within_three_times_the_boot_time(serve: Serve) -> None:
    """And some are well before."""
    call = serve(pods=200, boot_seconds=30.0)
    assert fleet(call.emulator) == {"PROVISIONING": 200}
    call.emulator.advance(45)
    ready = [pod for pod in call.emulator.pods.values() if pod.installation_status == "FINISHED"]
    assert 50 < len(ready) < 200
    call.emulator.advance(45)
    assert all(pod.installation_progress == 100 for pod in call.emulator.pods.values())


def test_the_same_seed_makes_the_same_fleet(serve: Serve) -> None:
    """Down to the bytes of the answers and the key; another seed makes another."""
    first, second, other = (serve(pods=30, seed=seed, failure_rate=0.2) for seed in (3, 3, 4))
    for call in (first, second):
        call.emulator.advance(20)
    assert first("GET", PODS).body == second("GET", PODS).body
    assert len({each.emulator.api_key for each in (first, second, other)}) == 3
    assert not set(first.emulator.pods) & set(other.emulator.pods)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (0.1, 10), (1.0, 100)])
def test_the_failure_rate_is_an_exact_share_of_the_fleet(serve: Serve, rate: float, expected: int) -> None:
    """Failed pods say why and have no address."""
    call = serve(pods=100, boot_seconds=10.0, failure_rate=rate)
    call.emulator.advance(30)
    failed = [row for row in call.status(*call.emulator.pods) if row["status"] == "ERROR"]
    assert len(failed) == expected
    assert all(row["installationStatus"] == "ERROR" and row["installationFailure"] for row in failed)
    assert all(row["ip"] is None and row["sshConnection"] is None for row in failed)
    assert fleet(call.emulator)["ACTIVE"] == 100 - expected


def test_a_pod_is_as_it_was_ordered(serve: Serve) -> None:
    """Whatever is fixed is not drawn."""
    call = serve()
    given: dict[str, Any] = {
        "id": "some-id",
        "name": "mine",
        "socket": "SXM6",
        "image": "axolotl",
        "gpu_count": 3,
    }
    given |= {"provider": "added_later", "gpu_name": "H200_141GB", "price_hr": 1.25, "team_id": "team-1"}
    pod = call.get(PODS + call.emulator.add_pod(**given, boot_seconds=0, nodes=1))
    assert pod["sshConnection"].startswith("root@")
    keys = (
        "id",
        "name",
        "socket",
        "environmentType",
        "gpuCount",
        "providerType",
        "gpuName",
        "priceHr",
        "teamId",
    )
    assert [pod[key] for key in keys] == list(given.values())


def test_what_cannot_be_ordered_is_refused(serve: Serve) -> None:
    """A misspelt override must not be ignored, a taken id not be shared."""
    emulator = serve().emulator
    emulator.add_pod(id="taken")
    with pytest.raises(ValueError, match="taken"):
        emulator.add_pod(id="taken")
    with pytest.raises(TypeError, match="boot_secs"):
        emulator.add_pod(boot_secs=3)  # type: ignore[call-arg]  # misspelled on purpose


def test_a_deleted_pod_is_deleting_for_a_while_and_then_history(serve: Serve) -> None:
    """Gone from list, get and status at the same moment."""
    call = serve(pods=3, boot_seconds=0, delete_seconds=5.0)
    pod_id = next(iter(call.emulator.pods))
    call.emulator.advance(100)
    for _ in range(2):
        assert call("DELETE", PODS + pod_id).json == {"status": "DELETING"}
    [row] = call.status(pod_id)
    assert (row["status"], row["ip"]) == ("DELETING", None)
    assert call.get(PODS + pod_id)["status"] == "DELETING"
    call.emulator.advance(4.9)
    assert call.get(PODS)["total_count"] == 3
    assert call.get(HISTORY)["data"] == []
    call.emulator.advance(0.1)
    assert call.status(pod_id) == []
    assert call("GET", PODS + pod_id).status == 404
    assert call("DELETE", PODS + pod_id).status == 404
    assert pod_id not in [pod["id"] for pod in call.get(PODS)["data"]]
    [past] = call.get(HISTORY)["data"]
    assert (past["id"], past["terminatedAt"]) == (pod_id, "2026-01-01T00:01:45Z")


def test_an_id_can_be_used_again_once_its_pod_is_gone(serve: Serve) -> None:
    """The second life does not end when the first one would have."""
    call = serve()
    call.emulator.add_pod(id="again", vanish_seconds=100)
    call.emulator.delete_pod("again")
    call.emulator.add_pod(id="again")
    call.emulator.advance(200)
    assert list(call.emulator.pods) == ["again"]


def test_a_pod_can_vanish_behind_the_api_s_back(call: Caller) -> None:
    """At once, even while it is being deleted; it is in the history once."""
    first, second, *_ = call.emulator.pods
    call("DELETE", PODS + first)
    for pod_id in (first, second):
        call.emulator.delete_pod(pod_id)
        assert pod_id not in call.emulator.pods
    call.emulator.advance(100)
    assert sorted(row["id"] for row in call.get(HISTORY)["data"]) == sorted([first, second])
    with pytest.raises(KeyError):
        call.emulator.delete_pod(first)
    with pytest.raises(KeyError):
        call.emulator.pods[first]


def test_begun_minutes_are_billed_from_active_on(serve: Serve) -> None:
    """90 seconds at 6 an hour are two minutes: 0.2; a moment is one. What never was active costs nothing."""
    call = serve(delete_seconds=0)
    for name, boot in (("used", 0.0), ("never", 1000.0), ("a moment", 90.0)):
        call.emulator.add_pod(name, boot_seconds=boot, price_hr=6.0)
    call.emulator.advance(90)
    for pod_id in list(call.emulator.pods):
        call("DELETE", PODS + pod_id)
    costs = {row["name"]: row["totalBilledPrice"] for row in call.get(HISTORY)["data"]}
    assert costs == {"used": 0.2, "a moment": 0.1, "never": 0.0}


def test_a_pod_deleted_before_it_is_active_costs_nothing(serve: Serve) -> None:
    """Even if it is still DELETING at the age at which it would have become ACTIVE."""
    call = serve(delete_seconds=60)
    pod_id = call.emulator.add_pod(boot_seconds=30, price_hr=6.0)
    call("DELETE", PODS + pod_id)
    call.emulator.advance(60)
    [row] = call.get(HISTORY)["data"]
    assert (row["totalBilledPrice"], call.emulator.spent) == (0.0, 0.0)


def test_a_pod_whose_early_deletion_is_lost_is_billed_from_then_on(serve: Serve) -> None:
    """It is ACTIVE only once it is no longer DELETING: 60 seconds at 6 an hour are 0.1."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=30, price_hr=6.0)
    call.emulator.faults.add(LostDeletion(100))
    call("DELETE", PODS + pod_id)
    call.emulator.advance(99)
    assert (call.emulator.pods[pod_id].status, call.emulator.spent) == ("DELETING", 0.0)
    call.emulator.advance(61)
    assert (call.emulator.pods[pod_id].status, call.emulator.spent) == ("ACTIVE", 0.1)


def test_the_history_reaches_to_now_and_counts_gpus(serve: Serve) -> None:
    """What has ended before the start cost what its price says, of all its GPUs, by the begun minute."""
    call = serve(history=300)
    rows = call.get(HISTORY, ("limit", "300"))["data"]
    epoch = call.emulator.clock.epoch
    ages = [(epoch - datetime.fromisoformat(row["createdAt"])).total_seconds() for row in rows]
    ended = [row for row in rows if row["terminatedAt"] is not None]
    last = max(datetime.fromisoformat(row["terminatedAt"]) for row in ended)
    assert min(ages) > 0
    assert max(ages) < 31 * 86400
    assert timedelta(0) <= epoch - last < timedelta(days=1)
    for row in ended:
        lasted = datetime.fromisoformat(row["terminatedAt"]) - datetime.fromisoformat(row["createdAt"])
        minutes = math.ceil(lasted.total_seconds() / 60)
        assert row["totalBilledPrice"] == pytest.approx(minutes * row["priceHr"] / 60, abs=1e-6)
    by_count = {
        count: [row["priceHr"] for row in rows if (row["gpuName"], row["gpuCount"]) == ("H100_80GB", count)]
        for count in (1, 8)
    }
    assert max(by_count[1]) < min(by_count[8])


def test_history_is_sorted_as_asked(serve: Serve) -> None:
    """By either date, either way, newest end first by default; what still runs comes last."""
    call = serve(history=60)
    rows = call.get(HISTORY)["data"]
    ends = [row["terminatedAt"] for row in rows]
    done = [end for end in ends if end is not None]
    assert done == sorted(done, reverse=True)
    assert ends == done + [None] * (60 - len(done))
    assert len({row["type"] for row in rows}) > 4
    by_birth = call.get(HISTORY, ("sort_by", "createdAt"), ("sort_order", "asc"))["data"]
    births = [row["createdAt"] for row in by_birth]
    assert births == sorted(births)


def test_the_list_keeps_its_order_oldest_first(call: Caller) -> None:
    """What is added comes last, what goes leaves the others where they are."""
    before = [pod["id"] for pod in call.get(PODS)["data"]]
    call.emulator.delete_pod(before[3])
    added = call.emulator.add_pod()
    after = [pod["id"] for pod in call.get(PODS)["data"]]
    assert after == before[:3] + before[4:] + [added]


def test_times_are_on_the_emulator_s_clock(serve: Serve) -> None:
    """Birth and last change, from the clock's epoch."""
    call = serve()
    call.emulator.advance(3600)
    pod_id = call.emulator.add_pod(boot_seconds=50)
    changes: dict[str, timedelta] = {}
    for _ in range(51):
        pod = call.get(PODS + pod_id)
        born, changed = (datetime.fromisoformat(pod[key]) for key in ("createdAt", "updatedAt"))
        assert born == ManualClock().epoch + timedelta(hours=1)
        changes[pod["status"] + pod["installationStatus"]] = changed - born
        call.emulator.advance(1)
    assert list(changes.values()) == sorted(changes.values())
    assert len(set(changes.values())) == len(changes) == 4
    assert changes["ACTIVEFINISHED"] == timedelta(seconds=50)


def test_the_log_tells_the_boot(serve: Serve) -> None:
    """Up to now, newest line last, as many as asked."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=10, failure="image pull failed")
    path = f"{PODS}{pod_id}/log"
    assert "provisioning" in call.get(path)["data"]
    call.emulator.advance(10)
    lines = call.get(path)["data"].splitlines()
    assert lines[-1].endswith("error: image pull failed")
    assert call.get(path, ("tail", "1"))["data"] == lines[-1]
    assert call.get(path, ("tail", "0"))["data"] == call.get(path, ("tail", "-3"))["data"] == ""
    assert call("GET", path, [("tail", "x")]).status == 422


def test_a_view_of_a_pod_is_a_value(call: Caller) -> None:
    """Equal when the same, not changed by what comes later."""
    pod_id = next(iter(call.emulator.pods))
    before = call.emulator.pods[pod_id]
    assert evolve(before) == call.emulator.pods[pod_id]
    call.emulator.advance(60)
    assert before.status == "PROVISIONING" != call.emulator.pods[pod_id].status


def test_a_pod_with_nodes_lists_its_addresses(serve: Serve) -> None:
    """Address and ssh connection are lists of the same length, one entry a node."""
    call = serve()
    pod_id = call.emulator.add_pod(nodes=4, boot_seconds=0, provider="dc_roan")
    [row] = call.status(pod_id)
    assert len(set(row["ip"])) == 4
    assert row["sshConnection"] == [f"root@{ip} -p 2222" for ip in row["ip"]]


def test_ssh_has_no_prefix_and_always_a_port(serve: Serve) -> None:
    """The official client splits it at " -p "."""
    call = serve(pods=50, cluster_rate=0, boot_seconds=0)
    for pod in call.get(PODS)["data"]:
        user_host, port = pod["sshConnection"].split(" -p ")
        assert user_host.endswith("@" + pod["ip"])
        assert port.isdecimal()
