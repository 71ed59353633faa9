"""Offers and orders: what there is, what it takes to get it, and why one does not."""

from typing import Any

import pytest

import primepods

from .caller import CLUSTERS, GPUS, HISTORY, PODS, Caller, body_for, every, offer_with, order, plain_offer
from .conftest import Serve

SUMMARY = "/api/v1/availability/gpu-summary"
DISKS = "/api/v1/availability/disks"


def test_pages_of_offers_add_up_to_the_total(call: Caller) -> None:
    """Each offer once, more than fit on a page, with an id of its own."""
    rows = every(call, GPUS)
    assert len(rows) > 100
    assert len({row["cloudId"] for row in rows}) == len(rows)
    assert call.get(GPUS)["items"] == rows[:100]


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("gpu_type", "gpuType"),
        ("socket", "socket"),
        ("security", "security"),
        ("data_center_id", "dataCenter"),
        ("cloud_id", "cloudId"),
        ("gpu_count", "gpuCount"),
        ("regions", "region"),
    ],
)
def test_offers_are_filtered(call: Caller, key: str, field: str) -> None:
    """By everything that the schema has."""
    rows = every(call, GPUS)
    value = rows[7][field]
    assert every(call, GPUS, (key, str(value))) == [row for row in rows if row[field] == value]


def test_clusters_have_nodes_and_a_network(call: Caller) -> None:
    """And are no single machines."""
    rows = every(call, CLUSTERS)
    assert rows
    assert all(row["gpuCount"] >= 16 and row["interconnect"] and row["interconnectType"] for row in rows)
    assert not {row["cloudId"] for row in rows} & {row["cloudId"] for row in every(call, GPUS)}


def test_the_summary_has_the_cheapest_prices(call: Caller) -> None:
    """By GPU and number of GPUs, in the schema's nesting."""
    summary = call.get(SUMMARY)
    rows = [row for row in every(call, GPUS) + every(call, CLUSTERS) if not row["isSpot"]]
    for gpu, by_count in summary.items():
        for count, prices in by_count.items():
            same = [row for row in rows if (row["gpuType"], str(row["gpuCount"])) == (gpu, count)]
            on_demand = [row["prices"]["onDemand"] for row in same if row["prices"]["onDemand"] is not None]
            assert prices["cheapest"]["onDemand"] == min(on_demand, default=None)
    spots = {prices["cheapest"]["spotPrice"] for by_count in summary.values() for prices in by_count.values()}
    assert len(spots) > 1


def test_the_summary_of_clusters_has_clusters_only(call: Caller) -> None:
    """By GPU and total number of GPUs, as the summary of all machines."""
    offered = {(row["gpuType"], str(row["gpuCount"])) for row in every(call, CLUSTERS)}
    summary = call.get("/api/v1/availability/multi-node-summary")
    assert {(gpu, count) for gpu, by_count in summary.items() for count in by_count} == offered


def test_disks_are_listed_and_filtered(call: Caller) -> None:
    """By region, place and id."""
    rows = every(call, DISKS)
    assert len(rows) == 10
    for key, field in (("regions", "region"), ("data_center_id", "dataCenter"), ("cloud_id", "cloudId")):
        assert every(call, DISKS, (key, rows[2][field])) == [
            row for row in rows if row[field] == rows[2][field]
        ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("page", "0"),
        ("page_size", "101"),
        ("gpu_type", "H99"),
        ("regions", "the moon"),
        ("gpu_count", "many"),
        ("cloud_id", "a\0b"),
    ],
)
def test_filters_that_make_no_sense_are_422(call: Caller, key: str, value: str) -> None:
    """Naming the parameter."""
    answer = call("GET", GPUS, [(key, value)])
    assert (answer.status, answer.json["errors"][0]["param"]) == (422, key)


def test_an_order_becomes_a_pod(call: Caller) -> None:
    """As ordered, at the offer's price, answered at once and in the list from then on."""
    offer = plain_offer(call)
    answer = order(call, body_for(offer, name="mine", image="axolotl", diskSize=333, autoRestart=True))
    pod = answer.json
    assert answer.status == 200
    assert (pod["name"], pod["gpuName"], pod["gpuCount"]) == ("mine", offer["gpuType"], offer["gpuCount"])
    assert (pod["environmentType"], pod["resources"]["disk"], pod["autoRestart"]) == ("axolotl", 333, True)
    assert pod["priceHr"] == (offer["prices"]["onDemand"] or offer["prices"]["communityPrice"])
    assert pod["status"] == "PROVISIONING"
    assert call.get(PODS + pod["id"]) == pod
    assert call.emulator.pods[pod["id"]].status == "PROVISIONING"


def test_a_cluster_has_nodes(call: Caller) -> None:
    """It counts the GPUs of all of them, as its offer does; in the history, too."""
    offer = every(call, CLUSTERS)[0]
    pod = order(call, body_for(offer)).json
    assert pod["clusterId"]
    call.emulator.advance(100)
    with primepods.Client(call.emulator.api_key, base_url=call.emulator.url) as client:
        cluster = client.pods.get(pod["id"])
    assert cluster.gpu_count == offer["gpuCount"] == 8 * len(cluster.nodes) > 8
    call.emulator.delete_pod(pod["id"])
    assert call.get(HISTORY)["data"][0]["type"] == "Cluster"


def test_team_disks_and_secrets_come_back(call: Caller) -> None:
    """As far as the API shows them; fields that clients add at the top are ignored."""
    offer = plain_offer(call)
    disk = {"disk": {"size": 500, "name": "data"}, "provider": {"type": offer["provider"]}}
    disk_id = call("POST", "/api/v1/disks/", body=disk).json["id"]
    call.emulator.advance(60)
    body = {
        **body_for(offer, jupyterPassword="hunter2", customTemplateId="t"),
        "team": {"teamId": "clemulator0002team"},
        "disks": [disk_id],
        "sharedWithTeam": True,
        "teamMemberIds": [],
    }
    pod = order(call, body).json
    assert (pod["teamId"], pod["jupyterPassword"], pod["customTemplateId"]) == (
        "clemulator0002team",
        "hunter2",
        "t",
    )
    assert [disk["id"] for disk in pod["attachedResources"]][1:] == [disk_id]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"gpuCount": 0}, "gpuCount"),
        ({"gpuCount": 1.5}, "gpuCount"),
        ({"gpuCount": True}, "gpuCount"),
        ({"gpuCount": 2**63}, "gpuCount"),
        ({"gpuType": "H99"}, "gpuType"),
        ({"socket": None}, "socket"),
        ({"cloudId": "a\0b"}, "cloudId"),
        ({"image": "windows"}, "image"),
        ({"maxPrice": 1e300}, "maxPrice"),
        ({"envVars": [{"key": "A"}]}, "envVars.0.value"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_pods_that_the_schema_forbids_are_422(call: Caller, change: dict[str, Any], param: str) -> None:
    """Naming the field, as in the sample, without the way to it from the top."""
    answer = order(call, body_for(plain_offer(call), **change))
    assert (answer.status, answer.json["errors"][0]["param"]) == (422, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "pod"),
        ([], "body"),
        (None, "body"),
        ({"pod": None, "provider": {"type": "runpod"}}, "pod"),
        ({"pod": {}, "provider": {}}, "cloudId"),
    ],
)
def test_bodies_without_what_is_needed_are_422(call: Caller, body: Any, param: str) -> None:
    """All that is missing is named."""
    answer = order(call, body)
    assert answer.status == 422
    assert param in {error["param"] for error in answer.json["errors"]}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"NaN", b'{"pod": 1e999}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_bodies_that_are_no_json_are_422(call: Caller, body: bytes) -> None:
    """Not UTF-8, not closed, not finite, too deep, too long a number."""
    answer = call("POST", PODS, body=body)
    assert (answer.status, answer.json["errors"]) == (
        422,
        [{"param": "body", "details": "JSON decode error"}],
    )


def test_a_body_over_a_megabyte_is_413(call: Caller) -> None:
    """In JSON, as everything."""
    answer = call("POST", PODS, body=b" " * (1 << 20) + b"{}")
    assert (answer.status, answer.json) == (413, {"detail": "Request body too large"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cloudId": "nowhere"}, "No offer with this cloudId"),
        ({"gpuType": "P4_8GB"}, "has gpuType"),
        ({"socket": "SXM2"}, "has socket SXM4, not SXM2"),
        ({"gpuCount": 3}, "has gpuCount"),
        ({"country": "XX"}, "has country"),
        ({"dataCenterId": "XX"}, "has dataCenterId"),
        ({"maxPrice": 0.001}, "above maxPrice"),
        ({"image": "flux"}, "Image flux is not available"),
        ({"image": "custom_template"}, "customTemplateId is required"),
        ({"sshKeyId": "unknown"}, "SSH key not found"),
    ],
)
def test_orders_that_the_offer_does_not_match_are_400(
    call: Caller, change: dict[str, Any], reason: str
) -> None:
    """In prose, as the API; nothing is created."""
    answer = order(call, body_for(offer_with(call, socket="SXM4"), **change))
    assert answer.status == 400
    assert reason in answer.json["detail"]
    assert call.get(PODS)["total_count"] == 10


def test_some_offers_want_a_highest_price(call: Caller) -> None:
    """With the message that has been seen; null and 0 are no limit."""
    rows = every(call, GPUS)
    offer = next(row for row in rows if row["prices"]["isVariable"] and row["disk"]["minCount"] is None)
    body = body_for(offer)
    del body["pod"]["maxPrice"]
    answer = order(call, body)
    assert (answer.status, answer.json) == (400, {"detail": "Missing field: max_price not specified"})
    assert [order(call, body_for(offer, maxPrice=limit)).status for limit in (None, 0, 1e6)] == [
        200,
        200,
        200,
    ]


def test_sizes_are_held_to_the_offer_s_range(call: Caller) -> None:
    """Where it has one."""
    offer = next(row for row in every(call, GPUS) if row["disk"]["minCount"] is not None)
    least, most, step = (offer["disk"][key] for key in ("minCount", "maxCount", "step"))
    sizes = {least: 200, most: 200, least + step: 200, least - 1: 400, most + 1: 400, least + 1: 400}
    assert {size: order(call, body_for(offer, diskSize=size)).status for size in sizes} == sizes


def test_stock_runs_out_and_comes_back(serve: Serve) -> None:
    """Each order takes one, each end of a pod gives one back."""
    call = serve(delete_seconds=0)
    offer = plain_offer(call)
    call.emulator.set_stock(offer["cloudId"], 2)
    pods = [order(call, body_for(offer)) for _ in range(3)]
    assert [answer.status for answer in pods] == [200, 200, 400]
    assert "sold out" in pods[2].json["detail"]
    assert offer_with(call, cloudId=offer["cloudId"])["stockStatus"] == "Unavailable"
    call("DELETE", PODS + pods[0].json["id"])
    assert offer_with(call, cloudId=offer["cloudId"])["stockStatus"] == "Low"
    assert order(call, body_for(offer)).status == 200
    call.emulator.set_stock(offer["cloudId"], 1)
    assert [order(call, body_for(offer)).status for _ in range(2)] == [200, 400]
    call.emulator.reset()
    assert [order(call, body_for(offer)).status for _ in range(5)] == [200] * 5
    with pytest.raises(KeyError):
        call.emulator.set_stock("nowhere", 1)


def test_stock_is_set_after_pods_have_ended(serve: Serve) -> None:
    """A pod that ended since the last request does not add to the stock that is set."""
    call = serve(delete_seconds=5)
    offer = plain_offer(call)
    call("DELETE", PODS + order(call, body_for(offer)).json["id"])
    call.emulator.advance(5)
    call.emulator.set_stock(offer["cloudId"], 0)
    assert order(call, body_for(offer)).status == 400


def test_a_price_can_change_between_offer_and_order(call: Caller) -> None:
    """The order pays the new one, or none above its highest price."""
    offer = plain_offer(call)
    call.emulator.set_price(offer["cloudId"], 7.5)
    answer = order(call, body_for(offer, maxPrice=7.4))
    assert (answer.status, answer.json) == (400, {"detail": "The price is 7.5 per hour, above maxPrice 7.4"})
    assert order(call, body_for(offer, maxPrice=7.5)).json["priceHr"] == 7.5
    prices = offer_with(call, cloudId=offer["cloudId"])["prices"]
    assert 7.5 in {prices["onDemand"], prices["communityPrice"]}
    call.emulator.reset()
    assert offer_with(call, cloudId=offer["cloudId"]) == offer
    with pytest.raises(KeyError):
        call.emulator.set_price("nowhere", 1.0)
    with pytest.raises(ValueError, match="price_hr"):
        call.emulator.set_price(offer["cloudId"], -1.0)


def test_machines_without_a_gpu_are_offered(call: Caller) -> None:
    """And can be ordered as others."""
    rows = every(call, GPUS, ("gpu_type", "CPU_NODE"))
    assert len({row["vcpu"]["defaultCount"] for row in rows}) > 1
    assert {(row["gpuCount"], row["gpuMemory"]) for row in rows} == {(1, 0)}
    pod = order(call, body_for(rows[0])).json
    assert (pod["gpuName"], pod["gpuCount"]) == ("CPU_NODE", 1)
    assert pod["resources"]["vcpus"] == rows[0]["vcpu"]["defaultCount"]


def test_scarce_stock_differs_and_changes(serve: Serve) -> None:
    """From offer to offer and every five minutes, the same for the same seed."""
    first, second = serve(stock=4, seed=5), serve(stock=4, seed=5)
    levels: list[list[str]] = []
    for _ in range(3):
        levels.append([row["stockStatus"] for row in every(first, GPUS)])
        assert levels[-1] == [row["stockStatus"] for row in every(second, GPUS)]
        first.emulator.advance(300)
        second.emulator.advance(300)
    assert {"Low", "Medium", "High"} <= set(levels[0] + levels[1])
    assert levels[0] != levels[1] != levels[2]


def test_created_pods_can_appear_late(serve: Serve) -> None:
    """Missing everywhere for a while, then there, as if it had been all the time."""
    call = serve(appear_seconds=3.0, stock=5)
    pod_id = order(call, body_for(plain_offer(call))).json["id"]
    for _ in range(2):
        assert call.get(PODS)["data"] == []
        assert call.status(pod_id) == []
        assert call("GET", PODS + pod_id).status == 404
        assert pod_id not in call.emulator.pods
        call.emulator.advance(1)
    call.emulator.advance(1)
    assert [row["podId"] for row in call.status(pod_id)] == [pod_id]
    assert call.get(PODS)["total_count"] == 1
    hidden = call.emulator.add_pod(appear_seconds=3.0)
    call.emulator.delete_pod(hidden)
    call.emulator.advance(3)
    assert list(call.emulator.pods) == [pod_id]


def test_an_order_for_a_team_of_others_is_refused(call: Caller) -> None:
    """Of a pod, and of a disk; the team of an added pod is the user's."""
    pod = body_for(offer := plain_offer(call)) | {"team": {"teamId": "theirs"}}
    disk = {"disk": {"size": 500}, "provider": {"type": offer["provider"]}, "team": {"teamId": "theirs"}}
    for path, body in ((PODS, pod), ("/api/v1/disks/", disk)):
        assert call("POST", path, body=body).status == 403
    call.emulator.add_pod(team_id="theirs")
    assert order(call, pod).status == 200


def test_an_order_can_be_shared_and_paid_in_advance(call: Caller) -> None:
    """Prepaid hours are charged at once; what is used beyond them is added."""
    offer = plain_offer(call)
    body = body_for(offer, prepaidForHr=2) | {
        "team": {"teamId": "clemulator0002team"},
        "team_member_ids": ["m1", "m2"],
        "shared_with_team": True,
    }
    before = call.emulator.spent
    pod_id = order(call, body).json["id"]
    pod = call.emulator.pods[pod_id]
    assert (pod.team_id, pod.team_member_ids, pod.shared_with_team) == (
        "clemulator0002team",
        ("m1", "m2"),
        True,
    )
    assert pod.prepaid_hours == 2
    assert call.emulator.spent - before == pytest.approx(2 * pod.price_hr)


def test_a_garbled_body_is_400(call: Caller) -> None:
    """One that is not in the encoding that its header says."""
    headers = {"Authorization": f"Bearer {call.emulator.api_key}", "Content-Encoding": "gzip"}
    assert call("POST", PODS, headers=headers, body=b"not gzip").status == 400


def test_a_client_that_asks_first_is_told_to_go_on(call: Caller) -> None:
    """`Expect: 100-continue`."""
    headers = {"Authorization": f"Bearer {call.emulator.api_key}", "Expect": "100-continue"}
    assert call("POST", PODS, headers=headers, body=body_for(plain_offer(call))).status == 200
