"""TLS: verified, and not to be switched off by accident."""

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import primepods
from primepods import AsyncClient, Client, RetryPolicy
from tests.support import tls
from tests.support.client import KEY, serve
from tests.support.clock import ManualClock
from tests.support.server import Server, reply

ROOT = Path(__file__).parent.parent.parent
GOOD = reply({"total_count": 0, "offset": 0, "limit": 100, "data": []})

ASK = """
    import sys, warnings
    warnings.simplefilter("ignore")
    import primepods
    try:
        with primepods.Client(timeout=10, deadline=20) as client:
            print("answered", client.pods.page().total_count)
    except primepods.TransportError as error:
        print(type(error).__name__, error.attempts, error.maybe_received, error)
"""


async def ask(url: str, **environment: str) -> str:
    """What a program of its own makes of a server, with an environment of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(ASK)),
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PRIME_API_KEY": KEY,
            "PRIME_API_BASE_URL": url,
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    """At once, for every method; the server does not get a byte of the request; the message says what."""
    clock = ManualClock(auto=True)
    async with serve(default=GOOD, tls=tls.server_context(), clock=clock) as (server, client):
        for method in ("GET", "DELETE", "POST"):
            with pytest.raises(primepods.TransportError) as caught:
                await client.request(method, "/api/v1/pods/")
            error = caught.value
            assert (error.attempts, error.maybe_received, error.transient) == (1, False, False)
            assert "certificate" in str(error).lower()
            assert "SSL_CERT_FILE" in str(error)
        assert clock.sleeps == []
        with pytest.raises(primepods.TransportError):
            await client.pods.wait(["a"], timeout=100)
        assert server.requests == []


SWITCHES = {
    "PYTHONHTTPSVERIFY": "0",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "CURL_CA_BUNDLE": "",
    "REQUESTS_CA_BUNDLE": "",
    "AIOHTTP_NO_EXTENSIONS": "1",
    "PRIME_VERIFY": "0",
    "PRIME_INSECURE": "1",
    "SSL_VERIFY": "false",
    "SSL_NO_VERIFY": "1",
}


@pytest.mark.slow
async def test_no_variable_switches_it_off() -> None:
    """Those that switch off other programs' verification, all at once, and what somebody might try."""
    async with Server(default=GOOD, tls=tls.server_context()) as server:
        said = await ask(server.url, **SWITCHES)
        assert said.startswith("TransportError 1 False"), said
        assert "certificate" in said.lower()
        assert server.requests == []


@pytest.mark.slow
async def test_the_systems_authorities_decide_and_the_name_must_fit(tmp_path: Path) -> None:
    """With the certificate among the CAs its names are believed; another name of the same machine is not."""
    trusted = tmp_path / "ca.pem"
    trusted.write_text(tls._CERTIFICATE)
    async with Server(default=GOOD, tls=tls.server_context()) as server:
        assert (await ask(server.url, SSL_CERT_FILE=str(trusted))).strip() == "answered 0"
        assert len(server.requests) == 1
    received: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))
        writer.close()

    # All of 127.0.0.0/8 is this machine, but the certificate names one address of it only.
    if sys.platform != "linux":
        pytest.skip("only Linux has all of 127.0.0.0/8")
    other = await asyncio.start_server(hear, "127.0.0.2", 0, ssl=tls.server_context())
    async with other:
        port = other.sockets[0].getsockname()[1]
        said = await ask(f"https://127.0.0.2:{port}", SSL_CERT_FILE=str(trusted))
    assert said.startswith("TransportError 1 False"), said
    assert "127.0.0.2" in said
    assert b"".join(received) == b""


def test_no_parameter_switches_it_off() -> None:
    """There is none: only a session of one's own brings other rules, said in its connector."""
    for kind in (AsyncClient, Client):
        for name in inspect.signature(kind).parameters:
            assert not any(word in name for word in ("verify", "ssl", "tls", "insecure", "cert")), name
    client = AsyncClient(KEY)
    assert client._executor.settings.base_url.startswith("https://")
    with pytest.raises(primepods.ConfigError, match="plain http"):
        AsyncClient(KEY, base_url="http://api.primeintellect.ai", retry=RetryPolicy(attempts=1))
