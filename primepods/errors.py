"""Exception hierarchy of primepods.

::

    PrimePodsError
    ├── ConfigError
    ├── ClientClosedError
    ├── TransportError
    │   └── RequestTimeoutError      (also a TimeoutError)
    ├── ProtocolError
    ├── APIError
    │   ├── BadRequestError          400
    │   ├── AuthenticationError      401
    │   ├── PaymentRequiredError     402
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404, or a row missing in a 200
    │   ├── ConflictError            409
    │   ├── ValidationError          422
    │   ├── RateLimitError           429
    │   ├── ServerError              5xx
    │   ├── SoldOutError             no matching machine is available
    │   └── PriceTooHighError        the machine costs more than the order's ``max_price``
    ├── CreateUncertainError
    ├── NotReleasedError
    ├── BudgetExceededError
    ├── LoginError
    ├── ConnectionLostError
    ├── TransferError
    ├── CommandError
    │   └── CommandTimeoutError      (also a TimeoutError)
    ├── JobError
    ├── PrimePodsErrorGroup          several errors of one call; also an ExceptionGroup
    └── WaitError
        ├── WaitTimeoutError         (also a TimeoutError)
        └── PodFailedError

Bad arguments raise a plain ``ValueError`` or ``TypeError`` before a request is sent. No message,
attribute or pickle of these classes holds the API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ._utils.text import find_request_id

if TYPE_CHECKING:
    from .models import PodStatus

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "ClientClosedError",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "ConflictError",
    "ConnectionLostError",
    "CreateUncertainError",
    "FieldError",
    "JobError",
    "LoginError",
    "NotFoundError",
    "NotReleasedError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "PodFailedError",
    "PriceTooHighError",
    "PrimePodsError",
    "PrimePodsErrorGroup",
    "ProtocolError",
    "RateLimitError",
    "RequestTimeoutError",
    "ServerError",
    "SoldOutError",
    "TransferError",
    "TransportError",
    "ValidationError",
    "WaitError",
    "WaitTimeoutError",
]


class PrimePodsError(Exception):
    """Base of all errors of this package.

    Remedy:
        Catch a subclass; catch this one only to treat all errors alike.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with `args`, which fails with keyword-only parameters.
        state = self.__dict__.copy()
        if "__notes__" in state:
            # A separate list: a note added to a copy must not appear on the original.
            state["__notes__"] = list(state["__notes__"])
        return _rebuild, (type(self), self.args), state


def _rebuild(kind: type[PrimePodsError], args: tuple[Any, ...]) -> PrimePodsError:
    error = kind.__new__(kind, *args)
    # `__new__` sets `args`, but not for a TimeoutError: that is an OSError, which sets them in `__init__`.
    error.args = args
    return error


class PrimePodsErrorGroup(ExceptionGroup[PrimePodsError], PrimePodsError):  # noqa: N818 - named as Python's groups are
    """Several errors of one call, such as ``pods.delete_many``; ``except*`` and ``except`` catch it.

    Remedy:
        Handle each error in ``exceptions``; ``except*`` selects them by class.
    """

    def derive(self, excs: Any, /) -> Any:
        """Return a group of some of the errors; used by ``except*``."""
        return PrimePodsErrorGroup(self.message, excs)


class ConfigError(PrimePodsError):
    """A setting, file or program of this machine cannot be used; the message names it, and what to do.

    Remedy:
        Change what the message names, such as an argument, an environment variable, or a field of a file.
        ``primepods config`` shows the sources of the settings.
    """


class ClientClosedError(PrimePodsError):
    """The client, its session, a watch or a pager was closed, or the client belongs to another event loop.

    Remedy:
        Build a new client in the event loop that uses it, and keep it open as long as it is used; or begin a
        new watch or iteration.
    """


class TransportError(PrimePodsError):
    """No usable response was received: DNS, connection refused or reset, TLS.

    Remedy:
        Check the network, the proxy and the base URL. If ``maybe_received`` is true for a call that
        changes something, look for its effect before you send it again.

    Attributes:
        method: HTTP method of the request.
        path: Path of the request.
        attempts: Number of attempts.
        maybe_received: Whether the server may have received, and carried out, one of the attempts.
        transient: Whether a retry can succeed; false for a certificate that is not trusted.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str,
        path: str,
        attempts: int,
        maybe_received: bool,
        transient: bool = True,
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.method = method
        self.path = path
        self.attempts = attempts
        self.maybe_received = maybe_received


class RequestTimeoutError(TransportError, TimeoutError):
    """An attempt took longer than ``timeout``, or a call with its retries longer than ``deadline``.

    Remedy:
        Pass a longer ``timeout`` or ``deadline`` (``client.with_options``), or try again later. For a
        call that changes something, see ``maybe_received``.

    Attributes:
        limit: The limit that was exceeded: ``"timeout"`` or ``"deadline"``.
    """

    def __init__(self, message: str, *, limit: Literal["timeout", "deadline"], **fields: Any) -> None:
        super().__init__(message, **fields)
        self.limit: Literal["timeout", "deadline"] = limit


class ProtocolError(PrimePodsError):
    """The response breaks the API's contract: not JSON, wrong structure, incomplete, too large.

    Remedy:
        Check that the base URL and the proxy lead to the API. If they do, report ``path`` and
        ``excerpt``. ``pager.collect()`` returns the rows that can be read.

    Attributes:
        method: HTTP method of the request.
        url_path: Path of the request.
        path: Path in the response's JSON, as spelt there: ``data[3].gpuCount``; empty for the whole response.
        excerpt: The start of the invalid part, at most 200 characters, without secrets.
        transient: Whether a retry can succeed; false if the response has the wrong structure.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str,
        url_path: str,
        path: str = "",
        excerpt: str = "",
        transient: bool = True,
    ) -> None:
        super().__init__(message)
        self.method = method
        self.transient = transient
        self.url_path = url_path
        self.path = path
        self.excerpt = excerpt


class FieldError(NamedTuple):
    """One problem in a 422 response: the parameter as the API spells it, and the problem."""

    param: str
    details: str


class APIError(PrimePodsError):
    """The API, or a gateway, refused a request, or its response shows that the request cannot be fulfilled.

    Remedy:
        The message says what to change. If ``transient`` is true, the same request can succeed later.

    Attributes:
        status_code: HTTP status of the response; of an error that no response has, the status that fits.
        method: HTTP method of the request.
        path: Path of the request.
        message: The message of the response, in one line.
        body: The decoded JSON body, the text if it is not JSON, or ``None``.
        headers: Headers of the response, with names in lower case.
        request_id: The response's ``x-request-id`` (or a similar header), for the vendor's support.
        retry_after: Seconds that the API asked to wait, or ``None``.
        attempts: Number of attempts.
        maybe_acted: Whether an earlier attempt of the call, which got no response or a 5xx, may have been
            carried out. If so, a 404 to a DELETE may mean success.
        transient: Whether a retry can succeed: true for 408, 421, 425, 429 and 5xx (not 501 and 505), and for
            a 401 or 403 that is not JSON, which is assumed to be a gateway's.
    """

    def __init__(
        self,
        text: str,
        *,
        status_code: int,
        method: str,
        path: str,
        message: str,
        body: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(text)
        self.transient = transient
        self.status_code = status_code
        self.method = method
        self.path = path
        self.message = message
        self.body = body
        self.headers: Mapping[str, str] = dict(headers)
        self.request_id: str | None = find_request_id(headers)
        self.retry_after = retry_after
        self.attempts = 1
        self.maybe_acted = False


class BadRequestError(APIError):
    """400: the API did not accept the request.

    Remedy:
        Correct what the API's message names: the same request would fail again.
    """


class AuthenticationError(APIError):
    """401: the key is missing, wrong or expired, or (if ``transient``) a gateway refused the request.

    Remedy:
        Create a key on the page that the message names and set ``PRIME_API_KEY``; or check the base URL.
    """


class PaymentRequiredError(APIError):
    """402: the wallet does not have enough funds.

    Remedy:
        Add funds to the wallet.
    """


class PermissionDeniedError(APIError):
    """403: the key lacks a permission or is unknown, or (if ``transient``) a gateway refused the request.

    Remedy:
        Use a key with the permission that the message names; for a pod of a team, a key of that team.
    """


class NotFoundError(APIError):
    """404, or a 200 without the requested row. Terminated pods move to the history.

    Remedy:
        Check the id. A pod that has ended is in ``pods.history()``. To delete what may be gone already,
        pass ``missing_ok=True``.
    """


class ConflictError(APIError):
    """409: the state of the resource does not allow the request.

    Remedy:
        Look at the state of the pod, disk or key, then try again.
    """


class ValidationError(APIError):
    """422: the API refused some parameters.

    Remedy:
        Correct the parameters in ``errors``.

    Attributes:
        errors: One :class:`FieldError` ``(param, details)`` per problem.
    """

    def __init__(self, text: str, *, errors: tuple[FieldError, ...] = (), **fields: Any) -> None:
        super().__init__(text, **fields)
        self.errors = errors


class RateLimitError(APIError):
    """429: too many requests. ``retry_after`` is the wait that the API asks for.

    Remedy:
        Wait for ``retry_after`` seconds. Send fewer requests: share one client, and lengthen
        ``interval``.
    """


class ServerError(APIError):
    """5xx: the API, or a gateway in front of it, failed.

    Remedy:
        Try again later. For a call that changes something, look for its effect first.
    """


class SoldOutError(APIError):
    """No matching machine is available: an order was refused, or ``availability.cheapest`` found no offer.

    A refused order is recognised by the API's message. The error of ``cheapest`` names the criteria and the
    alternatives.

    Remedy:
        Order another offer, give ``pods.lease`` several specs, or poll with
        ``availability.find(wait=…)``.
    """


class PriceTooHighError(APIError):
    """The machine costs more than ``max_price``: the API refused the order, or a lease deletes the pod again.

    Remedy:
        Look at the current offers, and order one of them or raise ``max_price``.
    """


class CreateUncertainError(PrimePodsError):
    """It is unknown whether an order made a pod or disk, or a gateway has sent the order several times.

    The pod or disk may still appear, and is billed from then on. ``__cause__`` is the error of the order, if
    this process sent it.

    Remedy:
        Look for the ``name`` with ``pods.list(name=…)`` or ``disks.list()`` for some minutes. Order again
        only if there is none; if the order was sent several times, delete what the message names.

    Attributes:
        name: The name of the pod or disk.
        candidates: Ids of pods or disks that the order may have made; inspect one before you delete it.
    """

    def __init__(self, message: str, *, name: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.candidates = candidates


class WaitError(PrimePodsError):
    """A wait ended before its pods reached the wanted state. It changes no pod: those that run are billed.

    Remedy:
        See the class of the error: a timeout or a failed pod.

    Attributes:
        statuses: Last seen status of each pod, by id; without pods that were never seen or are gone.
        pending: Ids of the pods that had not reached the state.
        remedy: The end of the message: what the pods cost, and what to do.
    """

    def __init__(
        self,
        message: str,
        *,
        statuses: Mapping[str, PodStatus],
        pending: tuple[str, ...],
        remedy: str = "",
    ) -> None:
        super().__init__(f"{message} {remedy}".rstrip())
        self.statuses = statuses
        self.pending = pending
        self.remedy = remedy


class WaitTimeoutError(WaitError, TimeoutError):
    """The wait's ``timeout`` expired. The message names repeated errors, the pending pods and their cost.

    Remedy:
        Wait again: that needs only the ids. Delete pods that are no longer wanted.
    """


class PodFailedError(WaitError):
    """A pod has failed, was stopped, is being deleted, or is gone, and cannot become ready by itself.

    Remedy:
        Delete the pod, if it is not gone, and rent another one. ``pods.logs`` may have the cause. To handle
        failures yourself, wait with ``until=primepods.settled``.

    Attributes:
        pod_id: The pod.
        last: Its last status seen in this process; ``None`` if it was never seen.
        reason: The cause, in one line.
    """

    def __init__(
        self, message: str, *, pod_id: str, last: PodStatus | None, reason: str, **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.pod_id = pod_id
        self.last = last
        self.reason = reason


class NotReleasedError(PrimePodsError):
    """The end of a leased pod could not be confirmed: it may be running, and billed.

    Remedy:
        Run ``primepods sweep``, or delete the pod by its id or, if that is unknown, by its name. It is billed
        until it is gone.

    Attributes:
        pod_id: The pod; ``None`` if no response has shown a pod with its name.
        name: Its name.
        price_hr: Its price per hour, if known.
    """

    def __init__(self, message: str, *, pod_id: str | None, name: str, price_hr: float | None) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.name = name
        self.price_hr = price_hr


class BudgetExceededError(PrimePodsError):
    """A leased pod has reached ``max_hours`` or ``max_spend``, and was deleted; or an order is over a limit.

    Also raised if neither the order nor its response has a price, since ``max_spend`` could not be checked.
    An order is not sent if all pods together would cost more an hour than ``PRIMEPODS_MAX_HOURLY``, or more
    than is left of the budget of agents.

    Remedy:
        The pod was not ordered, or was deleted. Rent again with a larger budget if the work must continue.

    Attributes:
        pod_id: The pod; empty if none was ordered.
        budget: The budget that was reached: ``"hours"``, ``"spend"`` or ``"hourly"``.
        spent: Cost of the pod, in the API's currency, at the highest price seen; for ``"hourly"``, the price
            of all pods per hour.
        limit: ``max_hours``, ``max_spend``, ``PRIMEPODS_MAX_HOURLY`` or the limit of the agents' budget,
            whichever was reached.
    """

    def __init__(
        self,
        message: str,
        *,
        pod_id: str,
        budget: Literal["hours", "spend", "hourly"],
        spent: float,
        limit: float,
    ) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.budget: Literal["hours", "spend", "hourly"] = budget
        self.spent = spent
        self.limit = limit


class LoginError(PrimePodsError):
    """Login to a pod failed, so this call ran nothing on it; a job may run there.

    The message has ``ssh``'s output and the keys tried.

    Remedy:
        Check that this machine has the private key of a key in ``client.ssh_keys.list()``, and pass it with
        ``ssh_options=["-i", …]``.

    Attributes:
        pod_id: The pod.
        said: Output of ``ssh`` at the last attempt.
    """

    def __init__(self, message: str, *, pod_id: str, said: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.said = said

    @property
    def is_key_refused(self) -> bool:
        """Whether ``ssh`` said "Permission denied", as it does if the pod accepts none of its keys."""
        return "Permission denied" in self.said


class ConnectionLostError(PrimePodsError):
    """The connection to a pod was lost during a command, a copy, a forwarding or a wait for a job.

    The command may have completed. Otherwise a command of ``run`` ends when the pod's ssh server notices the
    loss; a job continues.

    Remedy:
        Look for the command's effect on the pod before you run it again.

    Attributes:
        pod_id: The pod.
        stdout: The end of its standard output.
        stderr: The end of its standard error, including messages of ``ssh``.
    """

    def __init__(self, message: str, *, pod_id: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.stdout = stdout
        self.stderr = stderr


class TransferError(PrimePodsError):
    """A file or folder could not be copied, or not all of it.

    The target is unchanged unless the message begins with "Copied".

    Remedy:
        Correct what the message names (a missing path, a full disk, a permission) and copy again.
    """


class CommandError(PrimePodsError):
    """A command on a pod ended with an exit code other than 0.

    Remedy:
        Read ``stderr``. With ``check=False`` the result is returned whatever the exit code.

    Attributes:
        pod_id: The pod.
        exit_code: The exit code; ``None`` only for a :class:`CommandTimeoutError`.
        stdout: The end of its standard output; empty if it was not kept.
        stderr: The end of its standard error; empty if it was not kept.
        seconds: Its run time.
    """

    def __init__(
        self, message: str, *, pod_id: str, exit_code: int | None, stdout: str, stderr: str, seconds: float
    ) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds


class CommandTimeoutError(CommandError, TimeoutError):
    """A command on a pod ran longer than its ``timeout``: ``run`` has stopped it, ``job.wait`` has not.

    Remedy:
        Pass a longer ``timeout``, or ``None`` for no limit.
    """


class JobError(PrimePodsError):
    """A job on a pod cannot be started, found, stopped or followed to its exit code.

    Remedy:
        ``jobs()`` lists a pod's jobs; a name belongs to one job only.

    Attributes:
        pod_id: The pod.
        name: The job.
    """

    def __init__(self, message: str, *, pod_id: str, name: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.name = name
