"""Pods behind a small server in a thread, interrupts, and scripts in interpreters of their own."""

import asyncio
import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

import primepods
from primepods.waiting import _poller
from tests.fixtures import document
from tests.support.client import KEY
from tests.support.eventually import wait_for
from tests.support.server import Answer, Received, Server, reply

eventually = wait_for
STATUS: Final = "/api/v1/pods/status"
PODS: Final = "/api/v1/pods/"
ROW: Final[dict[str, Any]] = document("pods_page")["data"][0]
"""A pod as the API lists it."""


class InterruptedQueue(queue.SimpleQueue[Any]):
    """A queue whose reader is interrupted once it has an item."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT002 - as the queue's own
        """Wait for an item, then raise."""
        super().get(block, timeout)
        raise KeyboardInterrupt


def no_poller_is_left() -> bool:
    """Tell whether nothing polls in this process."""
    return all(loop.is_closed() for loop, *_ in list(_poller._pollers))


def loop_threads() -> list[threading.Thread]:
    """The threads of blocking clients."""
    return [thread for thread in threading.enumerate() if thread.name == "primepods"]


def _nothing(request: Received) -> bool:
    return False


class Api(Server):
    """Pods named ``p0``, ``p1`` and so on.

    Args:
        pods: How many there are.
        ready: Whether they are.
        hold: Tells of a request whether it is held up, until this says otherwise or the client gives it up.
    """

    def __init__(
        self, pods: int = 3, *, ready: bool = True, hold: Callable[[Received], bool] = _nothing
    ) -> None:
        super().__init__(partial(Held, self))
        self.ids = [f"p{n}" for n in range(pods)]
        self.ready = ready
        self.hold = hold

    def release(self) -> None:
        """Hold nothing up any more."""
        self.hold = _nothing

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(request.path == path for request in list(self.requests))

    def reply_to(self, request: Received) -> Answer:
        """Answer as the API does."""
        if request.path == STATUS:
            asked = request.values("pod_ids")
            return reply({"data": [self._status(pod_id) for pod_id in asked if pod_id in self.ids]})
        if request.path.rstrip("/") == PODS.rstrip("/"):
            offset, limit = (int(request.values(name)[0]) for name in ("offset", "limit"))
            rows = [{**ROW, "id": pod_id} for pod_id in self.ids[offset : offset + limit]]
            return reply({"total_count": len(self.ids), "offset": offset, "limit": limit, "data": rows})
        pod_id = request.path.removeprefix(PODS)
        if pod_id not in self.ids:
            return reply({"detail": "Pod not found"}, 404)
        return reply({**ROW, "id": pod_id, **({"status": "DELETING"} if request.method == "DELETE" else {})})

    def _status(self, pod_id: str) -> dict[str, Any]:
        if not self.ready:
            return {"podId": pod_id, "status": "PROVISIONING"}
        ssh = {"ip": "1.2.3.4", "sshConnection": "root@1.2.3.4 -p 22"}
        return {"podId": pod_id, "status": "ACTIVE", "installationStatus": "FINISHED", **ssh}


@attrs.frozen
class Held(Answer):
    """An answer that is held up as the API says."""

    api: Api
    request: Received

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Wait, then answer."""
        while self.api.hold(self.request):
            if reader.at_eof():
                return False
            await asyncio.sleep(0.002)
        return await self.api.reply_to(self.request).send(writer, reader)


def client_of(api: Api, **options: Any) -> primepods.Client:
    """A blocking client of ``api``."""
    return primepods.Client(KEY, base_url=api.url, **options)


def interrupted(when: Callable[[], object], call: Callable[[], object]) -> None:
    """Do what Ctrl-C does as soon as `when` holds, during the call, which must end in KeyboardInterrupt."""
    began, over = threading.Event(), threading.Event()

    def interrupt() -> None:
        with suppress(AssertionError):
            eventually(lambda: over.is_set() or (began.is_set() and when()), "the time to interrupt")
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        if not over.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    thread = threading.Thread(target=interrupt)
    thread.start()
    others: set[object] = set()
    # A second would be over if this process had no processor for so long.
    patience = pytest.MonkeyPatch()
    patience.setattr("primepods.sync._call._CANCEL_TIMEOUT", 40.0)
    try:
        try:
            # `when` may hold already: only from here on, the interruption is caught.
            began.set()
            call()
        finally:
            # Inside, because the interruption may arrive right after the call.
            over.set()
    except KeyboardInterrupt as error:
        others = {error.__cause__, error.__context__}
    finally:
        over.set()
        thread.join()
        patience.undo()
        now = signal.signal(signal.SIGINT, before)
    assert others == {None}, "it was not interrupted, or not by that alone"
    assert now is handle


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """Make calls at the same time, each in a thread; returns what each returns, or raises."""
    outcomes: list[object] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(n: int) -> None:
        barrier.wait()
        try:
            outcomes[n] = calls[n]()
        except BaseException as error:
            outcomes[n] = error

    # Daemons: one that hangs fails its test, and does not hang the rest.
    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "it hangs"
    return outcomes


@attrs.frozen
class Ended:
    """What became of a script."""

    code: int
    out: str
    err: str
    seconds: float

    def lines(self) -> list[str]:
        """What it printed, having ended well and said nothing on the standard error."""
        assert (self.code, self.err) == (0, ""), self
        return self.out.splitlines()


class Script:
    """A program in an interpreter of its own, to which every warning is an error.

    Its environment has the API's address and a key.
    """

    def __init__(self, path: Path, source: str, url: str) -> None:
        # Logged by asyncio's debug mode, which `-X dev` switches on, whenever the machine is busy.
        quiet = f"import logging; logging.getLogger('asyncio').setLevel({logging.ERROR})\n"
        path.write_text(quiet + textwrap.dedent(source), encoding="utf-8")
        environment = {
            **os.environ,
            "PRIME_API_KEY": KEY,
            "PRIME_API_BASE_URL": url,
            "PYTHONPATH": str(Path(primepods.__file__).parent.parent),
            "PYTHONUNBUFFERED": "1",
        }
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=path.parent,
        )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 100.0) -> Ended:
        """Wait for its end; a script that hangs is killed, and fails the test.

        The limit is far above what a busy machine takes, and below that of a test.
        """
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
