"""A limit of what all pods together may cost an hour."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

import primepods
from primepods.config import lease_folder, max_hourly, this_host
from primepods.emulator import Edit, Emulator, Status
from primepods.resources._max_hourly import HourlyLimit
from tests.support.client import emulated, make_client
from tests.support.clock import ManualClock
from tests.support.processes import start_python

ORDER = {
    "account": "an account",
    "name": "train",
    "price": 1.0,
    "boot_id": this_host()[1],
    "at": 1.0,
    "wall": 1e18,
    "duration": 180.0,
    "known": [],
}


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


PROCESS = """
import sys, primepods
with primepods.Client() as client:
    spec = primepods.PodSpec.from_offer(client.availability.cheapest(gpu_type="H100"), max_price=1.63)
    print("ready", flush=True)
    for _ in sys.stdin:
        try:
            client.pods.create(spec)
        except primepods.BudgetExceededError:
            print("refused", flush=True)
        else:
            print("ordered", flush=True)
"""


@pytest.mark.parametrize("is_at_once", [True, False])
def test_all_processes_share_the_limit(monkeypatch: pytest.MonkeyPatch, *, is_at_once: bool) -> None:
    """Of five that order one after the other, or at once, three do, though the list shows no pod yet."""
    with Emulator(boot_seconds=0, appear_seconds=600) as emulator, ExitStack() as stack:
        monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
        monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "5")
        running = [stack.enter_context(start_python("-c", PROCESS, stdin=subprocess.PIPE)) for _ in range(5)]
        assert [process.stdout.readline() for process in running] == ["ready\n"] * 5
        said = []
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
            if not is_at_once:
                said.append(process.stdout.readline())
        if is_at_once:
            said = [process.stdout.readline() for process in running]
        assert sorted(said) == ["ordered\n"] * 3 + ["refused\n"] * 2
        assert len(emulator.requests.where(operation="create")) == 3


@pytest.mark.parametrize("price", [0, -100.0])
async def test_a_pod_without_a_price(monkeypatch: pytest.MonkeyPatch, price: float) -> None:
    """A listed price of zero does not end its pending order, and one below zero is no credit."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "10")
    async with Emulator(boot_seconds=0) as emulator:
        emulator.faults.add(Edit(put={"data.0.priceHr": price}), on="list")
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=6.0)
            await client.pods.create(spec)
            for _ in range(2):
                with pytest.raises(primepods.BudgetExceededError):
                    await client.pods.create(spec)


@pytest.mark.parametrize("team_id", [None, "clemulator0002team"])
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


async def test_a_leased_pod_that_has_ended_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no order has seen it in the list: the history shows that it has ended."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "5")
    async with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            spec = attrs.evolve(await _spec(client), max_price=5.0)
            for _ in range(2):
                async with client.pods.lease(spec, interval=0.05):
                    pass
        assert len(emulator.requests.where(operation="create")) == 2


@attrs.frozen
class LateList:
    """The pods, whose list is read at once and returned later."""

    pods: primepods.AsyncPods
    is_read: asyncio.Event = attrs.field(factory=asyncio.Event)
    is_due: asyncio.Event = attrs.field(factory=asyncio.Event)

    def list(self) -> LateList:
        """The pager."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pods, name)

    async def collect(self) -> Any:
        """Read the list."""
        result = await self.pods.list().collect()
        self.is_read.set()
        await self.is_due.wait()
        return result


@pytest.mark.parametrize("clock", [None, ManualClock()], ids=["clock", "coarse clock"])
async def test_an_order_counts_beside_an_older_list(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock | None
) -> None:
    """Its pod is in a later list, which another order has read, but not in one that was still on its way.

    A coarse clock shows the same time for all of that.
    """
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "7")
    async with emulated({"clock": clock}) as (_emulator, client):
        spec = attrs.evolve(await _spec(client), max_price=6.0, name="train")
        late: Any = LateList(client.pods)
        order = asyncio.create_task(HourlyLimit(client._executor, late).allow(spec))
        await late.is_read.wait()
        await client.pods.create(spec)
        with pytest.raises(primepods.BudgetExceededError):
            await client.pods.create(spec)
        late.is_due.set()
        with pytest.raises(primepods.BudgetExceededError):
            await order


async def test_a_hidden_pod_counts_for_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of its order and two minutes more, also after a reboot. Then it is forgotten."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "10")
    file = lease_folder() / "orders.jsonl"
    async with Emulator(appear_seconds=1e9) as emulator:
        for boot_id in (None, "another"):
            clock = ManualClock()
            client = make_client(emulator.url, api_key=emulator.api_key, clock=clock, deadline=60)
            async with client:
                spec = attrs.evolve(await _spec(client), max_price=6.0)
                await client.pods.create(spec)
                if boot_id is not None:
                    order = json.loads(file.read_text())
                    file.write_text(json.dumps(order | {"boot_id": boot_id, "at": 1e9}))
                clock.suspend(179.0)
                with pytest.raises(primepods.BudgetExceededError):
                    await client.pods.create(spec)
                for seconds in (2.0, 900.0):
                    clock.suspend(seconds)
                    await client.pods.create(spec)
                assert len(file.read_text().splitlines()) == 1
                file.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda file: file.mkdir(), "cannot be used .*PRIMEPODS_STATE_DIR"),
        (lambda file: file.write_text("odd"), "cannot be read .*move the file away"),
        (lambda file: file.write_text('{"version": 2}'), "cannot be read .*move the file away"),
        (os.mkfifo, "cannot be read .*not a regular file"),
        (lambda file: file.write_text('{"account": "a", "na'), "cannot be read .*move the file away"),
        (lambda file: file.write_bytes(bytes(300)), "cannot be read .*move the file away"),
        (lambda file: file.write_text(json.dumps(ORDER | {"at": 1e18})), "cannot be read .*in the future"),
        (lambda file: file.write_text(json.dumps(ORDER | {"boot_id": "another"})), "in the future"),
    ],
)
async def test_without_its_file_nothing_is_ordered(
    monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], problem: str
) -> None:
    """An order is refused, and the error says what to do; only if there is a limit."""
    file = lease_folder() / "orders.jsonl"
    file.parent.mkdir(parents=True)
    damage(file)
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        await client.pods.create(await _spec(client))
        monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "100")
        with pytest.raises(primepods.ConfigError, match=f"{problem}"):
            await client.pods.create(await _spec(client))
        assert len(emulator.pods) == 1


@pytest.mark.parametrize("value", ["", " ", "5_0", "\u0661\u0660", "nan", "1e400", "-1", "+5"])
def test_a_limit_in_another_form_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Only digits, a point and an exponent are a limit; a blank variable is not "no limit"."""
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", "5e1")
    assert max_hourly() == 50
    monkeypatch.setenv("PRIMEPODS_MAX_HOURLY", value)
    with pytest.raises(primepods.ConfigError, match="PRIMEPODS_MAX_HOURLY"):
        max_hourly()
