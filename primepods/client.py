"""The asynchronous client."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Self

import attrs

from ._http.executor import RequestExecutor
from ._http.request import Params, free_request
from ._http.transport import Transport
from ._operations import as_operation, make_hook
from ._utils.arguments import check_seconds
from ._utils.secret import Secret
from .config import (
    DEFAULT_DEADLINE,
    DEFAULT_MAX_CONCURRENCY,
    DEFAULT_TIMEOUT,
    Settings,
    check_retry,
    resolve,
)
from .leasing.open_leases import OpenLeases
from .resources.pods import AsyncPods
from .retry import RetryPolicy
from .waiting.connection import PollerConnection

if TYPE_CHECKING:
    import aiohttp

    from .events import OnEvent
    from .resources.account import AsyncAccountInfo
    from .resources.availability import AsyncAvailability
    from .resources.disks import AsyncDisks
    from .resources.ssh_keys import AsyncSSHKeys


class AsyncClient:
    """A client of the Prime Intellect API for asyncio: ``async with primepods.AsyncClient() as client``.

    Creating a client needs no running event loop and sends nothing. The key, the address and the team come
    from the arguments, the environment or the files of `prime`; ``primepods config`` shows their sources.

    Args:
        api_key: The API key. Environment: ``PRIME_API_KEY``.
        base_url: Address of the API; a trailing ``/api/v1`` is dropped. Environment: ``PRIME_API_BASE_URL``
            or ``PRIME_BASE_URL``. Plain ``http`` is accepted for loopback only.
        team_id: The team to act for. Environment: ``PRIME_TEAM_ID``.
        context: A context saved by `prime`, with its key, address and team. Environment: ``PRIME_CONTEXT``.
            The argument overrides the variables of the key, the address and the team; these override
            ``PRIME_CONTEXT``.
        timeout: Seconds for one attempt; connecting is limited to 10 s.
        deadline: Seconds for one call with all its retries; for an iterator, for each page. A call about many
            pods continues while responses arrive, and gives up after this number of seconds without one.
        max_concurrency: Max requests in flight from all calls of this client. Waits and watches have a second
            limit of the same size, shared by all clients of an event loop with equal settings.
        retry: The retry policy.
        user_agent: Prefix of the ``User-Agent`` header.
        session: Your own ``aiohttp.ClientSession``, which the client does not close. It decides on connector,
            proxy, CA, tracing and additional headers. If an order (POST) is sent on a pooled connection that
            the server has just closed, the client has to search for the pod: ``force_close=True`` of the
            connector prevents that. Requests that your middlewares repeat are not counted as attempts.
        on_event: Function that is called with each :class:`~primepods.events.Event`, such as a request or the
            start of a lease. The module ``primepods.events`` says what it may do.

    Raises:
        ConfigError: There is no key, or a setting, file or session cannot be used.
        ValueError: A number is out of range, or a header or ``user_agent`` cannot be sent.
        TypeError: An argument has the wrong type.
    """

    pods: AsyncPods
    """Rent, list, inspect and delete pods."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        team_id: str | None = None,
        context: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        retry: RetryPolicy = RetryPolicy(),
        user_agent: str | None = None,
        session: aiohttp.ClientSession | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        # Hide the key first: a traceback of an error below may show the local variables of this frame.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        settings = resolve(
            api_key=api_key,
            base_url=base_url,
            team_id=team_id,
            context=context,
            timeout=timeout,
            deadline=deadline,
            max_concurrency=max_concurrency,
            retry=retry,
            user_agent=user_agent,
            own_connections=session is None,
            on_event=make_hook(on_event),
        )
        self._assemble(settings, Transport(settings, session), is_owner=True)

    def _assemble(
        self,
        settings: Settings,
        transport: Transport,
        *,
        is_owner: bool,
        parent_poller: PollerConnection | None = None,
        open_leases: OpenLeases | None = None,
    ) -> None:
        self._executor = RequestExecutor(settings, transport)
        self._is_owner = is_owner
        self._poller = PollerConnection(settings, transport.given_session, parent_poller)
        self._open_leases = OpenLeases() if open_leases is None else open_leases
        self.pods = AsyncPods(self._executor, self._poller, self._open_leases)

    @cached_property
    def availability(self) -> AsyncAvailability:
        """Offers that can be rented."""
        from .resources.availability import AsyncAvailability

        return AsyncAvailability(self._executor)

    @cached_property
    def ssh_keys(self) -> AsyncSSHKeys:
        """The account's public SSH keys."""
        from .resources.ssh_keys import AsyncSSHKeys

        return AsyncSSHKeys(self._executor)

    @cached_property
    def disks(self) -> AsyncDisks:
        """Disks that pods write to, and that outlive them."""
        from .resources.disks import AsyncDisks

        return AsyncDisks(self._executor)

    @cached_property
    def account(self) -> AsyncAccountInfo:
        """The key's user and permissions, the user's teams, and the wallet."""
        from .resources.account import AsyncAccountInfo

        return AsyncAccountInfo(self._executor)

    def with_options(
        self,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """Return a view of this client with the same connections and other timeouts or retries.

        ``None`` leaves an option unchanged. Closing a view does nothing; closing the client closes its views.

        Args:
            timeout: Seconds for one attempt.
            deadline: Seconds for one call with all its retries.
            retry: The retry policy.
        """
        settings = self._executor.settings
        changed = attrs.evolve(
            settings,
            timeout=settings.timeout if timeout is None else check_seconds("timeout", timeout),
            deadline=settings.deadline if deadline is None else check_seconds("deadline", deadline),
            retry=settings.retry if retry is None else check_retry(retry),
        )
        view = object.__new__(type(self))
        view._assemble(
            changed,
            self._executor.transport,
            is_owner=False,
            parent_poller=self._poller,
            open_leases=self._open_leases,
        )
        return view

    @as_operation("request")
    async def request(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> Any:
        """Call any endpoint of the API, with this client's key, retries and errors.

        A POST, PUT or PATCH is not retried if an attempt may have been carried out. To rent a pod, use
        ``pods.create``, which finds out whether the order succeeded.

        Args:
            method: ``GET``, ``POST``, ``PUT``, ``PATCH``, ``DELETE``, ``HEAD`` or ``OPTIONS``.
            path: Absolute path, such as ``/api/v1/ssh_keys/``.
            params: Query parameters; a list repeats its parameter, ``None`` is omitted.
            json: The body, which is sent as JSON.

        Returns:
            The decoded JSON of the response, or ``None`` if it is empty. For a GET, an empty response is an
            error, unless its status is 204.

        Raises:
            NotFoundError: The API responded with 404. If ``maybe_acted`` is true after a DELETE, this call
                may have deleted the resource.
        """
        return await self._executor.call(free_request(method, path, params, json), lambda data: data)

    async def aclose(self) -> None:
        """Release open leases, then close the connections (not a session that you brought).

        Calls in progress and later calls raise :class:`~primepods.ClientClosedError`. A cancellation shortens
        the release of leases (see :meth:`primepods.AsyncPods.lease`); the client is still closed.
        """
        if not self._is_owner:
            return
        try:
            await self._open_leases.release()
        finally:
            try:
                await self._poller.aclose()
            finally:
                await self._executor.transport.aclose()

    async def __aenter__(self) -> Self:
        self._executor.settings.clock.time()  # under trio this raises at once: asyncio is required
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_executor"):
            # A traceback with local variables may show a half-built client.
            return "<AsyncClient, not built>"
        state = " closed" if self._executor.transport.closed else ""
        return f"<AsyncClient {self._executor.settings.base_url}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A client holds connections and a key and cannot be pickled. Build one where it is used."
        )
