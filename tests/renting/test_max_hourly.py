"""A limit of what all pods together may cost an hour."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import attrs
import pytest

import primepods
from primepods.emulator import Edit, Emulator, Status
from tests.support.client import make_client

pytestmark = pytest.mark.anyio


async def _spec(client: primepods.AsyncClient) -> primepods.PodSpec:
    return primepods.PodSpec.from_offer(await client.availability.cheapest(gpu_type="H100"))


async def test_an_order_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs counts, and the order's max_price; neither a lease nor `ensure` gets around it."""
    async with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        emulator.add_pod(price_hr=6.0)
        emulator.add_pod(
            price_hr=90.0, status_fields={}, pod_fields={"status": "STOPPED", "stoppedPriceHr": 0.5}
        )
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=3.5, name="train")
        monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "9.99")
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            for order in (
                client.pods.create(spec),
                client.pods.ensure(spec),
                client.pods.lease(spec).__aenter__(),
            ):
                with pytest.raises(
                    primepods.BudgetExceededError, match=r"\$6\.50 an hour.*\$3\.50.*\$9\.99"
                ) as caught:
                    await order
                assert (caught.value.budget, caught.value.spent, caught.value.limit) == ("hourly", 6.5, 9.99)
            with pytest.raises(primepods.BudgetExceededError, match=r"9\.99 an hour.*Set a `max_price`\.$"):
                await client.pods.create(attrs.evolve(spec, max_price=None))
            emulator.faults.add(Edit(put={"data.0.gpuCount": "many"}), on="list", times=1)
            with pytest.raises(primepods.ProtocolError):
                await client.pods.create(spec)
            assert not emulator.requests.where(operation="create")
            await client.pods.create(attrs.evolve(spec, max_price=3.49))
        assert len(emulator.pods) == 3


async def test_orders_at_once_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this process, also while the list shows none of the pods; a refused order counts no more."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "10")
    async with Emulator(boot_seconds=0, delete_seconds=0, appear_seconds=60) as emulator:
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=4.0)
            emulator.faults.add(Status(402), on="create", times=1)
            with pytest.raises(primepods.PaymentRequiredError):
                await client.pods.create(spec)
            made = await asyncio.gather(*(client.pods.create(spec) for _ in range(5)), return_exceptions=True)
        refused = [error for error in made if isinstance(error, primepods.BudgetExceededError)]
        assert (len(refused), len(emulator.requests.where(operation="create"))) == (3, 3)


@pytest.mark.parametrize("team_id", [None, "another team"])
async def test_a_new_pod_counts_once_when_another_of_its_name_ends(
    monkeypatch: pytest.MonkeyPatch, team_id: str | None
) -> None:
    """Its order counts no more once the list shows it, whichever team ordered the one that has ended."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "10")
    async with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=3.0, name="train")
            first = await client.pods.create(spec)
            await client.pods.create(attrs.evolve(spec, team_id=team_id))
            await client.pods.delete(first.id)
            await client.pods.create(attrs.evolve(spec, team_id=team_id, max_price=6.0))
        assert len(emulator.requests.where(operation="create")) == 3


async def test_a_listed_pod_is_that_of_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two orders with a name, one still counts while the list shows one pod."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "10")
    shown: set[str] = set()

    def hide(body: Any) -> Any:
        body["data"] = [row for row in body["data"] if row["id"] in shown]
        return body | {"total_count": len(body["data"])}

    async with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        emulator.faults.add(Edit(hide), on="list")
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=3.0, name="train")
            first = await client.pods.create(spec)
            await client.pods.create(spec)
            shown.add(first.id)
            for _ in range(2):
                with pytest.raises(primepods.BudgetExceededError):
                    await client.pods.create(attrs.evolve(spec, max_price=6.0))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("[limits]\nmax_hourly = 0", "0.00"),
        ("[limits]\nmax_hourly = 2.5", "2.50"),
        ("", None),
        ('[limits]\nmax_hourly = "two"', ValueError),
        ("[limits]\nmax_hourly = -1", ValueError),
        ("[limits]\nmax_hourli = 1", ValueError),
        ("max_hourly = 1", ValueError),
        ("limits = 1", ValueError),
        ("[limits", ValueError),
    ],
)
async def test_the_limit_may_be_in_a_file(text: str, limit: object, clean_environment: Path) -> None:
    """What is wrong there is an error of each order: a mistyped limit is not none. Pods are still deleted."""
    file = clean_environment / ".primepods" / "settings.toml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    async with Emulator(delete_seconds=0) as emulator:
        pod_id = emulator.add_pod(price_hr=1.5)
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            order = client.pods.create(await _spec(client))
            if limit is None:
                await order
            elif limit is ValueError:
                with pytest.raises(primepods.ConfigError, match=r"settings\.toml"):
                    await order
                assert not emulator.requests.where(operation="create")
                await client.pods.delete(pod_id)
            else:
                with pytest.raises(primepods.BudgetExceededError, match=rf"limit of \${limit}"):
                    await order
