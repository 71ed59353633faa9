"""The key: what becomes of it in whole programs, in waits and in blocking calls."""

import asyncio
import base64
import logging
import os
import pickle
import pprint
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import attrs
import pytest

import primepods
from primepods import AsyncClient, Client, RetryPolicy
from primepods.emulator import Emulator, Html, Redirect, Reset, Status
from primepods.waiting import _poller as polling
from tests.support.client import KEY, make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Close, Hang, Reply, Server, refused_url, reply
from tests.wire.test_secrets import leaks, shown, walk

ROOT = Path(__file__).parent.parent.parent
ROW = {"podId": "a", "providerType": "x", "status": "ACTIVE", "installationStatus": "PENDING"}


ENDS: dict[str, Answer] = {
    "401": reply({"detail": "no"}, 401),
    "403": reply({"detail": "no"}, 403),
    "404": reply({"detail": "no"}, 404),
    "429": Reply(429, headers={"Retry-After": "5"}),
    "503": Reply(503),
    "HTML": Reply(200, b"<html>"),
    "wrong shape": reply({"data": [{"podId": 5, "status": {}}]}),
    "closed": Close(),
    "never": Hang(),
    "pending": reply({"data": [ROW]}),
    "failed": reply({"data": [{**ROW, "status": "ERROR", "installationFailure": "no image"}]}),
}
"""Answers, after each of which a wait ends with an error of another kind."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDS)
async def test_no_end_of_a_wait_shows_the_key(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The poller has connections of its own: none of its errors, tasks, tables or log lines has the key."""
    caplog.set_level(logging.DEBUG)
    clock = ManualClock()
    async with Server(default=ENDS[kind]) as server, make_client(server.url, clock=clock) as client:
        tasks = [asyncio.create_task(client.pods.wait([one], timeout=200)) for one in "ab"]
        await settle()
        seen = [repr(polling._pollers), pprint.pformat(polling._pollers), *map(repr, asyncio.all_tasks())]
        seen += walk(polling._pollers)
        await clock.advance(210)
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert len(seen) > 50
    assert not leaks("\n".join(seen))
    for error in errors:
        assert isinstance(error, primepods.PrimePodsError)
        assert not leaks(shown(error))
    assert not leaks(caplog.text + repr([vars(record) for record in caplog.records]))


def run(*words: str, **environment: str) -> str:
    """Run Python with some words behind it, to its end; returns all that it prints."""
    result = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500", **environment},
    )
    return result.stdout + result.stderr


FAILING_TESTS = '''
    """Each test fails somewhere else, deep in the libraries; the key comes from the environment."""

    import asyncio
    import os

    import pytest
    import primepods

    pytestmark = pytest.mark.parametrize("url", os.environ["URLS"].split())
    RETRY = primepods.RetryPolicy(attempts=2, base_delay=0)


    @pytest.mark.parametrize("call", ["get", "delete", "wait_gone"])
    def test_blocking(call, url):
        with primepods.Client(base_url=url, timeout=2, deadline=3, retry=RETRY) as client:
            more = {"timeout": 0.5} if call == "wait_gone" else {}
            getattr(client.pods, call)("some-pod", **more)


    @pytest.mark.parametrize("call", ["page", "statuses", "cancelled"])
    def test_async(call, url):
        async def main():
            async with primepods.AsyncClient(base_url=url, timeout=2, deadline=3, retry=RETRY) as client:
                if call == "cancelled":
                    await asyncio.wait_for(client.pods.wait(["a"], timeout=60), 0.3)
                elif call == "page":
                    await client.pods.page()
                else:
                    (await client.pods.statuses(["a", "b"])).raise_for_errors()

        asyncio.run(main())
'''


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pytest_with_locals_does_not_show_the_key(tmp_path: Path) -> None:
    """``pytest -l --full-trace`` prints the locals of every frame, those of the libraries included."""
    program = tmp_path / "test_failing.py"
    program.write_text(textwrap.dedent(FAILING_TESTS))
    faults = (Reset(), Html(), Status(503), Redirect("http://elsewhere.example.test/"))
    with ExitStack() as stack:
        emulators = [stack.enter_context(Emulator(api_key=KEY)) for _ in faults]
        for emulator, fault in zip(emulators, faults, strict=True):
            emulator.faults.add(fault)
        said = run(
            *("-m", "pytest", "-l", "--full-trace", "-vv", "--log-level=DEBUG", "-p", "no:cacheprovider"),
            *("-p", "no:randomly", "--rootdir", str(tmp_path), str(program)),
            PRIME_API_KEY=KEY,
            URLS=" ".join([*(emulator.url for emulator in emulators), refused_url()]),
        )
    assert f"{6 * 5} failed" in said
    assert "site-packages" in said, "no frame of a library was shown"
    assert not leaks(said.replace(f"PRIME_API_KEY={KEY}", ""))


@pytest.mark.slow
def test_a_crash_of_a_script_does_not_show_the_key() -> None:
    """Not with every switch for developers on: development mode, asyncio's debugging, all logs, rich."""
    script = """
        import asyncio, logging, sys
        import rich.traceback
        import primepods

        logging.basicConfig(level=logging.DEBUG)
        rich.traceback.install(show_locals=True, width=300, locals_max_string=1000)

        async def main():
            client = primepods.AsyncClient(retry=primepods.RetryPolicy(attempts=2, base_delay=0))
            # One that nobody awaits, one that is cancelled, and one that ends the program.
            forgotten = asyncio.create_task(client.pods.get("a"))
            dropped = asyncio.create_task(client.pods.wait(["b"]))
            await asyncio.sleep(0.3)
            dropped.cancel()
            print(client, vars(client), client._executor.settings, asyncio.all_tasks())
            await client.pods.statuses(["c"])

        asyncio.run(main(), debug=True)
    """
    with Emulator(api_key=KEY) as emulator:
        emulator.faults.add(Reset())
        words = ("-X", "dev", "-c", textwrap.dedent(script))
        said = run(*words, PRIME_API_KEY=KEY, PRIME_API_BASE_URL=emulator.url, PYTHONASYNCIODEBUG="1")
    assert "TransportError" in said
    assert "Task exception was never retrieved" in said
    assert "DEBUG:primepods" in said
    assert not leaks(said)


@pytest.mark.parametrize("own", [True, False])
async def test_the_key_goes_to_its_own_server_and_to_no_other(
    *, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All operations, waits included, with every other server that the environment and the answers name."""
    clock = ManualClock(auto=True)
    async with Server(default=Reply(200, b"{}")) as trap, Emulator(pods=3, api_key=KEY) as emulator:
        # For loopback these are no proxies, and a CGI program's headers are nobody's settings.
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, trap.url)
        monkeypatch.setenv("PRIME_BASE_URL", trap.url)
        emulator.faults.add(Redirect(f"{trap.url}/api/v1/pods/"), probability=0.5)
        async with (
            aiohttp.ClientSession() as session,
            make_client(
                emulator.url, clock=clock, session=None if own else session, retry=RetryPolicy(attempts=2)
            ) as client,
        ):
            pods = client.pods
            some = list(emulator.pods)
            refusals: list[str] = []
            for _ in range(6):
                for call in (
                    pods.page(),
                    pods.get(some[0]),
                    pods.statuses(some),
                    pods.logs(some[0]),
                    pods.history_page(),
                    pods.delete(some[2], missing_ok=True),
                    pods.wait(some[:2], timeout=20, until=lambda status: status is not None),
                    client.request("POST", "/api/v1/pods/", json={}),
                ):
                    try:
                        await call
                    except primepods.PrimePodsError as error:
                        refusals.append(str(error))
        assert sum("another origin" in refusal for refusal in refusals) > 5
        assert trap.connections == 0


def test_a_cgi_program_is_not_told_its_proxy_by_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Proxy: evil`` in a request becomes HTTP_PROXY in a CGI program's environment: no proxy of ours."""
    monkeypatch.setenv("HTTP_PROXY", "http://evil.example.test:1")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    client = AsyncClient(KEY)
    assert client._executor.settings.proxy is None


async def test_a_proxys_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in the environment's URL; no error, log or repr repeats it, however the proxy fails."""
    caplog.set_level(logging.DEBUG)
    password = "correct-horse-battery"
    for answer in (Reply(407), Reply(502), Close(), Hang(), None):
        async with Server(default=answer or Close()) as proxy:
            url = proxy.url if answer else refused_url()
            monkeypatch.setenv("HTTPS_PROXY", url.replace("//", f"//us%20er:{password}@"))
            clock = ManualClock(auto=True)
            async with make_client("https://api.example.test", clock=clock) as client:
                # Not awaited here: this frame knows the password.
                dropped = asyncio.create_task(client.pods.page())
                await settle()
                dropped.cancel()
                errors = await asyncio.gather(dropped, client.pods.page(), return_exceptions=True)
                seen = [repr(client), pprint.pformat(vars(client)), repr(client._executor.settings)]
            assert proxy.requests or answer is None
            for request in proxy.requests:
                assert request.target == "api.example.test:443"
                kind, _, token = request.headers["proxy-authorization"].partition(" ")
                assert (kind, base64.b64decode(token).decode()) == ("Basic", f"us er:{password}")
                assert "authorization" not in request.headers
        assert isinstance(errors[1], primepods.TransportError)
        seen += [shown(error) for error in errors if isinstance(error, BaseException)]
        assert len(seen) == 5
        token = base64.b64encode(f"us er:{password}".encode()).decode()
        assert not leaks("\n".join(seen), password)
        assert not leaks("\n".join(seen), token)
        assert not leaks("\n".join(seen))
    assert not leaks(caplog.text, password)


def test_a_blocking_client_shows_no_more_than_an_async_one() -> None:
    """`repr`, `str`, `vars` and pickle of the blocking client and its parts."""
    with Emulator(pods=1, api_key=KEY) as emulator, Client(KEY, base_url=emulator.url) as client:
        pager = client.pods.list()
        list(pager)
        parts = (client, client.pods, pager, client._portal, client.pods.watch(["a"]))
        seen = [text for part in parts for text in (str(part), pprint.pformat(vars(part)), *walk(part))]
        for part in parts:
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                pickle.dumps(part)
    assert not leaks("\n".join(seen))


def test_the_emulator_shows_no_key_either() -> None:
    """Its `repr`, its log of requests, also when a client sends the key where it does not belong."""
    with Emulator(pods=1, api_key=KEY) as emulator, Client(KEY, base_url=emulator.url) as client:
        client.pods.page()
        client.request("GET", "/api/v1/pods/", params={"limit": 1, "api_key": KEY})
        with pytest.raises(primepods.APIError):
            client.pods.get(KEY)
        log = [*emulator.requests]
        assert len(log) == 3
        assert not leaks(repr(emulator) + repr(log) + pprint.pformat([attrs.asdict(entry) for entry in log]))
