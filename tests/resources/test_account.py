"""The account: whose key it is and what it may do, teams, and the wallet."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods import DiskSpec, Permission
from primepods.emulator import Edit, Emulator, ManualClock, Status
from tests.support.client import emulated, make_client
from tests.support.clock import ManualClock as ClientClock
from tests.support.server import Received, Reply, Server, reply


async def test_a_key_and_its_rights() -> None:
    """`whoami` tells what a key may do; another is refused just that, with the permission's name."""
    async with Emulator(pods=1) as emulator, make_client(emulator.url, api_key=emulator.api_key) as owner:
        user = await owner.account.whoami()
        assert user.name == "Emulated User"
        assert user.allows("Instances", write=True) is True
        assert user.allows("training") is None
        read_only = emulator.add_api_key({"instances": {"read": True, "write": False}, "disks": None})
        async with make_client(emulator.url, api_key=read_only) as client:
            user = await client.account.whoami()
            assert user.scope == {"instances": Permission(read=True, write=False), "disks": None}
            assert [user.allows("instances", write=write) for write in (False, True)] == [True, False]
            assert user.allows("disks") is None
            [pod] = [pod async for pod in client.pods.list()]
            with pytest.raises(primepods.PermissionDeniedError, match=r"Instances \(Read and Write\)"):
                await client.pods.delete(pod)
            with pytest.raises(primepods.PermissionDeniedError, match=r"Disks \(Read and Write\)"):
                await client.disks.create(DiskSpec(size=500, provider="nebius"))


@pytest.mark.parametrize(
    "scope", [None, {}, {"instances": "all"}, {"instances": {"read": 1, "write": "yes"}}]
)
async def test_what_a_scope_does_not_say_is_no_right(scope: Any) -> None:
    """A word that nobody knows grants nothing; no word at all leaves it open."""
    answer = reply(
        {"status": "ok", "data": {"name": "n", "email": "e", "scope": scope, "key_limits": {"a": 1}}}
    )
    async with Server([answer]) as server, make_client(server.url, team_id="team") as client:
        user = await client.account.whoami()
    is_said = bool(scope) and isinstance(scope["instances"], dict)
    assert user.allows("instances", write=True) is (False if is_said else None)
    assert user.extra == {"key_limits": {"a": 1}}
    assert server.targets == ["GET /api/v1/user/whoami?teamId=team"]


async def test_teams_and_their_members() -> None:
    """Page by page; a team that does not exist is a 404."""
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        [team] = [team async for team in client.account.teams(page_size=1)]
        assert (team.name, team.role) == ("Emulated Team", "ADMIN")
        members = [member async for member in client.account.members(team.team_id, page_size=1)]
        assert [(member.user_name, member.role) for member in members] == [
            ("Emulated User", "ADMIN"),
            ("Other User", "MEMBER"),
        ]
        with pytest.raises(primepods.NotFoundError):
            [_ async for _ in client.account.members("other")]


async def test_wallet_and_history_agree_to_the_cent() -> None:
    """The wallet has a row for each resource, the ended ones as the history has them; the rest is left."""
    async with emulated(history=230, funds=500, boot_seconds=0, delete_seconds=0, clock=ManualClock()) as (
        emulator,
        client,
    ):
        before = sum([record.total_billed_price async for record in client.pods.history()])
        disk = await client.disks.create(DiskSpec(size=5000, provider="nebius"))
        kept, ended = emulator.add_pod(price_hr=7.0), emulator.add_pod(price_hr=3.0)
        emulator.advance(5400)
        await client.pods.delete(ended)
        wallet = await client.account.wallet()
        assert (wallet.currency, len(wallet.entries)) == ("USD", wallet.total_billings)
        amounts = {entry.resource_id: entry.amount for entry in wallet.entries}
        assert amounts[kept] == pytest.approx(10.5)
        assert amounts[disk.id] == pytest.approx(1.5 * (disk.price_hr or 0), abs=0.005)
        history = {record.id: record.total_billed_price async for record in client.pods.history()}
        assert {pod_id: amounts[pod_id] for pod_id in history} == history
        assert wallet.balance == pytest.approx(500 - (sum(amounts.values()) - before), abs=0.005)
        assert wallet.balance == pytest.approx(500 - emulator.spent, abs=0.005)
        assert [entry.id for entry in (await client.account.wallet(limit=3)).entries] == [
            entry.id for entry in wallet.entries[:3]
        ]
        emulator.advance(3600 * 80)
        assert (await client.account.wallet(limit=1)).balance < 0
        with pytest.raises(primepods.PaymentRequiredError):
            await client.disks.create(DiskSpec(size=500, provider="nebius"))


async def test_an_unreadable_entry_hides_neither_balance_nor_entries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is left out, and the log says so; a 503 is tried again, and the balance alone is one request.

    A page that cannot be read at all is an error.
    """
    async with emulated({"clock": ClientClock(auto=True)}, history=120) as (emulator, client):
        emulator.faults.add(Status(503), on="wallet", times=2)
        assert len((await client.account.wallet()).entries) > 100
        emulator.faults.add(Edit(put={"recent_billings.1.amount_usd": "much"}), on="wallet")
        assert len((await client.account.wallet()).entries) > 100
        assert "Entries of the wallet cannot be read and are left out: " in caplog.text
        assert "recent_billings[1].amount_usd" in caplog.text
        looked = len(emulator.requests)
        emulator.faults.clear()
        emulator.faults.add(Edit(put={"recent_billings.0.amount_usd": "much"}), on="wallet", times=1)
        assert (await client.account.wallet(limit=1)).entries == ()
        assert len(emulator.requests) == looked + 1
        emulator.faults.add(Edit(put={"balance_usd": "much"}), on="wallet")
        with pytest.raises(primepods.ProtocolError, match="balance_usd"):
            await client.account.wallet()
        emulator.faults.clear()
        emulator.faults.add(Edit(put={"recent_billings": "many"}), on="wallet", skip=1)
        with pytest.raises(primepods.ProtocolError, match="recent_billings"):
            await client.account.wallet()


async def test_a_wallet_without_one_of_its_pages_is_an_error() -> None:
    """Even if the pages after it have come first."""
    seconds: list[str] = []

    def answer(request: Received) -> Reply:
        offset = int(dict(request.query)["offset"])
        body: dict[str, Any] = {
            "wallet_id": "w",
            "balance_usd": 1.0,
            "currency": "USD",
            "total_billings": 250,
        }
        if offset == 99:
            seconds.append(request.target)
            return reply({**body, "recent_billings": "many"}, status=503 if len(seconds) == 1 else 200)
        row = {
            "resource_type": "pod",
            "amount_usd": 1.0,
            "currency": "USD",
            "created_at": "2026-01-01T00:00:00Z",
        }
        rows = [{**row, "id": f"b{number}"} for number in range(offset, min(offset + 100, 250))]
        return reply({**body, "recent_billings": rows})

    clock = ClientClock(auto=True)
    async with Server(answer) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.ProtocolError, match="recent_billings"):
            await client.account.wallet()
    assert any("offset=198" in target for target in server.targets)


async def test_the_wallet_of_a_team_is_asked_for() -> None:
    """By the client's team; of few entries one page is read."""

    def answer(_: Received) -> Reply:
        return reply(
            {
                "wallet_id": "w",
                "team_id": "team",
                "balance_usd": 12.5,
                "currency": "EUR",
                "total_billings": 0,
                "recent_billings": [],
            }
        )

    async with Server(answer) as server, make_client(server.url, team_id="team") as client:
        wallet = await client.account.wallet(limit=20)
    assert (wallet.team_id, str(wallet)) == ("team", "€12.50 left · 0 resources paid from it")
    assert set(server.targets) == {"GET /api/v1/billing/wallet?offset=0&limit=21&teamId=team"}


@pytest.mark.slow
async def test_a_checkpoint_outlives_its_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one emulated pod writes to a disk, the next reads; a lease deletes its pod and not the disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(
        "PRIMEPODS_SSH_COMMAND", f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
    )
    async with emulated(boot_seconds=0, delete_seconds=0) as (emulator, client):
        disk = await client.disks.create(DiskSpec(size=500, provider="hyperstack"))
        [offer, *_] = await client.availability.find(disks=[disk.id], gpu_type="*")
        spec = primepods.PodSpec.from_offer(offer, disks=[disk.id])
        said: list[str] = []
        for command in ("mkdir -p '{0}' && echo 42 > '{0}/step'", "cat '{0}/step'"):
            async with client.pods.lease(spec, login=True, interval=0.05) as pod:
                [attached] = [each for each in pod.pod.attached_resources if each.id == disk.id]
                said.append((await pod.run(command.format(attached.mount_path))).stdout)
        assert said == ["", "42\n"]
        assert not emulator.pods
        assert [each.id async for each in client.disks.list()] == [disk.id]


def test_a_snapshot_has_the_disks() -> None:
    """Restored on any clock, they are as old as they were; and those that have ended stay so."""
    with Emulator(clock=ManualClock(), boot_seconds=60) as emulator:
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            kept, ended = (client.disks.create(DiskSpec(size=500, provider="nebius")) for _ in range(2))
            emulator.advance(600)
            client.disks.delete(ended)
            emulator.advance(600)
        saved, spent = emulator.snapshot(), emulator.spent
    with Emulator(clock=ManualClock()) as again:
        again.restore(saved)
        with primepods.Client(again.api_key, base_url=again.url) as client:
            assert [disk.id for disk in client.disks.list()] == [kept.id]
            assert [record.id for record in client.pods.history()] == [ended.id]
            assert again.spent == pytest.approx(spent)
