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
    │   ├── SoldOutError             no matching offer is available
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

Bad arguments raise a plain ``ValueError`` or ``TypeError`` before a request is sent; settings that are passed
to a client may also raise ``ConfigError``. The errors of this module redact the API key.
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
    """Base of the other errors in this module.

    Remedy:
        Catch a subclass; catch this one only to treat all of them alike.
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
    # `__new__` does not set the `args` of our TimeoutErrors, which are OSErrors.
    error.args = args
    return error


class PrimePodsErrorGroup(ExceptionGroup[PrimePodsError], PrimePodsError):  # noqa: N818 - named as Python's groups are
    """Several errors, such as those of one call of ``pods.delete_many``.

    Remedy:
        Handle the errors in ``exceptions``, or select them by class with ``except*``.
    """

    def derive(self, excs: Any, /) -> Any:
        """Return a group of some of the errors; used by ``except*``."""
        return PrimePodsErrorGroup(self.message, excs)


class ConfigError(PrimePodsError):
    """A setting, file, program or port of this machine cannot be used.

    Remedy:
        Do what the message says. ``primepods config`` shows the sources of the settings.

    Attributes:
        transient: Whether a retry can succeed: the pod's lease belongs to a process that may still run.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ClientClosedError(PrimePodsError):
    """A client, session, watch or iteration was closed, or a client or session is used in another event loop.

    Remedy:
        Create a client in each event loop, and close it after its last call. To continue a watch or an
        iteration, start a new one.
    """


class TransportError(PrimePodsError):
    """A request got no response, for example because of DNS, TLS, or a lost connection.

    Remedy:
        Check the network, the proxy and the base URL. If the call changes something and ``maybe_received`` is
        true, look for its effect before you send it again.

    Attributes:
        method: HTTP method of the request.
        path: Path of the request.
        attempts: Number of attempts, including those that were not sent; 0 if the deadline shared by a batch
            call was over before this request was sent.
        maybe_received: Whether the server may have received one of the attempts, and carried it out.
        transient: Whether a retry can succeed. It is false if the certificate is not trusted, for example.
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
    """No connection or response came in time: within ``timeout``, ``deadline`` or the limit for connecting.

    Remedy:
        Try again later, or set a longer ``timeout`` or ``deadline`` with ``client.with_options``. If the call
        changes something and ``maybe_received`` is true, look for its effect first.

    Attributes:
        limit: ``"deadline"`` if the call took too long, ``"timeout"`` if only an attempt did.
    """

    def __init__(self, message: str, *, limit: Literal["timeout", "deadline"], **fields: Any) -> None:
        super().__init__(message, **fields)
        self.limit: Literal["timeout", "deadline"] = limit


class ProtocolError(PrimePodsError):
    """The response cannot be used, for example because it is not JSON, or lacks a required field.

    Remedy:
        Check that the base URL and the proxy lead to the API. If they do, report ``path`` and
        ``excerpt``. ``pager.collect()`` returns the rows that can be read.

    Attributes:
        method: HTTP method of the request.
        url_path: Path of the request.
        path: JSON path of the invalid part, such as ``data[3].gpuCount``; empty for the whole response.
        excerpt: The start of the invalid part, up to 200 characters; the API key and passwords are redacted.
        transient: Whether a retry can succeed. It is false if the structure is wrong, for example.
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
    """One problem in a 422 response: the parameter, as the API spells it (or empty), and the problem."""

    param: str
    details: str


class APIError(PrimePodsError):
    """The API, or a gateway, responded with an error, or a response shows that the call cannot succeed.

    For a refused order, the class depends on the API's message, if that is recognised.

    Remedy:
        Do what the message says. If ``transient`` is true, the same request can succeed later.

    Attributes:
        status_code: HTTP status of the response. An error found in successful responses has 404 (a missing
            row or offer), 409 (an attached disk) or 200 (the price of a leased pod).
        method: HTTP method of the request.
        path: Path of the request.
        message: The message of the response, in one line.
        body: The decoded JSON, or the text if it is not JSON; ``None`` if there is none.
        headers: Headers of the response, with names in lower case.
        request_id: The response's ``x-request-id`` (or a similar header), for the vendor's support.
        retry_after: Seconds that the API asked to wait, or ``None``.
        attempts: Number of attempts.
        maybe_acted: Whether the API may have carried out an earlier copy of this request. If so, a 404 to a
            DELETE may mean success.
        transient: Whether a retry can succeed, as after a 429 or most 5xx. A 401 or 403 that is not JSON is
            transient, too: it is assumed to be a gateway's.
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
    """400, or a refused order: the API did not accept the request."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or expired; if ``transient``, a gateway probably refused it."""


class PaymentRequiredError(APIError):
    """402, or a refused order: the wallet does not have enough funds."""


class PermissionDeniedError(APIError):
    """403: the key lacks a permission or is refused; if ``transient``, probably by a gateway."""


class NotFoundError(APIError):
    """404, or a 200 without the requested row.

    Remedy:
        Check the id. A terminated pod is in ``pods.history()``. To delete a pod or disk that may be gone,
        pass ``missing_ok=True``.
    """


class ConflictError(APIError):
    """409: the state of the resource does not allow the request."""


class ValidationError(APIError):
    """422: the API refused some parameters.

    Attributes:
        errors: One :class:`FieldError` per problem; empty if the response has no list of problems.
    """

    def __init__(self, text: str, *, errors: tuple[FieldError, ...] = (), **fields: Any) -> None:
        super().__init__(text, **fields)
        self.errors = errors


class RateLimitError(APIError):
    """429: too many requests.

    Remedy:
        Wait for ``retry_after`` seconds, if it is set. Then send fewer requests: share one client, and pass a
        longer ``interval`` to waits.
    """


class ServerError(APIError):
    """5xx: the API, or a gateway in front of it, failed."""


class SoldOutError(APIError):
    """No matching offer is available: an order was refused, or ``availability.cheapest`` found none.

    Remedy:
        Order another offer, give ``pods.lease`` several specs, or poll with
        ``availability.find(wait=…)``.
    """


class PriceTooHighError(APIError):
    """The machine costs more than ``max_price``: the API refused the order, or a lease deletes the pod.

    Remedy:
        Order a cheaper offer, or raise ``max_price``.
    """


class CreateUncertainError(PrimePodsError):
    """An order may have made a pod or disk (not confirmed), or a gateway has sent the order several times.

    A pod or disk may appear later, and be billed.

    Remedy:
        Look for ``name`` in ``pods.list()`` or ``disks.list()`` for some minutes, and order again only if it
        does not appear. After an order that was sent several times, delete the pods or disks that you do not
        need.

    Attributes:
        name: The name of the pod or disk.
        candidates: Ids of pods or disks that the order may have made. Inspect them before you delete any.
    """

    def __init__(self, message: str, *, name: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.candidates = candidates


class WaitError(PrimePodsError):
    """A wait for pods or a disk has failed. It has not stopped or deleted them: they may still be billed.

    Remedy:
        Do what the message says.

    Attributes:
        statuses: The last statuses of the pods, by id; pods that were never seen, or are gone, are left out.
        pending: Ids of the pods, or of the disk, that had not met the condition.
        remedy: The end of the message, which says what to do; may be empty.
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
    """The wait's ``timeout`` expired.

    Remedy:
        Wait again with the same ids, or delete the pods or the disk.
    """


class PodFailedError(WaitError):
    """A pod has failed, was stopped, is being deleted, is gone, or is ready without an address.

    Remedy:
        Delete the pod if it exists, and rent another one. ``pods.logs`` may show the cause. To handle
        failures yourself, wait with ``until=primepods.settled``.

    Attributes:
        pod_id: The pod's id.
        last: The pod's last status; ``None`` if none was seen.
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
        Run ``primepods sweep``, or delete the pod by its id. Without an id, look for its name in
        ``pods.list()``.

    Attributes:
        pod_id: The pod's id; ``None`` if it is not known which pod the order made.
        name: The pod's name.
        price_hr: The highest price per hour that was seen, else the order's ``max_price``, else 0; ``None``
            without a ``pod_id``, or if ``pod_id`` is not the ordered pod but a same-named one.
    """

    def __init__(self, message: str, *, pod_id: str | None, name: str, price_hr: float | None) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.name = name
        self.price_hr = price_hr


class BudgetExceededError(PrimePodsError):
    """A lease was ended, or an order was not sent, because of a limit on hours or costs.

    A lease is ended when it reaches ``max_hours`` or ``max_spend``; with ``max_spend``, also if the pod's
    price is unknown. An order is not sent if it could exceed ``PRIMEPODS_MAX_HOURLY`` or the limits of
    ``primepods mcp``.

    Remedy:
        Delete pods that are not needed, or rent with a larger limit if the work must continue.

    Attributes:
        pod_id: The pod's id; empty if no pod was ordered, or the id is unknown.
        budget: The kind of limit: ``"hours"``, ``"spend"`` or ``"hourly"``.
        spent: Cost so far, in the API's currency, at the highest price seen; for ``primepods mcp``, also
            reserved costs. For ``"hourly"``, the price per hour of all pods and orders that count
            towards the limit.
        limit: The limit, in the unit of ``budget``: hours, the API's currency, or that currency per hour.
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
    """A login to a pod failed, or no command completed after it. A job on the pod continues.

    Remedy:
        Wait until the pod is ready. Check that this machine has the private key of a key in
        ``client.ssh_keys.list()``, and pass its file with ``ssh_options=["-i", …]``.

    Attributes:
        pod_id: The pod's id.
        said: Messages of ``ssh``, or empty.
    """

    def __init__(self, message: str, *, pod_id: str, said: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.said = said

    @property
    def is_key_refused(self) -> bool:
        """Whether ``ssh`` said "Permission denied", for example because the pod accepts none of its keys."""
        return "Permission denied" in self.said


class ConnectionLostError(PrimePodsError):
    """The connection to a pod was lost, or the pod forbids port forwarding.

    The command may have completed. If it still runs, it ends when the pod notices the loss. A job continues.

    Remedy:
        Look for the command's effect on the pod before you run it again.

    Attributes:
        pod_id: The pod's id.
        stdout: The end of the command's standard output.
        stderr: The end of the command's standard error, including messages of ``ssh``.
    """

    def __init__(self, message: str, *, pod_id: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.stdout = stdout
        self.stderr = stderr


class TransferError(PrimePodsError):
    """A file or folder could not be copied completely.

    If the message begins with "Copied", only pipes, devices, and links that point outside the folder are
    missing.
    Otherwise changes to the target were undone, as far as possible.

    Remedy:
        Correct what the message names (a missing path, a full disk, a permission) and copy again.
    """


class CommandError(PrimePodsError):
    """A command on a pod failed: its exit code is not 0, or its end was not seen in time.

    Remedy:
        Read ``stderr``. To get the result of a command that fails, pass ``check=False``.

    Attributes:
        pod_id: The pod's id.
        exit_code: The exit code; ``None`` for a :class:`CommandTimeoutError`.
        stdout: The end of the command's standard output.
        stderr: The end of the command's standard error.
        seconds: Duration of the command; for a :class:`CommandTimeoutError`, of the wait for it.
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
    """The end of a command was not seen within ``timeout``. ``run`` stops the command, ``job.wait`` does not.

    Remedy:
        Pass a longer ``timeout``, or ``None`` for no limit.
    """


class JobError(PrimePodsError):
    """A job on a pod cannot be started, found, read or stopped, or has ended without an exit code.

    Remedy:
        Look at the pod's jobs with ``jobs()``. Give a new job a name that no job of the pod has.

    Attributes:
        pod_id: The pod's id.
        name: The job's name; empty if the jobs could not be listed.
    """

    def __init__(self, message: str, *, pod_id: str, name: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.name = name
