"""Starting, stopping, clocks, the request log: what the emulator is to the test that holds it."""

import asyncio
import socket
import threading
import time
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import pairwise

import aiohttp
import pytest

from primepods.emulator import Emulator, ManualClock

from .caller import PODS, STATUS, Caller
from .conftest import Serve


async def fetch(emulator: Emulator, path: str) -> int:
    """The status of one GET."""
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(emulator.url + path, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def test_it_serves_from_the_running_loop() -> None:
    """With `async with`, and leaves no thread, task or listening socket behind."""
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with Emulator(pods=3) as emu:
        assert await fetch(emu, PODS) == 200
        assert threads.issuperset(threading.enumerate())
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch(emu, PODS)


def test_it_leaves_no_thread_behind() -> None:
    """Also with a connection that its client keeps open."""
    before = set(threading.enumerate())
    with Emulator() as emu:
        connection = Caller(emu).connect()
    with connection:
        assert connection.recv(1) == b""
    assert before.issuperset(threading.enumerate())


def test_a_client_that_does_not_read_does_not_delay_its_stop() -> None:
    """However much is waiting to be sent."""
    with Emulator(pods=1000) as emu:
        connection = Caller(emu).connect()
        head = f"Host: localhost\r\nAuthorization: Bearer {emu.api_key}"
        request = f"GET {PODS}?limit=1000 HTTP/1.1\r\n{head}\r\n\r\n"
        connection.sendall(request.encode() * 20)
        while len(emu.requests) < 5:
            time.sleep(0.001)
    connection.close()


def test_it_can_be_restarted_on_its_port_with_its_state() -> None:
    """As a server that was down for a while."""
    emu = Emulator(pods=2, boot_seconds=0)
    with emu:
        url = emu.url
        pod_id = emu.add_pod()
    with emu:
        assert emu.url == url
        assert Caller(emu).get(PODS + pod_id)["id"] == pod_id


async def test_a_taken_port_is_an_error_that_can_be_caught() -> None:
    """In either way to serve; the second try succeeds once the port is free."""
    with Emulator() as first:
        port = int(first.url.rpartition(":")[2])
        second = Emulator(port=port)
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            second.start()
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await second.__aenter__()
    with second:
        assert second.url == first.url


@pytest.mark.parametrize("host", [".".join("0000"), "192.0.2.1", "example.com", "", "::"])
def test_it_serves_this_machine_only(host: str) -> None:
    """An emulator is no server for others."""
    with pytest.raises(ValueError, match="this machine only"):
        Emulator(host=host)


def has_ipv6() -> bool:
    """Whether this machine can listen on ::1: Python may know of IPv6 where the machine has none."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_it_serves_on_any_name_of_the_loopback(host: str) -> None:
    """Also where that is IPv6."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with Emulator(host=host) as emu:
        assert Caller(emu).get(PODS)["total_count"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"pods": -1},
        {"boot_seconds": -1.0},
        {"boot_seconds": float("nan")},
        {"delete_seconds": float("inf")},
        {"failure_rate": 1.5},
        {"speed": 0.0},
        {"clock": ManualClock(), "speed": 2.0},
        {"api_key": ""},
        {"api_key": "a b"},
        {"api_key": "schlüssel"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    """When it is made, not when it is used."""
    with pytest.raises(ValueError, match=r".+"):
        Emulator(**arguments)  # type: ignore[arg-type]  # wrong on purpose


def test_a_clock_that_runs_cannot_be_advanced() -> None:
    """The message says which clock can."""
    with pytest.raises(RuntimeError, match="ManualClock"):
        Emulator().advance(1)


async def test_sleepers_on_a_manual_clock_wake_in_time() -> None:
    """From whatever thread it is moved; who stops waiting is forgotten."""
    clock = ManualClock()
    await clock.sleep(0)
    short, long = (asyncio.create_task(clock.sleep(seconds)) for seconds in (5, 10))
    await asyncio.sleep(0)
    clock.advance(4)
    await asyncio.sleep(0)
    assert not short.done()
    await asyncio.to_thread(clock.advance, 1)
    await short
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    clock.advance(100)


def test_speed_makes_pods_boot_faster() -> None:
    """A boot of an hour is over before the third answer, or the thousandth."""
    with Emulator(pods=1, boot_seconds=3600.0, speed=1e6) as emu:
        call = Caller(emu)
        [pod_id] = emu.pods
        statuses = [call.status(pod_id)[0]["status"]]
        while statuses[-1] != "ACTIVE":
            statuses.append(call.status(pod_id)[0]["status"])
        assert len(statuses) < 10_000


def test_requests_are_logged_in_their_order(call: Caller) -> None:
    """Method, path, query, status and time."""
    call.get(STATUS, ("pod_ids", "a"), ("pod_ids", "b"))
    call.emulator.advance(3)
    call("DELETE", PODS + "x")
    first, second = call.emulator.requests
    assert (first.method, first.path, first.status, first.time) == ("GET", STATUS, 200, 0.0)
    assert first.query == [("pod_ids", "a"), ("pod_ids", "b")]
    assert (second.method, second.path, second.status, second.time) == ("DELETE", PODS + "x", 404, 3.0)
    assert call.emulator.requests[:1] == [first]
    assert call.emulator.requests.where(method="DELETE") == [second]
    assert call.emulator.requests.where(path=STATUS, status=200) == [first]
    assert call.emulator.requests.where(operation="status") == [first]
    assert call.emulator.requests.where(operation={"list", "delete"}, status=404) == [second]
    assert call.emulator.requests.where(status=(200, 404)) == [first, second]
    call.emulator.requests.clear()
    assert len(call.emulator.requests) == 0


def test_the_key_is_never_logged(call: Caller) -> None:
    """Not even if it is sent where it has no business."""
    key = call.emulator.api_key
    call("GET", f"{PODS}{key}", [("pod_ids", key), (key, "x")])
    call("GET", PODS + "".join(f"%{ord(letter):02x}" for letter in key))
    log = repr(list(call.emulator.requests))
    assert key not in log
    assert log.count("***") == 4
    assert "%" not in log


async def test_latency_delays_responses() -> None:
    """Each by that much, in real time."""
    async with Emulator(latency=0.05) as emu:
        began = time.monotonic()
        assert await fetch(emu, PODS) == 200
        assert time.monotonic() - began > 0.04


def test_pods_can_be_added_while_the_api_is_read(serve: Serve) -> None:
    """From two threads: every page is whole, every total grows."""
    call = serve(pods=50, boot_seconds=0)

    def add() -> None:
        for _ in range(300):
            call.emulator.add_pod()

    thread = threading.Thread(target=add)
    thread.start()
    pages = [call.get(PODS, ("limit", "1000")) for _ in range(10)]
    thread.join()
    assert all(len(page["data"]) == min(page["total_count"], 1000) for page in pages)
    assert all(before["total_count"] <= after["total_count"] for before, after in pairwise(pages))


def test_it_has_no_url_before_it_is_started() -> None:
    """The message says how to start it."""
    with pytest.raises(RuntimeError, match="with Emulator"):
        _ = Emulator().url


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_manual_clock_moves_forward(seconds: float) -> None:
    """By finite amounts."""
    with pytest.raises(ValueError, match="at least 0"):
        ManualClock().advance(seconds)


def test_a_manual_clock_needs_a_timezone() -> None:
    """The wire's times are in UTC."""
    with pytest.raises(ValueError, match="timezone"):
        ManualClock(epoch=datetime(2026, 1, 1))


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_connects_meanwhile_does_not_hold_up_the_end(turns: int) -> None:
    """An emulator stops at once, though a connection is being accepted while the others are closed."""
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator())
        address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
        with socket.create_connection(address):
            for _ in range(10):
                await asyncio.sleep(0.001)
            with socket.create_connection(address):
                for _ in range(turns):
                    await asyncio.sleep(0)
                await asyncio.wait_for(stack.aclose(), timeout=60)
