"""An API in a thread, whose answers may be held; and scripts in interpreters of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

import primepods
from tests.support.client import KEY
from tests.support.server import Answer, Hang, Received, Server, reply

STATUS: Final = "/api/v1/pods/status"
PODS: Final = "/api/v1/pods/"
STRICT: Final = ("-X", "dev", "-W", "error")
"""Every warning is an error, and what goes unclosed is warned of."""


def eventually(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait until something in another thread or process has happened."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"in vain: {what}"
        time.sleep(0.005)


def pod_row(pod_id: str) -> dict[str, Any]:
    """A pod as the API lists it."""
    return {
        "id": pod_id,
        "name": pod_id,
        "gpuName": "H100_80GB",
        "gpuCount": 8,
        "priceHr": 2.5,
        "status": "ACTIVE",
        "providerType": "runpod",
        "type": "HOSTED",
        "userId": "u",
        "walletId": "w",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "environmentType": "ubuntu",
        "socket": "PCIe",
    }


def status_row(pod_id: str, *, ready: bool = True) -> dict[str, Any]:
    """A pod's status, ready or on its way."""
    return {
        "podId": pod_id,
        "providerType": "runpod",
        "status": "ACTIVE" if ready else "PROVISIONING",
        "installationStatus": "FINISHED" if ready else "PENDING",
        "ip": "1.2.3.4" if ready else None,
        "sshConnection": "root@1.2.3.4 -p 22" if ready else None,
    }


class Api:
    """Pods named ``p0``, ``p1``, …; what `hold` says is never answered.

    Args:
        pods: How many there are.
        ready: Whether they are.
        hold: Tells of a request whether it hangs until its caller goes away.
    """

    def __init__(
        self, pods: int = 3, *, ready: bool = True, hold: Callable[[Received], bool] = lambda _: False
    ) -> None:
        self.ids = [f"p{n}" for n in range(pods)]
        self.ready = ready
        self.hold = hold
        self.held = 0
        """How many requests hang now."""
        self.server = Server(self._answer)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.server.url

    @property
    def requests(self) -> list[Received]:
        """What was asked."""
        return self.server.requests

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.path == path for request in list(self.requests))

    def _answer(self, request: Received) -> Answer:
        if self.hold(request):
            return _Held(self)
        if request.path == STATUS:
            ids = [pod_id for pod_id in request.values("pod_ids") if pod_id in self.ids]
            return reply({"data": [status_row(pod_id, ready=self.ready) for pod_id in ids]})
        if request.path.rstrip("/") == PODS.rstrip("/"):
            offset, limit = (int(request.values(name)[0]) for name in ("offset", "limit"))
            rows = [pod_row(pod_id) for pod_id in self.ids[offset : offset + limit]]
            return reply({"total_count": len(self.ids), "offset": offset, "limit": limit, "data": rows})
        pod_id = request.path.removeprefix(PODS)
        if pod_id not in self.ids:
            return reply({"detail": "Pod not found"}, 404)
        return reply({"status": "DELETING"} if request.method == "DELETE" else pod_row(pod_id))


@attrs.frozen
class _Held(Hang):
    """Hangs, and counts."""

    api: Any

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Wait for the client to give up."""
        self.api.held += 1
        try:
            return await super().send(writer, reader)
        finally:
            self.api.held -= 1


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """Serve from a thread, so that blocking clients and other processes can ask."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        async with api.server:
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="api")
    thread.start()
    assert started.wait(10)
    try:
        yield api
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def client_of(api: Api, **options: Any) -> primepods.Client:
    """A blocking client of ``api``."""
    return primepods.Client(KEY, base_url=api.url, **options)


@attrs.frozen
class Ended:
    """What became of a script."""

    code: int
    out: str
    err: str
    seconds: float
    """From the interruption, or else from the start, to the end."""

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.out.splitlines()

    def quiet(self) -> Ended:
        """Check that it ended well and said nothing on the standard error."""
        assert (self.code, self.err) == (0, ""), self
        return self


class Script:
    """A program in an interpreter of its own, whose environment has the API's address and a key."""

    def __init__(self, path: Path, source: str, url: str) -> None:
        # Logged by asyncio's debug mode, which `-X dev` switches on, whenever the machine is busy.
        prelude = "import logging; logging.getLogger('asyncio').setLevel(logging.ERROR)\n"
        path.write_text(prelude + textwrap.dedent(source), encoding="utf-8")
        environment = {
            **os.environ,
            "PRIME_API_KEY": KEY,
            "PRIME_API_BASE_URL": url,
            "PYTHONPATH": str(Path(primepods.__file__).parent.parent),
            "PYTHONUNBUFFERED": "1",
        }
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, *STRICT, str(path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=path.parent,
        )

    def go_on(self) -> None:
        """Let it get past its next `input()`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._began = time.monotonic()
        self._process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 30.0) -> Ended:
        """Wait for its end; a script that hangs is killed, and fails the test."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            out, err = self.kill()
            raise AssertionError(f"it hangs; so far: {out!r} {err!r}") from None
        return Ended(self._process.returncode, out, err, time.monotonic() - self._began)

    def kill(self) -> tuple[str, str]:
        """Put an end to it, if it has none; returns what it has said."""
        self._process.kill()
        return self._process.communicate() if self._process.stdout else ("", "")
