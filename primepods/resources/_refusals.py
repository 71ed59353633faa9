"""Refused orders: error classes and remedies by the text of the refusal."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from ..errors import (
    APIError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PaymentRequiredError,
    PriceTooHighError,
    PrimePodsError,
    SoldOutError,
)

_LOOK_AGAIN: Final = "Look at what `client.availability` offers now"
_KINDS: Final[tuple[tuple[re.Pattern[str], type[APIError], str], ...]] = (
    (
        re.compile(r"max_?price.*(not specified|required|missing)|missing.*max_?price", re.IGNORECASE),
        BadRequestError,
        "This offer requires a maximum price: set `PodSpec.max_price`.",
    ),
    (
        re.compile(r"(insufficient|not enough|no) (funds|balance|credits?)|balance.*too low", re.IGNORECASE),
        PaymentRequiredError,
        "Add funds to the wallet.",
    ),
    (
        re.compile(
            r"price.*(above|exceed|higher|risen|too high)|(above|exceeds?|over) .*price", re.IGNORECASE
        ),
        PriceTooHighError,
        f"The price has risen above `PodSpec.max_price`. {_LOOK_AGAIN}, and raise it or take another offer.",
    ),
    (
        re.compile(
            r"sold[ -]?out|out of (stock|capacity)|no (longer|more) available|(no|not enough|insufficient) "
            r"(\w+ )?(capacity|stock|gpus?|machines?|instances?|resources)|(offer|gpus?|machine|instance|"
            r"configuration|resource)s? (is|are)? ?(not available|unavailable)",
            re.IGNORECASE,
        ),
        SoldOutError,
        f"{_LOOK_AGAIN}, or take `availability.cheapest()`.",
    ),
)
"""Texts of refusals, their error classes and remedies; the first match counts."""
_BY_STATUS: Final[dict[int, tuple[type[APIError], str]]] = {
    HTTPStatus.NOT_FOUND: (NotFoundError, f"Check the base URL. {_LOOK_AGAIN}."),
    HTTPStatus.CONFLICT: (
        ConflictError,
        f"{_LOOK_AGAIN}, and check with `pods.list()` whether the pod exists.",
    ),
}
_AMBIGUOUS: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})
"""Statuses whose refusals are classified by their text, as are all 5xx."""


def reclassify_refusal(error: PrimePodsError) -> PrimePodsError:
    """Return a refusal as the error class that its text means, with its remedy; any other error unchanged."""
    if not isinstance(error, APIError):
        return error
    if error.status_code not in _AMBIGUOUS and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return error
    for words, kind, remedy in _KINDS:
        if words.search(error.message):
            return _reclassify(error, kind, remedy)
    if error.status_code in _BY_STATUS:
        return _reclassify(error, *_BY_STATUS[error.status_code])
    return error


def _reclassify(error: APIError, kind: type[APIError], remedy: str) -> APIError:
    explained = kind(
        f"{error.method} {error.path}: {error.status_code}: {error.message} {remedy}",
        status_code=error.status_code,
        method=error.method,
        path=error.path,
        message=error.message,
        body=error.body,
        headers=error.headers,
        retry_after=error.retry_after,
        transient=error.transient,
    )
    explained.attempts = error.attempts
    return explained
