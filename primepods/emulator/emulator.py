"""The public class ``Emulator``."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, Unpack

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
    """Live view of the pods that the API would list, by id, in the list's order."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def __getitem__(self, pod_id: str) -> EmulatedPod:
        with self._account.lock:
            view = self._account.view()
            return view.pods[pod_id].state_at(view.now)

    def __iter__(self) -> Iterator[str]:
        with self._account.lock:
            return iter(list(self._account.view().pods))

    def __len__(self) -> int:
        with self._account.lock:
            return len(self._account.view().pods)


class Emulator:
    """An emulator of the Prime Intellect pods API on a loopback socket, like moto for boto3.

    ``with Emulator(...)`` serves from a new thread, for blocking clients and other event loops; ``async with
    Emulator(...)`` serves from the running loop. A stopped emulator keeps its state and its port for the next
    start.

    Durations are in seconds of the emulator's clock, except ``latency``; amounts of money are US dollars.

    Args:
        pods: Number of pods that the emulator has when it is created. The same arguments give the same pods.
        seed: Seed of the random data.
        boot_seconds: Typical time from creation to ready. A pod's time is drawn between 0.3 and 3 times this;
            with 0, boots end at once.
        delete_seconds: Time for which a deleted pod or disk is DELETING before it moves to the history.
        appear_seconds: Time for which an ordered pod is missing from list, get and status.
        failure_rate: Share of pods, 0 to 1, whose boot ends in ERROR.
        flaky_rate: Share of pods whose installation fails once or twice, is retried, and succeeds.
        cluster_rate: Share of pods, except ordered ones, that have several nodes.
        spot_rate: Share of pods, except ordered ones, that the provider removes without notice.
        spot_seconds: Average lifetime of spot pods.
        stock: Approximate stock of each machine offer, drawn anew every five minutes; ``None`` for unlimited.
        funds: Funds of the account. Once the cost exceeds them, all pods are deleted, and orders are
            refused. ``None`` for unlimited.
        history: Number of initial history rows, for pods, disks and other resources.
        api_key: The key that has all permissions; by default a new random one.
        host: 127.0.0.1, or another name or address of this machine's loopback.
        port: 0 for any free port.
        clock: A ``ManualClock``, moved with ``advance``, or your own clock; by default a ``SystemClock``.
        speed: Emulated seconds per real second, for the default clock.
        max_page_size: Max rows per page of pods, history, disks, ssh keys, teams and their members.
        latency: Minimum response time, in real seconds.
        control: ``True`` to enable the routes under ``/_emulator/``, which read and change the state over
            HTTP.

    Raises:
        ValueError: An argument is invalid.
        OSError: The port is taken (raised by ``start`` and ``with``).
    """

    clock: Clock
    api_key: str
    requests: RequestLog
    """Log of the requests, except those to control routes."""
    faults: FaultPlan
    """Faults to inject: ``emu.faults.add(Status(503), on="status", times=3)``."""
    pods: Mapping[str, EmulatedPod]
    """Pods that the API would list now, by id."""

    def __init__(
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
        if clock is not None and speed != 1.0:
            raise ValueError("speed is for the default clock: give either clock or speed")
        self.clock = SystemClock(speed=speed) if clock is None else clock
        self.api_key = key = f"emu_{secrets.token_hex(20)}" if api_key is None else api_key
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            # It must be valid in an HTTP header.
            raise ValueError("api_key must be printable ASCII without spaces, and not empty")
        self._initial_state: dict[str, Any] = {"pods": pods, "history": history, "funds": funds}
        self._account = Account(config, self.clock)
        self._account.reset(**self._initial_state)
        api = Api(self._account, api_key=self.api_key)
        self.pods = PodsView(self._account)
        self.requests = RequestLog()
        self.faults = FaultPlan(self.clock, api.operations, seed)
        routes = Control(api, self._account, self.faults, self.requests, self.reset) if control else None
        self._app = App(
            api=api,
            api_key=self.api_key,
            clock=self.clock,
            faults=self.faults,
            requests=self.requests,
            control=routes,
            latency=latency,
        )
        self._address = (host, port)
        self._bound_port: int | None = None
        self._host: Host | None = None
        self._listener: Listener | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Create an emulator with the state that ``save`` has written to a file.

        Args:
            path: The file.
            options: Arguments of ``Emulator`` that override the saved ones, except ``pods``, ``history`` and
                ``funds``.

        Raises:
            ValueError: The file is not a snapshot, or an option is invalid.
            OSError: The file cannot be read.
        """
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        emulator = cls(**{**config_of(saved), **options})
        emulator.restore(saved)
        return emulator

    def __repr__(self) -> str:
        """Show the URL, never the key."""
        return f"<Emulator {self.url if self._bound_port else 'not started'}>"

    @property
    def url(self) -> str:
        """Return the base URL, for example ``http://127.0.0.1:40123``.

        Raises:
            RuntimeError: The emulator has not been started yet.
        """
        if self._bound_port is None:
            raise RuntimeError("the emulator has no URL before it is started: use `with Emulator() as emu:`")
        host = self._address[0]
        return f"http://[{host}]:{self._bound_port}" if ":" in host else f"http://{host}:{self._bound_port}"

    @property
    def spent(self) -> float:
        """Return the cost of all pods and disks so far, existing and terminated, in US dollars."""
        return self._account.spent()

    def add_pod(self, name: str | None = None, **overrides: Unpack[PodOverrides]) -> str:
        """Create a pod now, without a request, and return its id.

        Args:
            name: The pod's name; generated if absent.
            overrides: Values of the pod; see ``PodOverrides``.

        Raises:
            ValueError: The id is taken, or ``nodes`` or ``price_hr`` is out of range.
            TypeError: There is no such override, or ``price_hr`` is not a number.
        """
        return self._account.add_pod(name, overrides)

    def delete_pod(self, pod_id: str) -> None:
        """Terminate a pod at once, as a provider may, even before it has appeared.

        Raises:
            KeyError: There is no such pod.
        """
        self._account.remove_pod(pod_id)

    def set_stock(self, cloud_id: str, left: int) -> None:
        """Set the remaining stock of an offer.

        Raises:
            KeyError: There is no such offer.
        """
        self._account.set_stock(cloud_id, left)

    def set_price(self, cloud_id: str, price_hr: float) -> None:
        """Set the hourly price of an offer from now on.

        Raises:
            KeyError: There is no such offer.
            ValueError: The price is negative or not finite.
        """
        self._account.set_price(cloud_id, price_hr)

    def add_funds(self, dollars: float) -> None:
        """Add funds. If they were unlimited, exactly this amount is left to spend."""
        self._account.add_funds(dollars)

    def add_api_key(self, scope: Mapping[str, Mapping[str, bool] | None]) -> str:
        """Add a key with some permissions, and return it.

        Args:
            scope: Permissions by kind of resource, for example ``{"instances": {"read": True, "write":
                False}}``. Kinds: ``instances``, ``disks``, ``availability``, ``ssh_keys``, ``billing``.
        """
        key = f"emu_{secrets.token_hex(20)}"
        self._account.scopes[key] = dict(scope)
        return key

    def advance(self, seconds: float) -> None:
        """Move the ``ManualClock`` by ``seconds``.

        Raises:
            RuntimeError: The clock is not a ``ManualClock``.
            ValueError: ``seconds`` is negative or not finite.
        """
        self._account.advance(seconds)

    def reset(self) -> None:
        """Return to the state of a new emulator with the same arguments, without faults and logged requests.

        A loaded snapshot is not loaded again. Keys from ``add_api_key`` stay valid.
        """
        self._account.reset(**self._initial_state)
        self.faults.clear()
        self.requests.clear()

    def snapshot(self) -> dict[str, object]:
        """Return the state as a JSON object, without faults, requests and API keys.

        It contains the Jupyter passwords that clients have set.
        """
        return dump(self._account)

    def restore(self, saved: Mapping[str, object]) -> None:
        """Restore the state, not the settings, of a ``snapshot``, as if no time had passed.

        Raises:
            ValueError: ``saved`` is not a snapshot; the state is unchanged.
        """
        restore(self._account, saved)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``snapshot`` to a JSON file, which ``load`` reads."""
        Path(path).write_text(json.dumps(self.snapshot(), indent=1) + "\n", encoding="utf-8")

    def start(self) -> Self:
        """Start serving from a new thread, like ``with``.

        Raises:
            RuntimeError: The emulator is already served.
            OSError: The port is taken.
        """
        self._check_not_running()
        host = Host(self._app, self._address[0], self._port())
        host.start()
        self._host = host
        self._bound_port = host.port
        return self

    def stop(self) -> None:
        """Stop the thread of ``start``, if it runs, and abandon requests in flight."""
        if self._host is not None:
            self._host.stop()
            self._host = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._check_not_running()
        listener = Listener(self._app)
        self._bound_port = await listener.start(self._address[0], self._port())
        self._listener = listener
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None

    def _check_not_running(self) -> None:
        if self._host is not None or self._listener is not None:
            raise RuntimeError("this emulator is already being served")

    def _port(self) -> int:
        # Keep the port after a restart, so that clients find the emulator again.
        return self._bound_port if self._bound_port is not None else self._address[1]
