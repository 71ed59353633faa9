"""Ports of this machine, forwarded to ports of a pod."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from .._utils.arguments import check_count, check_string
from .._utils.text import one_line, quote
from ..errors import ConfigError, ConnectionLostError
from ._exchange import exchange
from ._reconnect import GetLogin, Reconnection
from ._scripts import make_script
from ._session import Sink
from .results import Stream

_LOOPBACK: Final = "127.0.0.1"
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+")
_MAX_PORT: Final = 65_535
_RECONNECT_TIMEOUT: Final = 900.0
_FORBIDDEN: Final = re.compile(rb"[^\n]*administratively prohibited[^\n]*")
_MAX_SAID: Final = 1_000


class AsyncForward:
    """Context manager that forwards ports of this machine to a pod; see ``forward`` of a remote.

    Attributes:
        pod_id: The pod's id.
    """

    def __init__(self, pod_id: str, get_login: GetLogin, ports: Iterable[tuple[int, int, str]]) -> None:
        self.pod_id = pod_id
        self._get_login = get_login
        self._ports = tuple(ports)
        """Port on the pod, local port, and host of each forwarding."""
        for port, local_port, host in self._ports:
            check_count("port", port, minimum=1, maximum=_MAX_PORT)
            check_count("local_port", local_port, minimum=0, maximum=_MAX_PORT)
            if not _HOST.fullmatch(check_string("host", host)):
                raise ValueError(f"host must be a host name or an address, got {quote(host)}")
        self._task: asyncio.Task[None] | None = None
        self._is_open = asyncio.Event()
        self._said = b""
        """The last messages of ``ssh``."""
        self._has_raised = False
        """Whether ``wait`` has raised the error."""
        self._refusal: ConnectionLostError | None = None
        """The error if the pod forbids port forwarding; kept, as the block may end before the task does."""

    @property
    def local_ports(self) -> tuple[int, ...]:
        """The local ports; known only inside the ``with`` block."""
        return tuple(local_port for _, local_port, _ in self._ports)

    @property
    def local_port(self) -> int:
        """The local port, or the first of several; known only inside the ``with`` block."""
        return self.local_ports[0]

    @property
    def url(self) -> str:
        """The URL for a browser on this machine; known only inside the ``with`` block."""
        return f"http://{_LOOPBACK}:{self.local_port}"

    async def wait(self) -> None:
        """Wait until the forwarding has failed, and raise its error.

        Raises:
            ConnectionLostError: The connection was lost, and not restored within 15 minutes, or the pod
                forbids port forwarding.
            LoginError: No login succeeds any more.
            NotFoundError: The connection was lost, and the pod is gone.
        """
        if self._task is None:
            raise RuntimeError("Use the forward in a `with` block.")
        await asyncio.wait({self._task})
        self._has_raised = True
        await self._task

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("A forward can be used only once.")
        self._ports = tuple((port, _choose_port(local), host) for port, local, host in self._ports)
        if len(set(self.local_ports)) < len(self._ports):
            raise ConfigError("Two of the ports have the same local port: choose another, or 0.")
        self._task = asyncio.create_task(self._run())
        opening = asyncio.create_task(self._is_open.wait())
        try:
            await asyncio.wait({self._task, opening}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            opening.cancel()
        if self._task.done():
            await self._task
        # Retrieve the task's error, so that asyncio does not log it if the end of the block is cancelled.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        error = await self._end()
        if error is not None and not self._has_raised:
            if exc is None:
                raise error
            exc.add_note(str(error))

    async def _end(self) -> BaseException | None:
        """End the connection; return its error if it has failed."""
        if self._task is None:
            return None
        self._task.cancel()
        await asyncio.wait({self._task})
        return self._refusal if self._task.cancelled() else self._task.exception()

    async def _run(self) -> None:
        """Forward the ports, and restore the connection after a loss; raise the errors of :meth:`wait`."""
        # Without INFO, ssh does not say that a forwarded connection was refused.
        options = ["-o", "ExitOnForwardFailure=yes", "-o", "ClearAllForwardings=no", "-o", "LogLevel=INFO"]
        for port, local_port, host in self._ports:
            shown = f"[{host}]" if ":" in host else host
            options += ["-L", f"{_LOOPBACK}:{local_port}:{shown}:{port}"]
        connection = Reconnection(
            self._get_login,
            _RECONNECT_TIMEOUT,
            "Its ports cannot be reached",
            "Its ports are not forwarded any more.",
            ends_with_pod=True,
        )
        while True:
            session = await connection.open(first=options)
            try:
                sinks: dict[Stream, Sink] = {"stdout": self._read_stdout, "stderr": self._read_stderr}
                await exchange(session, make_script("forward.sh"), None, sinks)
            finally:
                await connection.aclose()
            await connection.note_loss()

    async def _read_stdout(self, _: bytes) -> None:
        # From here on, the script ends the connection if this process is killed.
        self._is_open.set()

    async def _read_stderr(self, piece: bytes) -> None:
        self._said = (self._said + piece)[-_MAX_SAID:]
        if (found := _FORBIDDEN.search(self._said)) is not None:
            self._refusal = ConnectionLostError(
                f"Pod {self.pod_id} forbids port forwarding. Look at AllowTcpForwarding and "
                "PermitOpen in its /etc/ssh/sshd_config. ssh said: "
                f"{one_line(found[0].decode(errors='replace'))}",
                pod_id=self.pod_id,
            )
            raise self._refusal

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id} {self.local_ports}>"


def _choose_port(local_port: int) -> int:
    """Return a local port that is free: the given one, or any for 0.

    Raises:
        ConfigError: It is in use, or this user may not use it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, local_port))
        except OSError as exc:
            raise ConfigError(
                f"Port {local_port} of this machine cannot be used: {exc.strerror}. Choose another local "
                "port, or 0 for a free one."
            ) from None
        port: int = probe.getsockname()[1]
        return port
