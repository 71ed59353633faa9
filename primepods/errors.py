"""The errors that users of primepods meet, in one tree.

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
    │   ├── NotFoundError            404, or a row that a 200 lacks
    │   ├── ConflictError            409
    │   ├── ValidationError          422
    │   ├── RateLimitError           429
    │   ├── ServerError              5xx
    │   ├── SoldOutError             no such machine is available
    │   └── PriceTooHighError        an order for what costs more than its ``max_price``
    ├── CreateUncertainError
    ├── NotReleasedError
    ├── BudgetExceededError
    ├── LoginError
    ├── ConnectionLostError
    ├── TransferError
    ├── CommandError
    │   └── CommandTimeoutError      (also a TimeoutError)
    ├── PrimePodsErrorGroup          several errors of one call; also an ExceptionGroup
    └── WaitError
        ├── WaitTimeoutError         (also a TimeoutError)
        └── PodFailedError

Bad arguments are a plain ``ValueError`` or ``TypeError``, raised before a request is sent. No message,
attribute or pickle of these classes holds the API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
    """Base of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with `args`, which breaks on keyword-only parameters.
        state = self.__dict__.copy()
        if "__notes__" in state:
            # A list of its own: a note added to a copy must not show up at the original.
            state["__notes__"] = list(state["__notes__"])
        return _rebuild, (type(self), self.args), state


def _rebuild(kind: type[PrimePodsError], args: tuple[Any, ...]) -> PrimePodsError:
    error = kind.__new__(kind, *args)
    # Not redundant: OSError, and so TimeoutError, leaves this to an __init__ that is not called here.
    error.args = args
    return error


class PrimePodsErrorGroup(ExceptionGroup[PrimePodsError], PrimePodsError):  # noqa: N818 - named as Python's groups are
    """Several errors of one call, such as those of ``pods.delete_many``: for ``except*``, or as one error."""

    def derive(self, excs: Any, /) -> Any:
        """Return a group of some of the errors; ``except*`` calls this."""
        return PrimePodsErrorGroup(self.message, excs)


class ConfigError(PrimePodsError):
    """The client cannot be built: a setting is missing or wrong. Names the source and the remedy."""


class ClientClosedError(PrimePodsError):
    """The client was closed (or belongs to another running event loop) and cannot send any more."""


class TransportError(PrimePodsError):
    """No usable answer came: DNS, connection refused or reset, TLS.

    Attributes:
        method: HTTP method of the request.
        path: Path of the request.
        attempts: How many times the request was tried.
        maybe_received: Whether the server may have received, and acted on, one of the attempts.
        transient: Whether asking again later can help; not with a certificate that is not trusted.
    """

    def __init__(  # noqa: PLR0913 - as APIError
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

    Attributes:
        limit: Which of the two ran out: ``"timeout"`` or ``"deadline"``.
    """

    def __init__(self, message: str, *, limit: Literal["timeout", "deadline"], **fields: Any) -> None:
        super().__init__(message, **fields)
        self.limit: Literal["timeout", "deadline"] = limit


class ProtocolError(PrimePodsError):
    """An answer that breaks the API's contract: not JSON, a wrong shape, cut short, too large.

    Attributes:
        method: HTTP method of the request.
        url_path: Path of the request.
        path: Where in the answer, as spelt on the wire: ``data[3].gpuCount``; empty for the whole answer.
        excerpt: The beginning of the offending part, at most 200 characters, without secrets.
        transient: Whether asking again later can help; not where the shape of an answer is wrong.
    """

    def __init__(  # noqa: PLR0913 - as APIError
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
    """One complaint of a 422 answer: the parameter as the API spells it, and what is wrong with it."""

    param: str
    details: str


class APIError(PrimePodsError):
    """The API answered with an error.

    Attributes:
        status_code: HTTP status of the answer.
        method: HTTP method of the request.
        path: Path of the request.
        message: What the API said, in one line.
        body: The decoded JSON body, or the text where it is no JSON, or ``None``.
        headers: Headers of the answer, names in lower case.
        request_id: The answer's ``x-request-id`` (or a relative of it), for the vendor's support.
        retry_after: Seconds that the API asked to wait, or ``None``.
        attempts: How many times the request was sent.
        maybe_acted: Whether an earlier attempt of the same call, which brought no answer or a failure of the
            server's own, may have been carried out: a 404 to a DELETE may then be its success.
        transient: Whether asking again later can help: so with 408, 421, 425, 429 and 5xx (not 501 and 505),
            and with a 401 or 403 that is not JSON, which comes from a gateway and not from the API.
    """

    def __init__(  # noqa: PLR0913 - an error carries all that is known of the exchange
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
        self.request_id: str | None = next(
            (headers[name] for name in ("x-request-id", "request-id", "cf-ray") if name in headers), None
        )
        self.retry_after = retry_after
        self.attempts = 1
        self.maybe_acted = False


class BadRequestError(APIError):
    """400: the API did not accept the request."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or expired."""


class PaymentRequiredError(APIError):
    """402: the wallet has not enough funds."""


class PermissionDeniedError(APIError):
    """403: the key lacks a permission, or the API did not recognise it."""


class NotFoundError(APIError):
    """404, or an answer of 200 that lacks the row asked for. Terminated pods move to the history."""


class ConflictError(APIError):
    """409: the resource is in a state that does not allow this."""


class ValidationError(APIError):
    """422: the API refused some parameters.

    Attributes:
        errors: One :class:`FieldError` ``(param, details)`` a complaint.
    """

    def __init__(self, text: str, *, errors: tuple[FieldError, ...] = (), **fields: Any) -> None:
        super().__init__(text, **fields)
        self.errors = errors


class RateLimitError(APIError):
    """429: too many requests. ``retry_after`` says how long the API wants us to wait."""


class ServerError(APIError):
    """5xx: the API, or a gateway before it, failed."""


class SoldOutError(APIError):
    """No such machine is available: an order was refused, or ``availability.cheapest`` found no offer.

    A refused order is recognised by the API's words. ``cheapest`` says what was asked for, and what there is.
    """


class PriceTooHighError(APIError):
    """An order was refused: the machine costs more than its ``max_price``. Recognised by the API's words."""


class CreateUncertainError(PrimePodsError):
    """A pod was ordered, no answer proves that it was made or that it was not, and none has appeared yet.

    It may still appear, and is billed from then on: look for its name before you order again. ``__cause__``
    is what the order ended with.

    Attributes:
        name: The pod's name.
        candidates: Ids of the pods that may be it, and are not provably: look at them before you delete one.
    """

    def __init__(self, message: str, *, name: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.candidates = candidates


class WaitError(PrimePodsError):
    """A wait ended without its pods being where they were wanted. The pods go on, and are billed.

    Attributes:
        statuses: Every pod's status as last seen, by id; pods never seen or gone are not in it.
        pending: Ids of the pods that were still being waited for.
    """

    def __init__(self, message: str, *, statuses: Mapping[str, PodStatus], pending: tuple[str, ...]) -> None:
        super().__init__(message)
        self.statuses = statuses
        self.pending = pending


class WaitTimeoutError(WaitError, TimeoutError):
    """The wait's ``timeout`` ran out. Says what kept failing, who is still pending and what that costs."""


class PodFailedError(WaitError):
    """A pod has failed, was stopped, or is on its way out: it will not get where it was wanted by itself.

    Attributes:
        pod_id: The pod.
        last: Its status as last seen by anybody in this process; ``None`` if it was never seen.
        reason: Why, in one line.
    """

    def __init__(
        self, message: str, *, pod_id: str, last: PodStatus | None, reason: str, **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.pod_id = pod_id
        self.last = last
        self.reason = reason


class NotReleasedError(PrimePodsError):
    """A leased pod could not be verified gone: it may be running, and billed.

    Attributes:
        pod_id: The pod; ``None`` if it is not even known whether it was made.
        name: Its name.
        price_hr: What it costs an hour, if that is known.
    """

    def __init__(self, message: str, *, pod_id: str | None, name: str, price_hr: float | None) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.name = name
        self.price_hr = price_hr


class BudgetExceededError(PrimePodsError):
    """A leased pod has reached ``max_hours`` or ``max_spend``, and was deleted.

    Attributes:
        pod_id: The pod.
        budget: Which was reached: ``"hours"`` or ``"spend"``.
        spent: What it has cost, by the highest price that was seen.
        limit: The budget.
    """

    def __init__(
        self, message: str, *, pod_id: str, budget: Literal["hours", "spend"], spent: float, limit: float
    ) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.budget: Literal["hours", "spend"] = budget
        self.spent = spent
        self.limit = limit


class LoginError(PrimePodsError):
    """A pod lets nobody log in: nothing was run on it. Says what ``ssh`` said, and which keys were tried.

    Attributes:
        pod_id: The pod.
        said: What ``ssh`` said at the last attempt.
    """

    def __init__(self, message: str, *, pod_id: str, said: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.said = said


class ConnectionLostError(PrimePodsError):
    """The connection to a pod was lost while a command ran there, or a copy was under way.

    The command may have done its work. It ends on the pod as soon as its ssh server notices the loss.

    Attributes:
        pod_id: The pod.
        stdout: The end of what came from its standard output.
        stderr: The same of its standard error, with what ``ssh`` said.
    """

    def __init__(self, message: str, *, pod_id: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.stdout = stdout
        self.stderr = stderr


class TransferError(PrimePodsError):
    """A file or a folder could not be copied. What was in its place is as it was."""


class CommandError(PrimePodsError):
    """A command on a pod ended with another exit code than 0.

    Attributes:
        pod_id: The pod.
        exit_code: The exit code; ``None`` if the command was stopped.
        stdout: The end of its standard output; empty where that was not kept.
        stderr: The same of its standard error.
        seconds: How long it ran.
    """

    def __init__(  # noqa: PLR0913 - all that a result has
        self, message: str, *, pod_id: str, exit_code: int | None, stdout: str, stderr: str, seconds: float
    ) -> None:
        super().__init__(message)
        self.pod_id = pod_id
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds


class CommandTimeoutError(CommandError, TimeoutError):
    """A command on a pod ran longer than its ``timeout``, and was stopped there."""
