"""Ports of a pod on this machine."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from .._utils.arguments import check_count, check_string
from .._utils.text import quote
from ..errors import ConfigError, ConnectionLostError, LoginError
from ._exchange import exchange
from ._scripts import make_script
from ._session import drop

if TYPE_CHECKING:
    from .remote import AsyncRemote

_LOOPBACK: Final = "127.0.0.1"
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+")
_MAX_PORT: Final = 65_535
_RECONNECT_TIMEOUT: Final = 900.0
_RETRY_INTERVAL: Final = 1.0
_MIN_GOOD_CONNECTION: Final = 10.0
"""Seconds after which a connection counts as one that worked."""

_log = logging.getLogger("primepods.remote")


def _check_port(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_count(attribute.name, value, minimum=0 if attribute.name == "local_port" else 1, maximum=_MAX_PORT)


def _check_host(_: object, __: object, value: str) -> None:
    if not _HOST.fullmatch(check_string("host", value)):
        raise ValueError(f"host must be a host name or an address, got {quote(value)}")


@attrs.frozen
class ForwardedPort:
    """A port of a pod, and the port of this machine for it.

    Attributes:
        port: The port on the pod.
        local_port: The port here; 0 for a free one.
        host: The host as the pod names it.

    Raises:
        TypeError: A port is not an integer, or the host not a string.
        ValueError: A port is out of range, or the host is no host name.
    """

    port: int = attrs.field(validator=_check_port)
    local_port: int = attrs.field(default=0, validator=_check_port)
    host: str = attrs.field(default="localhost", validator=_check_host)


class AsyncForward:
    """Context manager for a port of a pod on this machine; see ``forward`` of a remote.

    Attributes:
        pod_id: The pod's id.
    """

    def __init__(self, remote: AsyncRemote, ports: Sequence[ForwardedPort]) -> None:
        self.pod_id: str = remote.pod_id
        self._remote = remote
        self._ports = tuple(ports)
        self._task: asyncio.Task[None] | None = None

    @property
    def local_ports(self) -> tuple[int, ...]:
        """The ports of this machine, in the block."""
        return tuple(port.local_port for port in self._ports)

    @property
    def local_port(self) -> int:
        """The port of this machine, in the block: the first, if there are several."""
        return self.local_ports[0]

    @property
    def url(self) -> str:
        """The address for a browser on this machine, in the block."""
        return f"http://{_LOOPBACK}:{self.local_port}"

    async def wait(self) -> None:
        """Wait until the pod cannot be reached any more.

        Raises:
            ConnectionLostError: The connection was lost, and there was no other for 15 minutes.
            LoginError: The pod has no address any more.
        """
        if self._task is None:
            raise RuntimeError("Use the forward in a block.")
        await asyncio.wait({self._task})
        await self._task

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("A forward can be used once.")
        self._ports = tuple(_choose_local_port(port) for port in self._ports)
        is_open = asyncio.Event()
        self._task = asyncio.create_task(self._run(is_open))
        opening = asyncio.create_task(is_open.wait())
        try:
            await asyncio.wait({self._task, opening}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            opening.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """End the connection; a cancellation does not keep it from ending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, is_open: asyncio.Event) -> None:
        """Hold a connection, and another one after each that is lost."""
        login = await self._remote._get_login()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its own package
        options = ["-o", "ExitOnForwardFailure=yes"]
        for port in self._ports:
            host = f"[{port.host}]" if ":" in port.host else port.host
            options += ["-L", f"{_LOOPBACK}:{port.local_port}:{host}:{port.port}"]
        script = make_script("forward.sh")

        async def on_output(_: bytes) -> None:
            # From here on, the script ends the connection if this process is killed.
            is_open.set()

        lost_at: float | None = None
        while True:
            timeout = None if lost_at is None else lost_at + _RECONNECT_TIMEOUT - anyio.current_time()
            try:
                async with login.session(first=options, timeout=timeout) as session:
                    began_at = anyio.current_time()
                    await exchange(session, script, None, {"stdout": on_output, "stderr": drop})
            except LoginError as exc:
                if lost_at is None:
                    raise
                raise ConnectionLostError(
                    f"The connection to pod {login.label} was lost, and there was no other within "
                    f"{_RECONNECT_TIMEOUT:g} s: its ports are not forwarded any more.",
                    pod_id=self.pod_id,
                ) from exc
            if lost_at is None or anyio.current_time() - began_at > _MIN_GOOD_CONNECTION:
                lost_at = anyio.current_time()
                _log.warning("Lost the connection to pod %s and its ports; connecting again.", login.label)
            else:
                await anyio.sleep(_RETRY_INTERVAL)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id} {self.local_ports}>"


def _choose_local_port(port: ForwardedPort) -> ForwardedPort:
    """Return the port with a local one that is free.

    Raises:
        ConfigError: The local port is in use, or this user may not use it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port.local_port))
        except OSError as exc:
            raise ConfigError(
                f"Port {port.local_port} of this machine cannot be used: {exc.strerror}. Choose another "
                "local port, or 0 for a free one."
            ) from None
        return attrs.evolve(port, local_port=probe.getsockname()[1])
