"""Redirects. A call follows one redirect, if it only adds or removes the path's trailing slash."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

import attrs

from .._utils.secret import Secret
from .._utils.text import one_line
from ..config import origin
from .request import Request
from .response import Response, protocol_error

_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
_METHOD_KEEPING_STATUSES: Final = frozenset({307, 308})
_MAX_LOCATION_LENGTH: Final = 200


def is_redirect(response: Response) -> bool:
    return response.status in _REDIRECT_STATUSES


def follow_redirect(
    request: Request, response: Response, *, base_url: str, key: Secret, is_second: bool
) -> Request:
    """Return the request to a redirect's target; ``is_second`` says whether the call has followed one before.

    Raises:
        ProtocolError: The redirect is not followed.
    """
    other_path = request.path[:-1] if request.path.endswith("/") else f"{request.path}/"
    location = response.headers.get("location", "")
    base = urlsplit(base_url)
    try:
        target = urlsplit(urljoin(base_url + request.target, location))
        is_other_origin = origin(target) != origin(base)
    except ValueError:
        target, is_other_origin = None, False
    if is_second:
        problem = "the server redirects a second time"
    elif target is None:
        problem = "it is not a URL"
    elif is_other_origin:
        problem = "it leads to another origin, which must not see the API key"
    elif target.path != base.path + other_path or target.query not in {"", request.query}:
        problem = "it does not just add or remove the path's trailing slash"
    elif response.status not in _METHOD_KEEPING_STATUSES and request.method not in {"GET", "HEAD"}:
        problem = "it would change the method"
    else:
        return attrs.evolve(request, path=other_path)
    shown_location = one_line(key.scrub(location))[:_MAX_LOCATION_LENGTH]
    raise protocol_error(
        request,
        f"a redirect ({response.status}) to {shown_location!r}, which is not followed because {problem}",
        key,
        remedy="Check the base URL: give the API's final address.",
    )
