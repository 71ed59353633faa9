"""Renting, as agents do it, and what becomes of pods and budget when something goes wrong."""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from primepods import AsyncClient
from primepods.emulator import Delay, Drip, Emulator, Status
from primepods.runs import list_runs
from tests.support.eventually import eventually

from .conftest import Open, Session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def rent(session: Session, **arguments: Any) -> dict[str, Any]:
    """Quote and rent."""
    quote = await session.call("quote", gpu_type="H100", **arguments)
    return await session.call("rent", quote_id=quote["quote_id"])


async def test_rent_run_fetch_release(open_session: Open, market: Emulator) -> None:
    """Output comes in bounded parts; the pod is gone at the end, and its real cost is what counts."""
    questions: list[str] = []
    async with open_session(reply=True, questions=questions) as session:
        quote = await session.call("quote", gpu_type="H100")
        rented = await session.call("rent", quote_id=quote["quote_id"])
        assert "The user has confirmed it" in rented["next_step"]
        assert "Ask for a new quote" in await session.fail("rent", quote_id=quote["quote_id"])
        assert len(questions) == 1
        pod, name = rented["pod_id"], rented["name"]
        [listed] = (await session.call("list_pods"))["pods"]
        assert listed["id"] == pod
        done = await session.call("run_command", pod=name, command="seq 6000; echo >&2 oh; exit 3")
        text = done["output"]
        assert (done["is_complete"], len(text) < 20_100) == (False, True)
        while not done["is_complete"]:
            done = await session.call("job_output", pod=pod, job=done["job"], offset=done["next_offset"])
            text = f"{text}\n{done['output']}"
        assert done["exit_code"] == 3
        assert sorted(text.split()) == sorted([*map(str, range(1, 6001)), "oh"])
        spend = await session.call("spend")
        assert spend["budget"]["reserved"] == pytest.approx(quote["worst_cost"])
        [row] = spend["rented"]
        assert (row["name"], row["state"]) == (name, "running")
        released = await session.call("release", pod=listed["name"])
        assert (released["state"], market.pods) == ("ended", {})
        [record] = await _history(market)
        assert record <= released["spent"] < 0.1
        spend = await session.call("spend")
        assert (spend["rented"], spend["budget"]["reserved"]) == ([], 0.0)
        assert (await session.call("release", pod=name))["spent"] == released["spent"]


async def _history(market: Emulator) -> list[float]:
    async with AsyncClient(market.api_key, base_url=market.url) as client:
        return [record.total_billed_price async for record in client.pods.history()]


async def test_an_offer_that_is_sold_out_meanwhile(open_session: Open, market: Emulator) -> None:
    """Nothing is rented, the agent is told, and nothing stays reserved; no other offer is taken."""
    market.faults.add(Status(400, body={"detail": "The requested machine is out of stock"}), on="create")
    async with open_session() as session:
        quote = await session.call("quote", gpu_type="H100")
        said = await session.fail("rent", quote_id=quote["quote_id"])
        assert "the pod was not rented" in said
        assert "stock" in said
        assert "Ask for a new quote" in await session.fail("rent", quote_id=quote["quote_id"])
        assert (await session.call("spend"))["budget"]["left"] == 20.0
    assert len(market.requests.where(method="POST")) == 1


async def test_a_pod_that_does_not_boot(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back without being asked; the agent is told why, and what it has cost is counted."""
    with Emulator(boot_seconds=0, delete_seconds=0, failure_rate=1.0) as market:
        monkeypatch.setenv("PRIME_API_KEY", market.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", market.url)
        async with open_session() as session:
            quote = await session.call("quote", gpu_type="H100")
            result = await session.client.call_tool("rent", {"quote_id": quote["quote_id"]})
            if not result.is_error:
                name = list_runs()[0][0].name
                assert "not ready" in await session.fail("run_command", pod=name, command="true")
            await eventually(lambda: not market.pods and not list_runs()[0][0].is_live)
            budget = (await session.call("spend"))["budget"]
        assert budget["reserved"] == 0.0
        assert 0 < budget["spent"] < 0.2


async def test_a_call_that_is_cancelled(open_session: Open, market: Emulator) -> None:
    """A cancelled order is neither lost nor repeated: it is listed, and can be released."""
    market.faults.add(Delay(2), on="create")
    async with open_session() as session:
        quote = await session.call("quote", gpu_type="H100")
        async with anyio.create_task_group() as group:
            group.start_soon(session.client.call_tool, "rent", {"quote_id": quote["quote_id"]})
            await eventually(lambda: bool(market.requests.where(method="POST")))
            group.cancel_scope.cancel()
        await eventually(lambda: bool(market.pods))
        [row] = (await session.call("spend"))["rented"]
        assert (await session.call("release", pod=row["name"]))["spent"] is not None
    assert len(market.requests.where(method="POST")) == 1
    assert not market.pods


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_run_that_is_killed_during_its_order(
    open_session: Open, market: Emulator, *, has_ended: bool
) -> None:
    """The agent is told that the pod may be billed, and by which name it can be released.

    The pod is found by its name also if the run has ended, as after an order without a response.
    """
    market.faults.add(Drip(60), on="create")
    async with open_session() as session:
        quote = await session.call("quote", gpu_type="H100")
        said: list[str] = []

        async def order() -> None:
            said.append(await session.fail("rent", quote_id=quote["quote_id"]))

        async with anyio.create_task_group() as group:
            group.start_soon(order)
            await eventually(lambda: bool(market.pods))
            [run] = list_runs()[0]
            os.kill(run.record.pid, signal.SIGKILL)
        assert f"its pod may be billed: call release with {run.name!r}" in said[0]
        if has_ended:
            assert run.reload().pod_id is None
            run.save(exit_code=1, ended_at=run.record.began_at)
        await session.call("release", pod=run.name)
        await eventually(lambda: not market.pods)


async def test_a_release_that_fails_can_be_repeated(open_session: Open, market: Emulator) -> None:
    """Each call says that the run's process is on another host, not only the first."""
    async with open_session() as session:
        name = (await rent(session))["name"]
        await session.call("run_command", pod=name, command="true")
        [run] = list_runs()[0]
        here = run.record.host
        run.save(host=("elsewhere",))
        for _ in range(2):
            assert "is on the host elsewhere" in await session.fail("release", pod=name)
        run.save(host=here)
        assert (await session.call("release", pod=name))["spent"] is not None
    assert not market.pods


async def test_a_killed_session_leaves_its_pod_to_its_expiry(
    open_session: Open, market: Emulator, tmp_path: Path
) -> None:
    """The pod goes on, with its expiry in its name; the next session finds it, by one budget, and ends it."""
    from mcp import Client, StdioServerParameters

    words = ["mcp", "--allow-rent", "--max-hourly", "5", "--budget", "4"]
    script = (
        "import os, sys; print(os.getpid(), file=open('pid', 'w')); from primepods.cli import main; main()"
    )
    server = StdioServerParameters(
        command=sys.executable, args=["-c", script, *words], env=dict(os.environ), cwd=tmp_path
    )
    async with Client(server) as client:
        rented = await rent(Session(client), hours=1)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    [pod] = market.pods.values()
    assert "-x" in str(pod.name)
    async with open_session(4.0) as session:
        [row] = (await session.call("spend"))["rented"]
        assert (row["name"], row["spent"]) == (rented["name"], None)
        assert "The limit --budget is $4.00" in await session.fail("quote", gpu_type="H100", hours=2)
        assert (await session.call("release", pod=row["name"]))["spent"] < 0.2
    assert not market.pods


async def test_an_impatient_agent_gives_no_deletion_up(open_session: Open, market: Emulator) -> None:
    """Asked again and again, also by another session, a release goes on until the pod is confirmed gone."""
    async with open_session() as session, open_session() as another:
        name = (await rent(session))["name"]
        await session.call("run_command", pod=name, command="true")
        market.faults.add(Delay(5), on="delete")
        async with anyio.create_task_group() as group:
            for each in (session, another, session, another):
                group.start_soon(partial(each.call, "release", pod=name))
                await anyio.sleep(0.5)
        assert (await session.call("release", pod=name))["spent"] < 0.2
    assert not market.pods


async def test_a_session_says_what_it_leaves(
    open_session: Open, market: Emulator, capfd: pytest.CaptureFixture[str]
) -> None:
    """At its end, on stderr, with what ends it."""
    async with open_session() as session:
        kept = await rent(session)
    said = capfd.readouterr().err
    assert f"{kept['name']} still runs" in said
    async with open_session() as session:
        released = await rent(session)
        for name in (kept["name"], released["name"]):
            await session.call("release", pod=name)
    assert "billed" not in capfd.readouterr().err
    async with open_session() as session:
        killed = await rent(session)
        [run] = [run for run in list_runs()[0] if run.name == killed["name"]]
        os.kill(run.reload().pid, signal.SIGKILL)
        await eventually(lambda: not run.is_live)
    said = capfd.readouterr().err
    assert f"{run.name} has no process, and its pod may be billed" in said
    async with open_session() as session:
        await session.call("release", pod=run.name)
        await eventually(lambda: not market.pods)
    assert not [*run.path.parent.glob("*/stopping-*")]


async def test_twenty_sessions_never_exceed_one_budget(open_session: Open, market: Emulator) -> None:
    """All rent at once: as many pods as the budget has room for, and each refusal leaves nothing."""

    async def attempt() -> bool:
        async with open_session(6.0) as session:
            quote = await session.client.call_tool("quote", {"gpu_type": "H100"})
            if quote.is_error:
                return False
            quote_id = quote.structured_content["quote_id"]
            return not (await session.client.call_tool("rent", {"quote_id": quote_id})).is_error

    assert sum(await asyncio.gather(*(attempt() for _ in range(20)))) == 3
    assert len(market.requests.where(method="POST")) == len(market.pods) == 3
    assert len(list_runs()[0]) == 3
    async with open_session(6.0) as session:
        spend = await session.call("spend")
        assert spend["budget"]["reserved"] <= 6.0
        await asyncio.gather(*(session.call("release", pod=row["name"]) for row in spend["rented"]))
        assert (await session.call("spend"))["budget"]["reserved"] == 0.0
    assert not market.pods


async def test_a_rehearsal_costs_nothing(market: Emulator, tmp_path: Path) -> None:
    """On an emulator of its own, with a budget of its own; nothing of it is left when it ends."""
    from mcp import Client, StdioServerParameters

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "primepods", "mcp", "--emulator", "--allow-rent", "--max-hourly", "5", "--budget", "5"],
        env=dict(os.environ),
        cwd=tmp_path,
    )
    async with Client(server) as client:
        session = Session(client)
        rented = await rent(session)
        done = await session.call("run_command", pod=rented["name"], command="echo rehearsed")
        assert done["output"] == "rehearsed"
    await eventually(lambda: not _processes_of(rented["name"]))
    assert not market.requests.where(method="POST")
    assert not (tmp_path / "state").exists()


def _processes_of(name: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue
    return [line for line in found if name in line]
