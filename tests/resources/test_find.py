"""`find`, `cheapest` and `summary`: which offers fit, in which order, and what is said where none does."""

import logging
from itertools import pairwise
from typing import Any

import pytest

import primepods
from primepods import GpuPrices, Offer, PodSpec, Prices, ProtocolError, SoldOutError, SpecRange
from primepods._utils.gpu_names import gpu_matches, similar_gpus
from tests.resources.shop import CLUSTER_SUMMARY, SUMMARY, Row, row, shop
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Server, reply

ROWS = [
    row("dear", 3.0),
    row("gone", 0.1, stockStatus="Unavailable"),
    row("spot", 0.5, isSpot=True),
    row("prepaid", 0.2, prepaidTime=720),
    row("no gpu", 0.3, gpuType="CPU_NODE"),
    row("unpriced", None),
    row("free", 0.0),
    row("negative", -1.0),
    row("plus disk", 0.9, disk={"defaultCount": 100, "pricePerUnit": 0.02, "defaultIncludedInPrice": False}),
    row("eight", 0.8, gpuCount=8),
    row("other", 1.6, gpuType="RTX4090_24GB", provider="runpod"),
    row("good", 1.5, stockStatus="A new word"),
]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, ["good", "other", "plus disk", "dear", "cluster"]),
        ({"gpu_type": "H100"}, ["good", "plus disk", "dear", "cluster"]),
        ({"gpu_type": "H100", "gpu_count": 8}, ["eight"]),
        ({"gpu_type": "H100", "gpu_count": None, "limit": 2}, ["eight", "good"]),
        ({"spot": True, "limit": 1}, ["spot"]),
        ({"gpu_type": "cpu node"}, ["no gpu"]),
        ({"gpu_type": "RTX*"}, ["other"]),
        ({"max_price": 1.5}, ["good"]),
        ({"max_price": 1.4}, []),
        ({"provider": "RunPod"}, ["other"]),
        ({"exclude_providers": ["Hyperstack"]}, ["other"]),
        (
            {"gpu_type": "h100", "unavailable": True},
            ["gone", "prepaid", "good", "plus disk", "dear", "cluster", "unpriced", "free", "negative"],
        ),
        ({"unavailable": True, "max_price": 0.15}, ["gone"]),
    ],
)
async def test_the_offers_that_fit_cheapest_first(options: dict[str, Any], ids: list[str]) -> None:
    """Machines and clusters in stock, with a price, not paid in advance; the rest only on request."""
    async with shop(ROWS, [row("cluster", 4.0)]) as server, make_client(server.url) as client:
        assert [offer.cloud_id for offer in await client.availability.find(**options)] == ids


@pytest.mark.parametrize(
    ("wanted", "gpu", "matches"),
    [
        ("H100", "H100_80GB", True),
        ("h100-80gb", "H100_80GB", True),
        ("NVIDIA H100 80GB", "H100_80GB", True),
        ("H10", "H100_80GB", False),
        ("A100 40GB", "A100_80GB", False),
        ("A100 80GB", "A100_80GB", True),
        ("GeForce RTX 4090", "RTX4090_24GB", True),
        ("4090", "RTX4090_24GB", True),
        ("4080", "RTX4080Ti_16GB", False),
        ("rtx 6000 ada", "RTX6000Ada_48GB", True),
        ("RTX", "RTX_PRO_6000B_96GB", False),
        ("gb200", "GB200", True),
        ("h?00*", "H200_141GB", True),
        ("RTX 40*", "RTX4090_24GB", True),
        ("RTX[!4]090", "RTX4090_24GB", False),
        ("NVIDIA H100*", "H100_80GB", True),
        ("NVIDIA GeForce RTX 40*", "RTX4090_24GB", True),
        ("L4?", "L4_24GB", False),
    ],
)
def test_gpus_as_people_write_them(wanted: str, gpu: str, *, matches: bool) -> None:
    """In any case, with or without the memory, the blanks and the vendor, or as a pattern."""
    assert gpu_matches(wanted, gpu) is matches


@pytest.mark.parametrize(
    ("wanted", "similar"),
    [("H1OO", ["H100_80GB"]), ("RTX 409O", ["RTX4090_24GB"]), ("A10080", ["A100_80GB"]), ("zzz", [])],
)
def test_mistyped_gpus_have_similar_ones(wanted: str, similar: list[str]) -> None:
    """Letters that look like digits count as those."""
    assert similar_gpus(wanted, ["A100_80GB", "H100_80GB", "RTX4090_24GB", "T4_16GB"])[:1] == similar


async def test_a_mistyped_gpu_is_refused_with_similar_ones() -> None:
    """What the API lists decides: its offers, and its summary for GPUs that nobody offers now."""
    summary: Any = {"B200_180GB": {"8": {"cheapest": None}}, "H100_80GB": {"8": {"cheapest": {}}}}
    async with shop(ROWS, summary=summary) as server, make_client(server.url) as client:
        with pytest.raises(ValueError, match=r"lists no GPU 'B2OO'. Did you mean B200_180GB"):
            await client.availability.find(gpu_type="B2OO", wait=60)
        with pytest.raises(ValueError, match=r"It lists B200_180GB, CPU_NODE, H100_80GB, RTX4090_24GB\."):
            await client.availability.cheapest(gpu_type="zzz")
        assert await client.availability.find(gpu_type="B200") == []
    async with shop([]) as server, make_client(server.url) as client:
        assert await client.availability.find(gpu_type="H1OO") == [], "an empty market knows no names"


async def test_sold_out_says_what_was_asked_and_what_there_is() -> None:
    """Each offer that does not fit counts for its first reason; without any, the other numbers of GPUs."""
    summary: Any = {"H100_80GB": {"1": {"cheapest": None}, "8": {}}}
    async with shop(ROWS, summary=summary) as server, make_client(server.url) as client:
        cheapest = client.availability.cheapest
        with pytest.raises(SoldOutError) as caught:
            await cheapest(gpu_type="H100", max_price=1, exclude_providers=["x"], regions=["canada"])
        assert caught.value.message == (
            "No offer can be rented now for: 1 x H100, price at most 1 an hour, regions canada, not from x. "
            "The API has 9 such offers: 3 above that price, 1 sold out, 1 spot, 1 charged in advance, 3 "
            "without a price. The cheapest of those above that price costs $1.50 an hour."
        )
        with pytest.raises(SoldOutError, match="lists it with other GPU counts: 1, 8") as caught:
            await cheapest(gpu_type="H100", gpu_count=4)
        assert (caught.value.status_code, caught.value.method) == (404, "GET")


async def test_sold_out_is_told_without_the_summary() -> None:
    """It is only for the message."""
    empty = reply({"items": [], "totalCount": 0})
    async with (
        Server(lambda request: reply({}, 400) if request.path == SUMMARY else empty) as server,
        make_client(server.url) as client,
    ):
        with pytest.raises(SoldOutError):
            await client.availability.cheapest()


async def test_waiting_for_an_offer() -> None:
    """The market is read again about every ten seconds, also after a passing failure, until one fits."""
    clock, times = ManualClock(auto=True), list[float]()

    def answer(request: Received) -> Answer:
        if request.path.endswith("/gpus"):
            times.append(clock.elapsed)
        if len(times) == 2:
            return reply({"detail": "busy"}, 503)
        price = 1.0 if len(times) == 4 and request.path.endswith("/gpus") else 9.0
        return reply({"items": [row("a", price)], "totalCount": 1})

    async with (
        Server(answer) as server,
        make_client(server.url, clock=clock, retry=primepods.RetryPolicy(attempts=1)) as client,
    ):
        [found] = await client.availability.find(max_price=2, wait=120)
        assert len(times) == 4
        assert all(7 <= after - before <= 13 for before, after in pairwise(times))
        started = clock.elapsed
        assert await client.availability.find(max_price=2, wait=25) == []
        assert 25 <= clock.elapsed - started <= 26
        with pytest.raises(SoldOutError):
            await client.availability.cheapest(max_price=2, wait=5)
    assert found.cloud_id == "a"


@pytest.mark.parametrize(("status", "error"), [(503, primepods.ServerError), (403, primepods.APIError)])
async def test_failures_are_no_empty_market(status: int, error: type[Exception]) -> None:
    """A refusal ends the wait at once; a passing failure is raised when the time is up."""
    clock = ManualClock(auto=True)
    async with (
        Server(lambda _: reply({"detail": "no"}, status)) as server,
        make_client(server.url, clock=clock, retry=primepods.RetryPolicy(attempts=1)) as client,
    ):
        with pytest.raises(error):
            await client.availability.find(gpu_type="H100", wait=30)
        assert (clock.elapsed >= 30) == (status == 503)


async def test_what_can_be_read_counts(caplog: pytest.LogCaptureFixture) -> None:
    """A row that cannot be read, or a wrong count, is logged and hides no others."""
    clock = ManualClock(auto=True)
    async with (
        shop([row("a", 2.0), row("b", 1.0, gpuCount=[])], [row("c", 3.0)], count=9) as server,
        make_client(server.url, clock=clock) as client,
    ):
        with caplog.at_level(logging.WARNING):
            found = await client.availability.cheapest(gpu_count=None)
    assert found.cloud_id == "a"
    assert "returned only" in caplog.text
    async with Server(lambda _: reply([])) as server, make_client(server.url) as client:
        with pytest.raises(ProtocolError):
            await client.availability.cheapest()


async def test_the_summary_is_a_row_for_each_gpu_and_number() -> None:
    """Prices that are absent are None, unknown keys are kept; a broken one says where."""
    summary: Any = {
        "H100_80GB": {"1": {"cheapest": {"onDemand": 1.9, "spotPrice": 1, "new": 5}}, "8": {"cheapest": None}}
    }
    async with shop([], summary=summary) as server, make_client(server.url) as client:
        assert await client.availability.summary() == [
            GpuPrices(gpu_type="H100_80GB", gpu_count=1, on_demand=1.9, spot_price=1.0, extra={"new": 5}),
            GpuPrices(gpu_type="H100_80GB", gpu_count=8),
        ]
        assert len(await client.availability.summary(multi_node=True)) == 2
    assert [request.path for request in server.requests] == [SUMMARY, CLUSTER_SUMMARY]
    async with shop([], summary={"T4": {"many": {}}}) as server, make_client(server.url) as client:
        with pytest.raises(ProtocolError, match=r"T4\.many\.cheapest\.gpuCount"):
            await client.availability.summary()


def offer(cloud_id: str, price: float | None = 1.9, **fields: Any) -> Offer:
    """An offer like any other."""
    values: Row = {"gpu_type": "H100_80GB", "socket": "PCIe", "provider": "hyperstack", "gpu_count": 8}
    prices = Prices(on_demand=price, currency="USD")
    return Offer(cloud_id=cloud_id, prices=prices, **(values | fields))


def test_several_offers_become_orders() -> None:
    """In their order, each with its own price or the user's; those without the amount are left out."""
    ranged = SpecRange(min_count=10, max_count=900)
    offers = [offer("a", disk=ranged), offer("b", 2.5, disk=SpecRange(max_count=50)), offer("c", 3.0)]
    assert [(spec.cloud_id, spec.max_price) for spec in PodSpec.from_offers(offers)] == [
        ("a", 1.9),
        ("b", 2.5),
        ("c", 3.0),
    ]
    specs = PodSpec.from_offers(iter(offers), disk_size=100, max_price=4, name="n")
    assert [(spec.cloud_id, spec.max_price, spec.name) for spec in specs] == [("a", 4, "n"), ("c", 4, "n")]
    assert PodSpec.from_offers([]) == []
    with pytest.raises(ValueError, match="to 50 in steps of 1 for the offer 'b'"):
        PodSpec.from_offers([offers[1]], disk_size=100)
    with pytest.raises(TypeError, match="from_offer"):
        PodSpec.from_offers(offers[0])  # type: ignore[arg-type]  # the mistake that it shows


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (
            offer("a", country="CA", stock_status="Low", is_spot=True),
            "8 x H100_80GB PCIe · hyperstack in CA · $1.90 an hour · Low · spot",
        ),
        (
            offer("a", None, prepaid_time=720.0),
            "8 x H100_80GB PCIe · hyperstack · no price · 720 h charged in advance",
        ),
    ],
)
def test_an_offer_is_short_in_print(shown: Offer, text: str) -> None:
    """One line for people, a `repr` under 200 characters, and a table in a notebook."""
    assert str(shown) == text
    assert repr(shown).startswith("Offer(cloud_id='a', gpu_count=8, gpu_type='H100_80GB'")
    assert len(repr(shown)) < 200
    assert "<td>hyperstack</td>" in shown._repr_html_()
