"""Conversion of aiohttp's exceptions to our own failures.

Our errors do not reference aiohttp's exceptions, which reference the request's headers and so the key.
"""

from __future__ import annotations

import http.client
import re
import ssl
from typing import Final, Literal

import aiohttp
import attrs

from .._utils.exceptions import drop_tracebacks
from .._utils.secret import Secret
from .._utils.text import one_line

CONNECT_TIMEOUT: Final = 10.0
_CHECK_NETWORK: Final = "Check the base URL, the network and the proxy."
_CHECK_PROXY: Final = (
    "Check the proxy: its user and password belong in its URL (HTTPS_PROXY=http://user:password@host:port)."
)
_CHECK_CERTIFICATE: Final = (
    "Check the certificate, the system's CAs (SSL_CERT_FILE) and the clock of this machine."
)
_CHECK_TLS: Final = "The TLS handshake failed: check the base URL and the server's TLS versions."
_CUT_HANDSHAKE: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of a TLS handshake that the server has cut short; a retry can succeed."""
_SERVER_TEXT: Final = re.compile(r"\n|\\n|: b['\"]|<?RawResponseMessage\(")
"""Start of a quoted response in aiohttp's messages; a response can contain passwords."""
_SYSTEM_MODULES: Final = frozenset({"builtins", "socket", "ssl"})


class BodyTooLargeError(Exception):
    """The response is too large."""


class LostConnectionError(aiohttp.ClientConnectionError):
    """The connection ended before the response or within its head.

    Raised in place of aiohttp's own error, after which aiohttp would send the request again.
    """

    @property
    def is_partial(self) -> bool:
        """Whether aiohttp reports that a part of the response was received."""
        cause = self.__cause__
        # The message is a text, unless a part of the response's head was received.
        return isinstance(cause, aiohttp.ServerDisconnectedError) and not isinstance(cause.message, str)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FailedAttempt:
    """Failure of an attempt that got no usable response.

    Attributes:
        reason: Description of the failure, in one line.
        kind: ``connect`` if no connection was made within ``CONNECT_TIMEOUT``. ``timeout`` if the attempt
            took too long, ``deadline`` if the whole call did, even if nothing was sent. ``protocol`` if the
            response is invalid, and ``transport`` for any other failure.
        sent_count: Number of times that the server may have received the request.
        transient: Whether a retry can succeed.
        remedy: What the user can do.
        cause: The ``OSError`` of Python, ``socket`` or ``ssl`` that caused the failure; ``None`` if there is
            none, or if its text contains the key.
    """

    reason: str
    kind: Literal["transport", "connect", "timeout", "deadline", "protocol"] = "transport"
    sent_count: int = 1
    transient: bool = True
    remedy: str = _CHECK_NETWORK
    cause: OSError | None = attrs.field(default=None, repr=False)

    @property
    def maybe_received(self) -> bool:
        return self.sent_count > 0


def translate(exc: Exception, key: Secret, *, expired: bool, sent_count: int) -> FailedAttempt | None:
    """Convert the exception of an attempt to a failure; return ``None`` for an unexpected exception.

    Args:
        exc: The exception.
        key: The key to redact from the exception's message.
        expired: Whether the attempt's own timeout expired.
        sent_count: Number of times that the server may have received the request.
    """
    if isinstance(exc, LostConnectionError) and isinstance(exc.__cause__, Exception):
        exc = exc.__cause__
    failed = _classify(exc, key)
    if isinstance(exc, TimeoutError) and expired:
        reason = "no response in time" if sent_count else "no connection in time"
        failed = FailedAttempt(kind="timeout", reason=reason)
    if failed is None:
        return None
    drop_tracebacks(exc)
    cause = _system_error(exc)
    if cause is not None:
        # Keep only the error itself: its context and traceback reference the request.
        cause.__cause__ = cause.__context__ = cause.__traceback__ = None
        text = f"{cause} {cause!r}"
        holds_key = key.scrub(text) != text
        if holds_key:
            cause = None
    return attrs.evolve(failed, sent_count=sent_count, cause=cause)


def _classify(exc: Exception, key: Secret) -> FailedAttempt | None:  # noqa: PLR0911 - a table
    reason = re.split(_SERVER_TEXT, str(exc), maxsplit=1)[0]
    text = key.scrub(one_line(f"{type(exc).__name__}: {reason}").rstrip(":"))
    if isinstance(exc, aiohttp.ClientResponseError):
        # Its message quotes the response in several ways. The class of the cause says what is wrong.
        text = type(exc.__cause__ or exc).__name__
    match exc:
        case BodyTooLargeError():
            return FailedAttempt(kind="protocol", reason=str(exc), transient=False)
        case aiohttp.ConnectionTimeoutError():
            return FailedAttempt(kind="connect", reason=f"no connection within {CONNECT_TIMEOUT:g} s")
        case aiohttp.ClientConnectorCertificateError():
            return FailedAttempt(reason=text, transient=False, remedy=_CHECK_CERTIFICATE)
        case aiohttp.ClientConnectorSSLError() if isinstance(_system_error(exc), _CUT_HANDSHAKE):
            return FailedAttempt(reason=text)
        case aiohttp.ClientConnectorSSLError():
            return FailedAttempt(reason=text, transient=False, remedy=_CHECK_TLS)
        case aiohttp.ClientPayloadError():
            return FailedAttempt(kind="protocol", reason=f"cut short or garbled ({text})")
        case aiohttp.ClientHttpProxyError():
            # Leave out the proxy's text, which can quote its password.
            phrase = http.client.responses.get(exc.status, "")
            reason = f"the proxy refused: {exc.status} {phrase}".rstrip()
            needs_password = exc.status == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
            return FailedAttempt(reason=reason, remedy=_CHECK_PROXY if needs_password else _CHECK_NETWORK)
        case aiohttp.ClientResponseError():
            return FailedAttempt(kind="protocol", reason=f"not HTTP ({text})")
        case aiohttp.ClientError() | OSError():
            return FailedAttempt(reason=text)
        case _:
            return None


def _system_error(exc: Exception) -> OSError | None:
    """Return the ``OSError`` that caused ``exc``, or ``None``.

    Only classes of Python, ``socket`` and ``ssl`` count, not aiohttp's own subclasses.
    """
    for found in (getattr(exc, "os_error", None), getattr(exc, "certificate_error", None), exc):
        if isinstance(found, OSError) and type(found).__module__ in _SYSTEM_MODULES:
            return found
    return None
