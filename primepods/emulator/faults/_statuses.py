"""Faults that replace the response with an error, an HTML page or a redirect."""

from __future__ import annotations

import attrs
from attrs import validators

from .._api.http import Response, encode
from ._base import TEXT, ReplacedResponse, status_phrase

_BODIES: dict[int, object] = {
    401: {"detail": "Invalid token"},
    402: {"detail": "Insufficient funds"},
    403: {"detail": "Not authenticated"},
    404: {"detail": "Pod not found"},
    422: {"errors": [{"param": "pod_ids", "details": "Input should be a valid string"}]},
    429: {"message": "Too many requests"},
}
_GATEWAY_STATUSES = range(502, 505)
_STATUS = [validators.instance_of(int), validators.ge(200), validators.lt(600)]


@attrs.frozen
class Status(ReplacedResponse):
    """A response with ``status``, usually an error of the API or of a gateway in front of it.

    Args:
        status: The status code.
        retry_after: ``Retry-After`` header, in seconds or as an HTTP date.
        body: Value to send as JSON. By default, the body imitates the API's; for 502 to 504, it is HTML.
        text: Plain text to send instead of ``body``; empty for a response without a body.
        acted: ``True`` if the API still acts on the request.
    """

    status: int = attrs.field(validator=_STATUS)
    retry_after: float | str | None = attrs.field(
        default=None, kw_only=True, validator=validators.optional(validators.instance_of((int, float, str)))
    )
    body: object = attrs.field(default=None, kw_only=True)
    text: str | None = attrs.field(default=None, kw_only=True, validator=validators.optional(TEXT))

    def outcome(self, response: Response) -> Response:
        del response
        headers: dict[str, str] = {}
        if isinstance(self.retry_after, str):
            headers["Retry-After"] = self.retry_after
        elif self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:.15g}"
        if self.text is not None:
            return Response(self.status, self.text.encode(), {"Content-Type": "text/plain", **headers})
        if self.body is None and self.status in _GATEWAY_STATUSES:
            return _html(self.status, headers)
        body = self.body
        if body is None:
            body = _BODIES.get(self.status, {"detail": status_phrase(self.status)})
        return Response(self.status, encode(body), headers)


@attrs.frozen
class Html(ReplacedResponse):
    """An HTML page instead of JSON, with any status, such as a gateway's error or a login page."""

    status: int = attrs.field(default=200, validator=_STATUS)

    def outcome(self, response: Response) -> Response:
        del response
        return _html(self.status, {})


@attrs.frozen
class Redirect(ReplacedResponse):
    """A redirect to ``location``."""

    location: str = attrs.field(validator=[TEXT, validators.matches_re(r"[!-~]+")])
    status: int = attrs.field(
        default=307, validator=[validators.instance_of(int), validators.ge(300), validators.lt(400)]
    )

    def outcome(self, response: Response) -> Response:
        del response
        return Response(
            self.status, encode({"detail": status_phrase(self.status)}), {"Location": self.location}
        )


def _html(status: int, headers: dict[str, str]) -> Response:
    body = f"<html><body>{status} {status_phrase(status)}</body></html>"
    return Response(status, body.encode(), {"Content-Type": "text/html", **headers})
