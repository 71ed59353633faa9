"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Final, NoReturn, ParamSpec, Self, TypeVar

from .._utils.secret import Secret
from .._utils.text import blocking_repr
from ..client import AsyncClient
from ..config import DEFAULT_DEADLINE, DEFAULT_MAX_CONCURRENCY, DEFAULT_TIMEOUT
from ..retry import RetryPolicy
from ._delegate import Delegate, blocking
from ._lease import release_leases
from ._portal import Portal
from ._resources import AccountInfo, Availability, Disks, Pods, SSHKeys

if TYPE_CHECKING:
    from ..events import OnEvent

P = ParamSpec("P")
T = TypeVar("T")


class Client(Delegate[AsyncClient]):
    """A client of the Prime Intellect API for scripts, notebooks and threads: ``with primepods.Client() as
    client``.

    It has the methods of :class:`~primepods.AsyncClient`, as blocking calls. Threads may share a client;
    their calls run in parallel. An event loop in a separate thread does the work: it starts at the first call
    and ends with ``close``, with the ``with`` block, or with the interpreter. ``on_change`` callbacks run in
    the calling thread; ``until`` runs in the client's thread, and must not call the client. Ctrl-C cancels
    the call and leaves the client usable. After a fork, the child gets a new loop and new connections.

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
        max_concurrency: Max requests in flight from the calls of this client, for all threads together.
            Waits and watches have a second limit of the same size.
        retry: The retry policy.
        user_agent: Prefix of the ``User-Agent`` header.
        on_event: Callback for each :class:`~primepods.events.Event`: requests, retries, waits, leases,
            deletions. A plain function that is called in the client's thread. It must be quick, and must not
            call the client. Its exceptions do not reach the caller; the first one is logged.

    Raises:
        ConfigError: There is no key, or a key, URL, file or variable cannot be used.
        ValueError: A number is out of range, or a header or ``user_agent`` cannot be sent.
        TypeError: An argument has the wrong type.
    """

    pods: Pods
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
        on_event: OnEvent | None = None,
    ) -> None:
        # Hide the key first, as AsyncClient does.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
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
            on_event=on_event,
        )
        self._assemble(client, Portal(client.aclose), is_owner=True)

    def _assemble(self, client: AsyncClient, portal: Portal, *, is_owner: bool) -> None:
        super().__init__(portal, client)
        self._is_owner = is_owner
        self.pods = Pods(portal, client.pods)

    @cached_property
    def availability(self) -> Availability:
        """Offers that can be rented."""
        return Availability(self._portal, self._async.availability)

    @cached_property
    def ssh_keys(self) -> SSHKeys:
        """The account's public SSH keys."""
        return SSHKeys(self._portal, self._async.ssh_keys)

    @cached_property
    def disks(self) -> Disks:
        """Disks that pods write to, and that outlive them."""
        return Disks(self._portal, self._async.disks)

    @cached_property
    def account(self) -> AccountInfo:
        """The key's user and permissions, the user's teams, and the wallet."""
        return AccountInfo(self._portal, self._async.account)

    def with_options(
        self,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> Self:
        """Return a view of this client with the same connections and other timeouts or retries.

        ``None`` leaves an option as it is. Closing a view closes nothing; closing the client ends its views.

        Args:
            timeout: Seconds for one attempt.
            deadline: Seconds for one call with all its retries.
            retry: The retry policy.
        """
        view = object.__new__(type(self))
        changed = self._async.with_options(timeout=timeout, deadline=deadline, retry=retry)
        view._assemble(changed, self._portal, is_owner=False)
        return view

    request: Final = blocking(AsyncClient.request)

    def close(self) -> None:
        """Release open leases, then close the connections and end the client's thread.

        Further calls raise :class:`~primepods.ClientClosedError`. Ctrl-C shortens the release of leases (see
        :meth:`primepods.Pods.lease`); the client is still closed.
        """
        if self._is_owner:
            try:
                release_leases(self._portal)
                self._portal.close()
            except BaseException:
                # Ctrl-C may interrupt the release, or come before the first line of `Portal.close`.
                self._portal.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_async"):
            return "<Client, not built>"
        text = blocking_repr(self._async)
        if self._portal.is_closed and " closed" not in text:
            # Closed before its first call: there was no loop in which to close the asynchronous client.
            return text.replace(">", " closed>")
        return text

    def __reduce__(self) -> NoReturn:
        self._async.__reduce__()


def run_in_client(
    client: Client,
    function: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a coroutine function with the asynchronous client, in the client's loop; return the result."""
    # Not a method, because the class has only the members of AsyncClient.
    portal, wrapped = client._portal, client._async  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    return portal.call(function, wrapped, *args, **kwargs)
