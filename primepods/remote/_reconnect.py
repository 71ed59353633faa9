"""Connections to a pod that are restored after a loss."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio
import attrs

from ..errors import (
    APIError,
    ClientClosedError,
    ConnectionLostError,
    LoginError,
    NotFoundError,
    ProtocolError,
    TransportError,
)
from ._login import Login
from ._session import Session

_RETRY_INTERVAL: Final = 1.0
_ADDRESS_INTERVAL: Final = 60.0
"""Seconds between two reads of the address, after a loss."""
_ADDRESS_TIMEOUT: Final = 10.0
"""Seconds to read the address: the pod may be reachable while the API is not."""

_UNREADABLE: Final = (APIError, ClientClosedError, LoginError, ProtocolError, TransportError)
"""Errors of reading the address after which the last known address is tried."""

_log = logging.getLogger("primepods.remote")

GetLogin = Callable[..., Awaitable[Login]]
"""Returns the login to a pod; with ``again=True``, to the address that the API shows now."""


@attrs.define(eq=False)
class Reconnection:
    """Connections to a pod, one after another. After a loss, the pod's address is read again.

    Args:
        get_login: Returns the login.
        timeout: Seconds to try to connect again after a loss.
        state: Phrase for the log after a loss, such as "Its ports cannot be reached".
        remedy: Last sentence of the error if no connection succeeds in time.
        ends_with_pod: Whether to raise at once if the API does not know the pod any more.
        good_after: Seconds after which a connection counts as good: its loss starts a new ``timeout``.

    Attributes:
        lost_at: When the connection was lost, by the event loop's clock; ``None`` before a loss. The caller
            may set it to ``None`` when a new connection works.
    """

    _get_login: GetLogin
    _timeout: float
    _state: str
    _remedy: str
    _ends_with_pod: bool = attrs.field(default=False, kw_only=True, alias="ends_with_pod")
    _good_after: float = attrs.field(default=10.0, kw_only=True, alias="good_after")
    _login: Login | None = attrs.field(default=None, init=False)
    _connection: AbstractAsyncContextManager[Session] | None = attrs.field(default=None, init=False)
    _connected_at: float = attrs.field(default=0.0, init=False)
    lost_at: float | None = attrs.field(default=None, init=False)

    async def open(self, *, first: Sequence[str] = ()) -> Session:
        """Connect, and return a session that waits for its script.

        Args:
            first: Options of ``ssh`` that override ``ssh_options``.

        Raises:
            LoginError: No login succeeded, or none can succeed, for example after a change of the host key.
            ConnectionLostError: A connection was lost, and not restored in time.
            NotFoundError: With ``ends_with_pod``: a connection was lost, and the API has no such pod.
        """
        if self._login is None or self.lost_at is None:
            self._login = await self._get_login()
            return await self._connect(self._login.session(first=first))
        login, ends_at = self._login, self.lost_at + self._timeout
        error: LoginError | None = None
        while anyio.current_time() < ends_at:
            next_at = min(ends_at, anyio.current_time() + _ADDRESS_INTERVAL)
            with anyio.move_on_after(min(_ADDRESS_TIMEOUT, next_at - anyio.current_time())):
                try:
                    login = self._login = await self._get_login(again=True)
                except _UNREADABLE as exc:
                    if self._ends_with_pod and isinstance(exc, NotFoundError):
                        raise
                    _log.debug("The address of pod %s cannot be read: %s", login.label, exc)
            try:
                timeout = max(0.0, next_at - anyio.current_time())
                return await self._connect(login.session(timeout=timeout, first=first))
            except LoginError as exc:
                if anyio.current_time() < next_at:
                    raise  # permanent, for example a changed host key
                error = exc
        raise ConnectionLostError(
            f"The connection to pod {login.label} was lost, and not restored within {self._timeout:g} s. "
            f"{self._remedy}",
            pod_id=login.pod_id,
        ) from error

    async def _connect(self, connection: AbstractAsyncContextManager[Session]) -> Session:
        session = await connection.__aenter__()
        self._connection, self._connected_at = connection, anyio.current_time()
        return session

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(None, None, None)

    async def note_loss(self) -> None:
        """Record the loss of the connection; if it was a reconnection that soon failed, only pause."""
        now = anyio.current_time()
        if self.lost_at is None or now - self._connected_at > self._good_after:
            self.lost_at = now
            label = self._login.label if self._login else ""
            text = "Lost the connection to pod %s. %s; trying to connect again for %.0f s."
            _log.warning(text, label, self._state, self._timeout)
        else:
            await anyio.sleep(_RETRY_INTERVAL)
