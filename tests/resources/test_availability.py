"""Offers: how they are asked for and read, page by page."""

from typing import Any

import pytest

import primepods
from primepods import Offer, PodSpec, Prices, ProtocolError, SpecRange
from primepods.emulator import Emulator
from primepods.emulator import ManualClock as EmulatorClock
from tests.resources.shop import row, shop
from tests.support.client import emulated, make_client
from tests.support.server import Server, reply


async def test_an_offer_is_read_as_the_document_has_it() -> None:
    """Every field, the amounts with their numbers; absent ones are empty ranges, unknown ones in extra."""
    async with shop([row("n3", 1.9, aNewField=1, gpuType="Q1")]) as server, make_client(server.url) as client:
        [offer] = [offer async for offer in client.availability.gpus()]
    assert offer == Offer(
        cloud_id="n3",
        gpu_type="Q1",
        socket="PCIe",
        provider="hyperstack",
        region="canada",
        data_center="CANADA-1",
        country="CA",
        gpu_count=1,
        gpu_memory=80,
        disk=SpecRange(default_count=100),
        vcpu=SpecRange(default_count=180),
        memory=SpecRange(default_count=180),
        stock_status="Available",
        security="secure_cloud",
        prices=Prices(on_demand=1.9, currency="USD"),
        images=("ubuntu_22_cuda_12", "cuda_12_1_pytorch_2_2", "axolotl"),
        extra={"aNewField": 1},
    )


@pytest.mark.parametrize("amount", [None, {}, "absent"])
async def test_an_amount_that_is_null_is_an_empty_range(amount: Any) -> None:
    """So nobody has to ask whether there is one."""
    changed = row("n3", disk=amount, sharedDisk=amount)
    if amount == "absent":
        del changed["disk"], changed["sharedDisk"]
    async with shop([changed]) as server, make_client(server.url) as client:
        [offer] = [offer async for offer in client.availability.gpus()]
    assert offer.disk == offer.shared_disk == SpecRange()


async def test_filters_are_sent_as_the_api_spells_them() -> None:
    """Those that are given, regions repeated, and the page."""
    async with shop([]) as server, make_client(server.url) as client:
        pager = client.availability.gpus(
            gpu_type="H100_80GB",
            gpu_count=8,
            regions=(region for region in ("canada", "eu_north")),
            socket="SXM5",
            security="secure_cloud",
            data_center_id="D 1",
            cloud_id="c",
            disks=["d1", "d2"],
            page_size=50,
        )
        assert [offer async for offer in pager] == []
        assert [offer async for offer in pager] == []
    assert {tuple(sorted(request.query)) for request in server.requests} == {
        (
            ("cloud_id", "c"),
            ("data_center_id", "D 1"),
            ("disks", "d1"),
            ("disks", "d2"),
            ("gpu_count", "8"),
            ("gpu_type", "H100_80GB"),
            ("page", "1"),
            ("page_size", "50"),
            ("regions", "canada"),
            ("regions", "eu_north"),
            ("security", "secure_cloud"),
            ("socket", "SXM5"),
        )
    }


async def test_offers_that_share_an_id_are_all_there() -> None:
    """A cloud id may be offered in several places, and at several prices."""
    rows = [row("c"), row("c", dataCenter="D2"), row("c", 2.0), row("c", isSpot=True)]
    async with shop(rows) as server, make_client(server.url) as client:
        assert len([offer async for offer in client.availability.gpus()]) == 4


@pytest.mark.parametrize(
    "body", [[], {}, {"items": 5, "totalCount": 1}, {"items": [], "totalCount": "many"}, {"totalCount": 1}]
)
async def test_an_answer_of_another_shape_is_an_error(body: Any) -> None:
    """It says what is wrong there."""
    async with Server(lambda _: reply(body)) as server, make_client(server.url) as client:
        with pytest.raises(ProtocolError, match="is invalid"):
            async for _ in client.availability.gpus():
                pass


async def test_disks_are_offered_too() -> None:
    """With their sizes and prices."""
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        disks = [disk async for disk in client.availability.disks(regions=["canada"])]
    assert {disk.region for disk in disks} == {"canada"}
    assert all(disk.is_available for disk in disks)
    assert disks[0].spec.allows(1000)
    assert not disks[0].spec.allows(1050)


@pytest.mark.slow
async def test_every_offer_of_the_emulator_can_be_ordered() -> None:
    """What an offer says is what is ordered, and what is paid."""
    async with emulated(boot_seconds=0) as (_emulator, client):
        for pager in (client.availability.gpus(), client.availability.multi_node()):
            async for offer in pager:
                pod = await client.pods.create(PodSpec.from_offer(offer))
                assert (pod.gpu_name, pod.gpu_count) == (offer.gpu_type, offer.gpu_count)
                assert pod.price_hr <= (offer.price_hr or 0)
                await client.pods.delete(pod.id)


async def test_an_offer_is_ordered_until_it_is_sold_out_or_dearer() -> None:
    """From the offer to the pod; then the price rises, then the last one is gone, then the money."""
    async with emulated(boot_seconds=0) as (emulator, client):
        offer = await client.availability.cheapest(gpu_type="H100_80GB")
        assert (await client.pods.create(PodSpec.from_offer(offer, name="first"))).name == "first"
        emulator.set_price(offer.cloud_id, (offer.price_hr or 0) + 1)
        with pytest.raises(primepods.PriceTooHighError):
            await client.pods.create(PodSpec.from_offer(offer))
        emulator.set_stock(offer.cloud_id, 0)
        with pytest.raises(primepods.SoldOutError):
            await client.pods.create(PodSpec.from_offer(offer, max_price=100))
    async with emulated(funds=0.0, pods=1, clock=EmulatorClock()) as (emulator, client):
        emulator.advance(60)
        with pytest.raises(primepods.PaymentRequiredError, match="wallet"):
            await client.pods.create(PodSpec.from_offer(offer))
