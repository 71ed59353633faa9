"""The blocking client: put together and closed here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from .._blocking import Portal, release_leases
from .._http.request import Params
from .._utils.secret import Secret
from .._utils.text import quote
from ..client import AsyncClient
from ..config import DEFAULT_DEADLINE, DEFAULT_MAX_CONCURRENCY, DEFAULT_TIMEOUT
from ..retry import RetryPolicy
from ._availability import Availability
from ._pods import Pods
from ._ssh_keys import SSHKeys

if TYPE_CHECKING:
    import aiohttp

P = ParamSpec("P")
T = TypeVar("T")


class Client:
    """A client of the Prime Intellect API for scripts, notebooks and threads: ``with primepods.Client() as
    client``.

    Does all that :class:`~primepods.AsyncClient` does, with the same names, in calls that block. Threads may
    share one; their calls run in parallel. The work is done by an event loop in a thread of its own, which
    starts at the first call and ends with ``close``, with ``with``, or with the interpreter. ``on_change``
    callbacks run in the calling thread; ``until`` runs in the client's and must not call it. Ctrl-C cancels
    the call and leaves the client usable. After a fork the child gets a loop and connections of its own.

    Args:
        api_key: The API key. Environment: ``PRIME_API_KEY``.
        base_url: Address of the API; a trailing ``/api/v1`` is dropped. Environment: ``PRIME_API_BASE_URL``
            or ``PRIME_BASE_URL``. Plain ``http`` is accepted for loopback only.
        team_id: The team to act for. Environment: ``PRIME_TEAM_ID``.
        context: A context that the official command has saved; its key, address and team are used instead of
            the environment's. Environment: ``PRIME_CONTEXT``, which leaves the other variables in force.
        timeout: Seconds for one attempt; connecting has 10 s of its own.
        deadline: Seconds for one call with all its retries; for an iterator, for each page. A call about many
            pods goes on while answers come, and sends nothing more when none has come for so long.
        max_concurrency: Requests in flight from the calls of this client, whatever the number of threads. The
            poller behind its waits and watches has as many of its own.
        retry: When and how often to try again.
        user_agent: Put before ours in the ``User-Agent`` header.
        session: A function (also an async one) that makes an ``aiohttp.ClientSession``: called in the
            client's event loop at first use (once more by the poller of waits), closed with the client.
            Connector, proxy, CA and tracing are then yours. An order (POST) can meet a connection of its pool
            that the server has just closed, and then has to be looked for: give the connector
            ``force_close=True`` to rule that out. What your middlewares send again is not counted as an
            attempt.

    Raises:
        ConfigError: No key, or a key, URL, file or variable that cannot be used.
        ValueError: A number out of range.
        TypeError: An argument of the wrong type.
    """

    pods: Pods
    """Rent, list, look at and delete pods."""

    def __init__(  # noqa: PLR0913 - one parameter a setting
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        team_id: str | None = None,
        context: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        user_agent: str | None = None,
        session: Callable[[], aiohttp.ClientSession | Awaitable[aiohttp.ClientSession]] | None = None,
    ) -> None:
        # As in AsyncClient.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        if session is not None and not callable(session):
            raise TypeError(
                "session of the blocking client must be a function that makes an aiohttp.ClientSession in "
                f"its event loop, such as `lambda: aiohttp.ClientSession(...)`; got {quote(session)}"
            )
        client = AsyncClient(
            api_key,
            base_url=base_url,
            team_id=team_id,
            context=context,
            timeout=timeout,
            deadline=deadline,
            max_concurrency=max_concurrency,
            retry=retry,
            user_agent=user_agent,
            session=session,
        )
        self._assemble(client, Portal(client.aclose), owner=True)

    def _assemble(self, client: AsyncClient, portal: Portal, *, owner: bool) -> None:
        self._async = client
        self._portal = portal
        self._owner = owner
        self.pods = Pods(portal, client.pods)

    @cached_property
    def availability(self) -> Availability:
        """What can be rented."""
        return Availability(self._portal, self._async.availability)

    @cached_property
    def ssh_keys(self) -> SSHKeys:
        """The public keys with which pods can be ordered."""
        return SSHKeys(self._portal, self._async.ssh_keys)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, retry: RetryPolicy | None = None
    ) -> Self:
        """Return a view on the same connections with other timeouts or retries.

        What is ``None`` stays as it is. Closing a view closes nothing; closing the client ends its views.

        Args:
            timeout: Seconds for one attempt.
            deadline: Seconds for one call with all its retries.
            retry: When and how often to try again.
        """
        view = object.__new__(type(self))
        changed = self._async.with_options(timeout=timeout, deadline=deadline, retry=retry)
        view._assemble(changed, self._portal, owner=False)
        return view

    def request(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> Any:
        """Call any endpoint of the API, with this client's key, retries and errors.

        A POST, PUT or PATCH whose answer was lost may have been carried out, and is not repeated: to rent a
        pod use ``pods.create``, which finds out.

        Args:
            method: ``GET``, ``POST``, ``PUT``, ``PATCH``, ``DELETE``, ``HEAD`` or ``OPTIONS``.
            path: From the host on, such as ``/api/v1/ssh_keys/``.
            params: Query parameters; lists are repeated, ``None`` is left out.
            json: Body.

        Returns:
            The decoded JSON of the answer, or ``None`` for an empty one.

        Raises:
            NotFoundError: Also for a DELETE whose answer was lost and whose repetition finds nothing: its
                ``maybe_acted`` says so.
        """
        return self._portal.call(self._async.request, method, path, params=params, json=json)

    def close(self) -> None:
        """Release open leases, then close the connections and end the client's thread.

        Further calls raise :class:`~primepods.ClientClosedError`. Ctrl-C hurries the release of leases, as in
        their blocks; the client is closed all the same.
        """
        if self._owner:
            try:
                release_leases(self._portal)
                self._portal.close()
            except BaseException:
                # Ctrl-C may come before the first line of `close`.
                self._portal.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_async"):
            return "<Client, not built>"
        text = repr(self._async).replace("Async", "", 1)
        # A client that was closed without having been used has had no loop to close the other one in.
        return text.replace(">", " closed>") if self._portal.closed and " closed" not in text else text

    def __reduce__(self) -> tuple[Any, ...]:
        return self._async.__reduce__()


def run_in_client(
    client: Client,
    function: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Return what a coroutine function makes of the asynchronous client within ``client``, in its event loop.

    For those of this package who have more than a line to do there.
    """
    # Not a method: the class has what AsyncClient has, and no more.
    portal, wrapped = client._portal, client._async  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    return portal.call(function, wrapped, *args, **kwargs)
