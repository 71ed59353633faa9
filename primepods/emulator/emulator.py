"""``Emulator``: the whole thing, as its user holds it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

from ._api.api import Api
from ._server.app import App
from ._server.host import Host
from ._server.listener import Listener
from ._server.loopback import check_loopback
from ._state.account import Account
from ._state.config import EmulatorConfig, check_amount
from ._state.pods import EmulatedPod, PodOverrides
from ._state.snapshot import config_of, dump, restore
from .clock import Clock, SystemClock
from .control import Control
from .faultplan import FaultPlan
from .requestlog import RequestLog


class PodsView(Mapping[str, EmulatedPod]):
    """The pods that the API would list now, by id; each look shows the present."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def __getitem__(self, pod_id: str) -> EmulatedPod:
        """Return the pod's state now; raises ``KeyError`` once it is gone."""
        with self._account.lock:
            view = self._account.view()
            return view.pods[pod_id].seen_at(view.now)

    def __iter__(self) -> Iterator[str]:
        """Iterate the ids in the order of the list."""
        with self._account.lock:
            return iter(list(self._account.view().pods))

    def __len__(self) -> int:
        """Return how many pods there are now."""
        with self._account.lock:
            return len(self._account.view().pods)


class Emulator:
    """A stand-in for the Prime Intellect pods API on a loopback socket: what moto is to boto3.

    ``with Emulator(...)`` serves from a thread and a loop of its own, so that blocking clients and other
    loops can talk to it; ``async with Emulator(...)`` serves from the running loop. State lives as long as
    the object: after leaving, the same emulator can be entered again on the same port, as a server that was
    restarted.

    All durations are seconds on the emulator's clock, all money is US dollars.

    Args:
        pods: How many pods there are at the start, all created then; the same seed makes the same fleet.
        seed: What everything random is drawn from.
        boot_seconds: About how long a pod takes from creation to ready, drawn for each between 0.3 and 3
            times this; 0 means that pods are ready at once.
        delete_seconds: How long a deleted pod is DELETING before it moves to the history.
        appear_seconds: How long a created pod is missing from list, get and status.
        failure_rate: Share of pods, 0 to 1, whose boot ends in ERROR.
        flaky_rate: Share of pods whose installation fails once or twice, is retried, and succeeds.
        cluster_rate: Share of pods that have several nodes.
        spot_rate: Share of pods that the provider takes away without a word.
        spot_seconds: How long spot pods live on average.
        stock: About how many of each offer can be had, changing every five minutes; ``None`` means no end of
            them.
        funds: What there is to spend; when it is spent, all pods are deleted. ``None`` means no end of it.
        history: How many rows of all kinds are in the history at the start.
        api_key: The only key that is accepted; by default a new random one for each emulator.
        host: 127.0.0.1 or another name of this machine's loopback.
        port: 0 for any free one.
        clock: A ``ManualClock``, moved with ``advance``, or a clock of yours; default: a ``SystemClock``.
        speed: Emulated seconds per real second, for the default clock.
        max_page_size: Longer pages are cut to this many rows.
        latency: Real seconds that every answer takes at least.
        control: Whether the routes under ``/_emulator/`` are there, which look at and change the state over
            HTTP.

    Raises:
        ValueError: An argument makes no sense.
        OSError: On entering, the port is taken.
    """

    clock: Clock
    api_key: str
    requests: RequestLog
    """Requests so far, in the order of arrival."""
    faults: FaultPlan
    """Faults to inject: ``emu.faults.add(Status(503), on="status", times=3)``."""
    pods: Mapping[str, EmulatedPod]
    """The pods that the API would list now, by id."""

    def __init__(  # noqa: PLR0913 - all optional, all by keyword
        self,
        *,
        pods: int = 0,
        seed: int = 0,
        boot_seconds: float = 30.0,
        delete_seconds: float = 5.0,
        appear_seconds: float = 0.0,
        failure_rate: float = 0.0,
        flaky_rate: float = 0.0,
        cluster_rate: float = 0.05,
        spot_rate: float = 0.0,
        spot_seconds: float = 3600.0,
        stock: int | None = None,
        funds: float | None = None,
        history: int = 0,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        speed: float = 1.0,
        max_page_size: int = 1000,
        latency: float = 0.0,
        control: bool = False,
    ) -> None:
        config = EmulatorConfig(
            seed=seed,
            boot_seconds=boot_seconds,
            delete_seconds=delete_seconds,
            appear_seconds=appear_seconds,
            failure_rate=failure_rate,
            flaky_rate=flaky_rate,
            cluster_rate=cluster_rate,
            spot_rate=spot_rate,
            spot_seconds=spot_seconds,
            stock=stock,
            max_page_size=max_page_size,
        )
        check_loopback(host)
        for name, value in (("pods", pods), ("history", history), ("latency", latency)):
            check_amount(name, value)
        self.clock = _clock(clock, speed)
        self.api_key = f"emu_{secrets.token_hex(20)}" if api_key is None else api_key
        _check_key(self.api_key)
        self._start_with: dict[str, Any] = {"pods": pods, "history": history, "funds": funds}
        self._account = Account(config, self.clock)
        self._account.reset(**self._start_with)
        self._app = self._make_app(control=control, latency=latency)
        self._address = (host, port)
        self._bound: int | None = None
        self._host: Host | None = None
        self._listener: Listener | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Make an emulator from what ``save`` has written, in which the fleet goes on where it was.

        Args:
            path: The file.
            options: Those of ``Emulator`` that are to be different from the saved one's.

        Raises:
            ValueError: The file is no snapshot.
            OSError: It cannot be read.
        """
        saved = _read(path)
        emulator = cls(**{**config_of(saved), **options})
        emulator.restore(saved)
        return emulator

    def __repr__(self) -> str:
        """Show the URL, never the key."""
        return f"<Emulator {self.url if self._bound else 'not started'}>"

    @property
    def url(self) -> str:
        """Return the base URL, for example ``http://127.0.0.1:40123``.

        Raises:
            RuntimeError: It has not been started yet.
        """
        if self._bound is None:
            raise RuntimeError("the emulator has no URL before it is started: use `with Emulator() as emu:`")
        host = self._address[0]
        return f"http://[{host}]:{self._bound}" if ":" in host else f"http://{host}:{self._bound}"

    @property
    def spent(self) -> float:
        """Return what all pods, existing and gone, have cost until now."""
        return self._account.spent()

    def add_pod(self, name: str | None = None, **overrides: Unpack[PodOverrides]) -> str:
        """Create a pod now, behind the API's back, and return its id.

        Args:
            name: Its name; drawn if absent.
            overrides: What is not to be drawn; see ``PodOverrides``.

        Raises:
            ValueError: The id is taken.
            TypeError: There is no such override.
        """
        return self._account.add_pod(name, overrides)

    def delete_pod(self, pod_id: str) -> None:
        """Take a pod away at once, as a provider does.

        Raises:
            KeyError: There is no such pod.
        """
        self._account.remove_pod(pod_id)

    def set_stock(self, cloud_id: str, left: int) -> None:
        """Say how many of an offer can still be ordered.

        Raises:
            KeyError: There is no such offer.
        """
        self._account.set_stock(cloud_id, left)

    def set_price(self, cloud_id: str, price_hr: float) -> None:
        """Say what an offer costs an hour from now on.

        Raises:
            KeyError: There is no such offer.
            ValueError: The price is negative or not finite.
        """
        self._account.set_price(cloud_id, price_hr)

    def add_funds(self, dollars: float) -> None:
        """Pay in. An account that had no end of money then has what it has spent so far, and this."""
        self._account.add_funds(dollars)

    def advance(self, seconds: float) -> None:
        """Move the ``ManualClock`` by ``seconds``.

        Raises:
            RuntimeError: The clock moves by itself.
            ValueError: The seconds are negative or not finite.
        """
        self._account.advance(seconds)

    def reset(self) -> None:
        """Go back to the start: the same fleet, created now; no faults, no requests, no ssh keys."""
        self._account.reset(**self._start_with)
        self.faults.clear()
        self.requests.clear()

    def snapshot(self) -> dict[str, object]:
        """Return all state but faults and requests, as JSON, with Jupyter passwords that clients have set."""
        return dump(self._account)

    def restore(self, saved: Mapping[str, object]) -> None:
        """Restore the state of a ``snapshot``, as if no time had passed.

        Raises:
            ValueError: It is none; nothing has changed then.
        """
        restore(self._account, saved)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``snapshot`` to one JSON file, for ``load``."""
        Path(path).write_text(json.dumps(self.snapshot(), indent=1) + "\n", encoding="utf-8")

    def start(self) -> Self:
        """Serve from a thread of its own; what ``with`` does.

        Raises:
            RuntimeError: It is being served already.
            OSError: The port is taken.
        """
        self._check_free()
        host = Host(self._address[0], self._port(), self._app)
        host.start()
        self._host, self._bound = host, host.port
        return self

    def stop(self) -> None:
        """End what ``start`` began, abandoning requests in flight. Does nothing if it is not running."""
        if self._host is not None:
            self._host.stop()
            self._host = None

    @contextmanager
    def on(self, host: Host) -> Generator[Self]:
        """Serve on a socket that others have used before, and will use again: what the pytest fixtures do."""
        self._check_free()
        host.mount(self._app)
        self._host, self._bound = host, host.port
        try:
            yield self
        finally:
            host.mount(None)
            self._host = None

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
        self._check_free()
        listener = Listener(self._app)
        self._bound = await listener.start(self._address[0], self._port())
        self._listener = listener
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None

    def _make_app(self, *, control: bool, latency: float) -> App:
        api = Api(self._account, api_key=self.api_key)
        self.pods = PodsView(self._account)
        self.requests = RequestLog()
        self.faults = FaultPlan(self.clock, api.operations, self._account.config.seed)
        routes = Control(api, self._account, self.faults, self.requests, self.reset) if control else None
        return App(
            api=api,
            api_key=self.api_key,
            clock=self.clock,
            faults=self.faults,
            requests=self.requests,
            control=routes,
            latency=latency,
        )

    def _check_free(self) -> None:
        if self._host is not None or self._listener is not None:
            raise RuntimeError("this emulator is being served already")

    def _port(self) -> int:
        # A restart comes back where clients look for it.
        return self._bound if self._bound is not None else self._address[1]


def _clock(clock: Clock | None, speed: float) -> Clock:
    if clock is None:
        return SystemClock(speed=speed)
    if speed != 1.0:
        raise ValueError("speed is for the default clock: give either clock or speed")
    return clock


def _check_key(key: str) -> None:
    # A key must survive an HTTP header, or no client could ever send it.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key must be printable ASCII without spaces, and not empty")


def _read(path: str | os.PathLike[str]) -> dict[str, object]:
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(saved, dict):
        raise ValueError(f"{os.fspath(path)} is no snapshot")  # noqa: TRY004 - the argument is fine
    return cast("dict[str, object]", saved)
