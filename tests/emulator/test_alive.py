"""What happens by itself: installations recover, spot pods vanish, funds run dry, nodes come up in turn."""

import pytest

from .caller import GPUS, HISTORY, PODS, Caller, body_for, every, order, plain_offer
from .conftest import Serve


def test_an_installation_can_fail_and_recover(serve: Serve) -> None:
    """Failed, retried with the reason kept, finished without it; the pod is ACTIVE all the while."""
    call = serve()
    pod_id = call.emulator.add_pod(boot_seconds=100, retries=2)
    seen: list[tuple[str, bool]] = []
    for _ in range(101):
        [row] = call.status(pod_id)
        state = (row["installationStatus"], row["installationFailure"] is not None)
        if row["status"] == "ACTIVE" and (not seen or seen[-1] != state):
            seen.append(state)
        assert row["status"] != "ERROR"
        call.emulator.advance(1)
    attempt = [("ERROR", True), ("ACTIVE", True)]
    assert seen == [("ACTIVE", False), *attempt, *attempt, ("FINISHED", False)]


def test_a_share_of_the_fleet_stumbles(serve: Serve) -> None:
    """Exactly that share, besides those that fail for good; in the end all others are ready."""
    call = serve(pods=100, failure_rate=0.2, flaky_rate=0.3)
    stumbled: set[str] = set()
    for _ in range(90):
        rows = call.status(*call.emulator.pods)
        stumbled |= {row["podId"] for row in rows if row["status"] == "ACTIVE" and row["installationFailure"]}
        call.emulator.advance(1)
    states = [pod.status for pod in call.emulator.pods.values()]
    assert (states.count("ERROR"), states.count("ACTIVE"), len(stumbled)) == (20, 80, 30)


def test_spot_pods_vanish(serve: Serve) -> None:
    """Without a word, sooner or later, into the history."""
    call = serve(pods=50, spot_rate=1.0, spot_seconds=600.0, boot_seconds=0)
    assert all(pod["isSpot"] for pod in call.get(PODS)["data"])
    left = [50]
    for _ in range(20):
        call.emulator.advance(300)
        left.append(call.get(PODS)["total_count"])
    assert 10 < left[1] < 50
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)
    assert call.get(HISTORY)["total_count"] == 50


def test_a_spot_offer_makes_a_spot_pod(call: Caller) -> None:
    """Cheaper than the same on demand."""
    rows = every(call, GPUS)
    spot = next(row for row in rows if row["isSpot"])
    same = next(row for row in rows if row["cloudId"] == spot["cloudId"].removesuffix("-spot"))
    pod = order(call, body_for(spot)).json
    assert pod["isSpot"]
    assert pod["priceHr"] < (same["prices"]["onDemand"] or same["prices"]["communityPrice"])


def test_a_pod_can_be_told_when_to_vanish(serve: Serve) -> None:
    """Even before it has appeared; deleting it later than that makes no difference."""
    call = serve(delete_seconds=60.0)
    pod_id = call.emulator.add_pod(vanish_seconds=10.0)
    hidden = call.emulator.add_pod(vanish_seconds=10.0, appear_seconds=20.0)
    call("DELETE", PODS + pod_id)
    call.emulator.advance(9)
    assert list(call.emulator.pods) == [pod_id]
    call.emulator.advance(1)
    assert list(call.emulator.pods) == []
    assert {row["id"] for row in call.get(HISTORY)["data"]} == {pod_id, hidden}


def test_nodes_come_up_in_turn_if_told_to(serve: Serve) -> None:
    """Lists with nulls, until the last one is there."""
    call = serve()
    pod_id = call.emulator.add_pod(nodes=4, staggered=True, boot_seconds=100)
    known: list[int] = []
    for _ in range(101):
        [row] = call.status(pod_id)
        if row["ip"] is not None:
            assert len(row["ip"]) == len(row["sshConnection"]) == 4
            assert [ip is None for ip in row["ip"]] == [ssh is None for ssh in row["sshConnection"]]
            known.append(sum(ip is not None for ip in row["ip"]))
        call.emulator.advance(1)
    assert known == sorted(known)
    assert set(known) == {1, 2, 3, 4}


def test_funds_run_dry_and_pods_are_deleted(serve: Serve) -> None:
    """At the minute that could not be paid, whenever the next question comes; then nothing can be ordered."""
    call = serve(funds=1.0, delete_seconds=30.0)
    pod_id = call.emulator.add_pod(price_hr=6.0, boot_seconds=0)
    call.emulator.advance(599)
    assert call.emulator.pods[pod_id].status == "ACTIVE"
    assert call.emulator.spent == pytest.approx(1.0)
    call.emulator.advance(3600)
    assert call.get(PODS)["data"] == []
    [row] = call.get(HISTORY)["data"]
    assert row["terminatedAt"] == "2026-01-01T00:10:30Z"
    assert row["totalBilledPrice"] == pytest.approx(1.1)
    answer = order(call, body_for(plain_offer(call)))
    assert (answer.status, answer.json) == (402, {"detail": "Insufficient funds"})


@pytest.mark.slow
@pytest.mark.parametrize("delete_seconds", [0.0, 5.0])
def test_nothing_can_be_ordered_once_a_pod_has_used_up_the_funds(serve: Serve, delete_seconds: float) -> None:
    """The pod whose first minute exceeds the funds is billed for it, whatever the time at which it began."""
    for seed in range(10):
        call = serve(funds=0.05, seed=seed, delete_seconds=delete_seconds)
        call.emulator.add_pod(price_hr=6.0, boot_seconds=30)
        call.emulator.advance(60)
        assert call.get(PODS)["data"] == []
        assert call.emulator.spent == pytest.approx(0.1)
        assert order(call, body_for(plain_offer(call))).status == 402


def test_pods_are_deleting_after_the_funds_have_run_dry(serve: Serve) -> None:
    """For as long as a deletion takes, those that are being deleted anyway included."""
    call = serve(funds=0.0, delete_seconds=30.0)
    first = call.emulator.add_pod(price_hr=6.0, boot_seconds=0)
    call("DELETE", PODS + first)
    call.emulator.add_pod(price_hr=6.0, boot_seconds=10)
    call.emulator.advance(20)
    assert {pod.status for pod in call.emulator.pods.values()} == {"DELETING"}
    call.emulator.advance(30)
    assert not call.emulator.pods


def test_funds_can_be_added(serve: Serve) -> None:
    """Also to an account that had no end of them: it has an end from then on."""
    call = serve(funds=0.0)
    call.emulator.add_pod(price_hr=6.0, boot_seconds=0)
    call.emulator.advance(10)
    assert order(call, body_for(plain_offer(call))).status == 402
    call.emulator.add_funds(5.0)
    assert order(call, body_for(plain_offer(call))).status == 200
    rich = serve(pods=3, boot_seconds=0)
    rich.emulator.advance(60)
    rich.emulator.add_funds(0.01)
    assert len(rich.emulator.pods) == 3
    rich.emulator.advance(60)
    rich.emulator.advance(60)
    assert len(rich.emulator.pods) == 0


def test_costs_add_up(serve: Serve) -> None:
    """What is spent is what the history says, and what lives."""
    call = serve(pods=5, boot_seconds=0, delete_seconds=0)
    call.emulator.advance(3600)
    price = sum(pod.price_hr for pod in call.emulator.pods.values())
    assert call.emulator.spent == pytest.approx(price)
    for pod_id in list(call.emulator.pods)[:2]:
        call("DELETE", PODS + pod_id)
    call.emulator.advance(3600)
    past = sum(row["totalBilledPrice"] for row in call.get(HISTORY)["data"])
    assert call.emulator.spent == pytest.approx(
        past + 2 * sum(p.price_hr for p in call.emulator.pods.values())
    )


def test_funds_run_dry_a_century_from_now(serve: Serve) -> None:
    """Though floats of that time are coarse."""
    call = serve(funds=0.05, delete_seconds=0.0)
    call.emulator.advance(3e9)
    call.emulator.add_pod(boot_seconds=10, price_hr=6.0)
    call.emulator.advance(60)
    assert not call.emulator.pods
