"""Requests, and the checks of their content before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote as percent_encode
from urllib.parse import urlencode

import attrs

from .._utils.arguments import check_id, check_string
from .._utils.strict_json import dumps
from .._utils.text import quote

PODS: Final = "/api/v1/pods"
DISKS: Final = "/api/v1/disks"
SSH_KEYS: Final = "/api/v1/ssh_keys/"
UNKNOWN_ROUTE: Final = ""
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
# A gateway may decode %2f and %5c before it resolves dot segments (imagined).
_SLASH: Final = r"(?:[/\\]|%2f|%5c)"
_FORBIDDEN_IN_PATH: Final = re.compile(rf"[?#]|{_SLASH}(\.|%2e){{1,2}}(?={_SLASH}|$)", re.IGNORECASE)

Scalar = str | int | float | bool
Params = Mapping[str, Scalar | Sequence[Scalar] | None]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Request:
    """A request to the API.

    Attributes:
        method: The HTTP method, in upper case.
        path: The percent-encoded path, relative to the base URL.
        query: The percent-encoded query, without the question mark.
        body: The encoded JSON, if any.
        text_allowed: Whether a response may be plain text or empty, instead of JSON.
        route: The path with ``{id}`` in place of an id. Default: ``path`` itself, which has no id;
            ``UNKNOWN_ROUTE`` if a caller chose the path, which may then have any id. See :attr:`template`.
    """

    method: str
    path: str
    query: str = ""
    body: bytes | None = attrs.field(default=None, repr=False)
    text_allowed: bool = False
    route: str | None = None

    @property
    def target(self) -> str:
        """Path and query, as in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def template(self) -> str | None:
        """The route, as statistics group requests; ``None`` if it is ``UNKNOWN_ROUTE``."""
        if self.route is None:
            return self.path
        return None if self.route == UNKNOWN_ROUTE else self.route


def kind_of(collection: str) -> str:
    """Return the word for one item of ``PODS`` or ``DISKS``: ``pod`` or ``disk``."""
    return collection.rpartition("/")[2].removesuffix("s")


def item_path(item_id: str, collection: str = PODS) -> str:
    """Return the path of one pod, or of one item of another collection.

    Raises:
        TypeError: The id is not a string.
        ValueError: The id is not valid.
    """
    kind = kind_of(collection)
    return f"{collection}/{encode_id(check_id(item_id, name=f'{kind}_id', listed_by=f'{kind}s.list()'))}"


def item_request(method: str, item_id: str, collection: str = PODS, *, body: bytes | None = None) -> Request:
    """Build a request about one item; see :func:`item_path` for the errors."""
    return Request(
        method=method, path=item_path(item_id, collection), body=body, route=f"{collection}/{{id}}"
    )


def encode_id(item_id: str) -> str:
    """Percent-encode an id, which the caller has checked."""
    return item_id if item_id.encode().isalnum() else percent_encode(item_id, safe="")


def page_request(path: str, **params: str | int | Sequence[str]) -> Request:
    """Build the request for one page of a listing; a list of strings becomes a repeated parameter."""
    return Request(method="GET", path=path, query=urlencode(params, doseq=True))


def free_request(method: str, path: str, params: Params | None, body: Any) -> Request:
    """Build the request for ``client.request``.

    Raises:
        TypeError: A parameter has the wrong type, or JSON cannot represent the body.
        ValueError: The method or the path is not allowed, or a value cannot be sent in a request.
    """
    if check_string("method", method).upper() not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(_METHODS))}, got {quote(method)}")
    try:
        encoded = None if body is None else dumps(body)
    except (TypeError, ValueError) as exc:
        kind = TypeError if isinstance(exc, TypeError) else ValueError
        raise kind(f"json cannot be sent: {exc}") from None
    return Request(
        method=method.upper(),
        path=_encode_path(check_string("path", path)),
        query=urlencode(list(_flatten({} if params is None else params))),
        body=encoded,
        route=UNKNOWN_ROUTE,
    )


def _encode_path(path: str) -> str:
    """Percent-encode a path; refuse one that could lead outside of the base URL."""
    if path.startswith("/") and not re.search(_FORBIDDEN_IN_PATH, path):
        try:
            return percent_encode(path, safe="/%:@!$&'()*+,;=~-._")
        except UnicodeEncodeError:
            pass
    raise ValueError(
        "path must be UTF-8 text that begins with a slash and does not contain ?, # or dot segments "
        f"(. and ..), got {quote(path)}. An example is '/api/v1/ssh_keys/'. Put a query into params."
    )


def _flatten(params: Params) -> Iterator[tuple[str, str]]:
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping, got {quote(params)}")
    for key, value in params.items():
        if not isinstance(key, str):
            raise TypeError(f"params must have strings for keys, got {quote(key)}")
        for item in _values(value):
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"params[{quote(key)}] must be a finite number, got {item}")
            if not isinstance(item, str | int | float):
                raise TypeError(
                    f"params[{quote(key)}] must be a string, a number or a list of these, got {quote(item)}"
                )
            yield _to_text(key, key), _to_text(key, item)


def _values(value: object) -> list[object]:
    """Return the values of a parameter as a list without ``None``."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return [item for item in cast("list[object]", value if is_list else [value]) if item is not None]


def _to_text(key: str, value: str | float) -> str:
    """Return a parameter's name or value as text; refuse text that UTF-8 cannot encode."""
    try:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text.encode()
    except ValueError:
        # There is a lone surrogate, or an integer has more digits than `str` converts (4,300 by default).
        raise ValueError(
            f"params[{quote(key)}] must be text in UTF-8, or a shorter number, got {quote(value)}"
        ) from None
    return text
