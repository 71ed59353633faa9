"""`Emulator`: the whole thing, as its user holds it."""

import asyncio
import math
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from random import Random
from types import TracebackType
from typing import Self, Unpack

from primepods.emulator.api import PodsApi
from primepods.emulator.app import App
from primepods.emulator.clock import Clock, ManualClock, SystemClock
from primepods.emulator.listener import Listener, check_loopback
from primepods.emulator.pods import EmulatedPod, Nature, PodOverrides, PodRecord, view
from primepods.emulator.requestlog import RequestLog
from primepods.emulator.world import World


class PodsView(Mapping[str, EmulatedPod]):
    """The pods that the API would list now, by id; each look shows the present."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getitem__(self, pod_id: str) -> EmulatedPod:
        """The pod's state now; raises `KeyError` once it is gone."""
        with self._world.lock:
            now = self._world.settle()
            return view(self._world.pods[pod_id], now)

    def __iter__(self) -> Iterator[str]:
        """The ids in the order of the list."""
        with self._world.lock:
            self._world.settle()
            return iter(list(self._world.pods))

    def __len__(self) -> int:
        """How many pods there are now."""
        with self._world.lock:
            self._world.settle()
            return len(self._world.pods)


class Emulator:
    """A stand-in for the Prime Intellect pods API on a loopback socket: what moto is to boto3.

    `with Emulator(...)` serves from a thread and a loop of its own, so that blocking clients and other loops
    can talk to it; `async with Emulator(...)` serves from the running loop. State lives as long as the
    object: after leaving, the same emulator can be entered again on the same port, as a server that was
    restarted.

    Args:
        pods: how many pods there are at the start, all born at second 0; the same seed makes the same fleet.
        seed: what everything random is drawn from.
        boot_seconds: about how long a pod takes from birth to ready, drawn for each between 0.3 and 3 times
            this; 0 means that pods are ready at once.
        delete_seconds: how long a deleted pod is DELETING before it moves to the history.
        failure_rate: share of pods, 0 to 1, whose boot ends in ERROR.
        cluster_rate: share of pods, 0 to 1, that have several nodes.
        history: how many rows of all kinds are in the history at the start.
        api_key: the only key that is let in; by default one made from the seed.
        host: 127.0.0.1 or another name of this machine's loopback.
        port: 0 for any free one.
        clock: a `ManualClock`, moved with `advance`, or a clock of yours; default: a `SystemClock`.
        speed: emulated seconds per real second, for the default clock.
        max_page_size: longer pages are cut to this many rows.
        latency: real seconds that every answer takes at least.

    Raises `ValueError` for arguments that make no sense, `OSError` on entering if the port is taken.
    """

    def __init__(  # noqa: PLR0913  all optional, all by keyword
        self,
        *,
        pods: int = 0,
        seed: int = 0,
        boot_seconds: float = 30.0,
        delete_seconds: float = 5.0,
        failure_rate: float = 0.0,
        cluster_rate: float = 0.05,
        history: int = 0,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        speed: float = 1.0,
        max_page_size: int = 1000,
        latency: float = 0.0,
    ) -> None:
        check_loopback(host)
        _check_amounts(
            pods=pods,
            boot_seconds=boot_seconds,
            delete_seconds=delete_seconds,
            history=history,
            latency=latency,
        )
        _check_shares(failure_rate=failure_rate, cluster_rate=cluster_rate)
        if clock is not None and speed != 1.0:
            msg = "speed is for the default clock: give either clock or speed"
            raise ValueError(msg)
        self.clock: Clock = clock if clock is not None else SystemClock(speed=speed)
        self.api_key = _checked_key(api_key) if api_key is not None else _made_key(seed)
        self.requests = RequestLog()
        self._host = host
        self._port = port
        self._bound: int | None = None
        nature = Nature(
            seed=seed, boot_seconds=boot_seconds, failure_rate=failure_rate, cluster_rate=cluster_rate
        )
        self._world = World(clock=self.clock, nature=nature, delete_seconds=delete_seconds)
        self._world.seed_pods(pods)
        self._world.seed_history(history)
        api = PodsApi(self._world, api_key=self.api_key, max_page_size=max_page_size)
        app = App(api, self.requests, self.clock, api_key=self.api_key, latency=latency)
        self._listener = Listener(app.handle, app.refused)
        self._serving = False
        self._thread: threading.Thread | None = None
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __repr__(self) -> str:
        """Where it is; never the key."""
        where = f"http://{self._url_host()}:{self._bound}" if self._bound else "not started"
        return f"<Emulator {where}>"

    @property
    def url(self) -> str:
        """The base URL, for example `http://127.0.0.1:40123`.

        Raises `RuntimeError` before the first start.
        """
        if self._bound is None:
            msg = "the emulator has no URL before it is started: use it as `with Emulator() as emu:`"
            raise RuntimeError(msg)
        return f"http://{self._url_host()}:{self._bound}"

    @property
    def pods(self) -> Mapping[str, EmulatedPod]:
        """The pods that the API would list now, by id."""
        return PodsView(self._world)

    def add_pod(self, name: str | None = None, **overrides: Unpack[PodOverrides]) -> str:
        """Bear a pod now, behind the API's back; returns its id. See `PodOverrides` for what can be fixed.

        Raises `ValueError` for an id that is taken, `TypeError` for an override that there is not.
        """
        unknown = ", ".join(sorted(overrides.keys() - PodOverrides.__annotations__.keys()))
        if unknown:
            known = ", ".join(PodOverrides.__annotations__)
            msg = f"a pod has no {unknown}; what can be fixed: name, {known}"
            raise TypeError(msg)
        with self._world.lock:
            return self._world.add(name, overrides).id

    def delete_pod(self, pod_id: str) -> None:
        """Let a pod vanish at once, as when a provider takes it away; raises `KeyError` for an unknown id."""
        with self._world.lock:
            self._world.vanish(self._record(pod_id))

    def advance(self, seconds: float) -> None:
        """Move the `ManualClock` by `seconds`; raises `RuntimeError` if the clock moves by itself."""
        if not isinstance(self.clock, ManualClock):
            msg = "this emulator's clock moves by itself: make it with Emulator(clock=ManualClock())"
            raise RuntimeError(msg)  # noqa: TRY004  the argument is fine, the emulator is not
        self.clock.advance(seconds)

    def start(self) -> Self:
        """Serve from a thread of its own; what `with` does.

        Raises `RuntimeError` if it is being served already.
        """
        self._claim()
        self._started = Future()
        self._thread = threading.Thread(target=self._run, name="primepods-emulator", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End what `start` began, abandoning requests in flight. Does nothing if it is not running."""
        if self._thread is None:
            return
        # Whoever interrupts `start` comes here before the thread has got as far as having a loop to stop.
        wait([self._started])
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = self._stop = None
        self._serving = False

    def __enter__(self) -> Self:
        """Start serving from a thread of its own."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start serving from the running loop."""
        self._claim()
        try:
            await self._open()
        except BaseException:
            self._serving = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        await self._listener.stop()
        self._serving = False

    def _claim(self) -> None:
        if self._serving:
            msg = "this emulator is being served already"
            raise RuntimeError(msg)
        self._serving = True

    async def _open(self) -> None:
        # A restart comes back where clients look for it.
        self._bound = await self._listener.start(self._host, self._bound or self._port)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        try:
            await self._open()
        except BaseException as error:  # noqa: BLE001  it is raised again in the thread that asked
            self._started.set_exception(error)
            return
        self._loop, self._stop = asyncio.get_running_loop(), stop
        self._started.set_result(None)
        try:
            await stop.wait()
        finally:
            await self._listener.stop()

    def _record(self, pod_id: str) -> PodRecord:
        record = self._world.find(pod_id)
        if record is None:
            raise KeyError(pod_id)
        return record

    def _url_host(self) -> str:
        return f"[{self._host}]" if ":" in self._host else self._host


def _check_amounts(**amounts: float) -> None:
    for name, value in amounts.items():
        if not (math.isfinite(value) and value >= 0):
            msg = f"{name} must be zero or more, not {value!r}"
            raise ValueError(msg)


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            msg = f"{name} is a share between 0 and 1, not {value!r}"
            raise ValueError(msg)


def _checked_key(key: str) -> str:
    # A key must survive an HTTP header, or no client could ever send it.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        msg = "api_key must be printable ASCII without spaces, and not empty"
        raise ValueError(msg)
    return key


def _made_key(seed: int) -> str:
    return f"emu_{Random(f'{seed}:key').getrandbits(160):040x}"
