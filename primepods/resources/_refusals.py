"""Refused orders: their error classes, and whether an error shows that the order was refused."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from .. import errors
from .._http.remedies import ADD_FUNDS
from .._utils.exceptions import copy_exception

# Imagined: a gateway sends the order twice (409), or gives up on it (499), and the API has carried it out.
_AMBIGUOUS_REFUSALS: Final = frozenset({HTTPStatus.CONFLICT, 499})
# A gateway that sends an order twice gets a rejection of the key both times, so nothing was created.
KEY_REJECTIONS: Final = (errors.AuthenticationError, errors.PermissionDeniedError)

_LOOK_AGAIN: Final = "See `availability.find()` for the current offers"
# Patterns of refusal texts, with error classes and remedies; the first match counts. No text is documented.
# "Missing field: max_price not specified" (400) was reported, and that sold-out offers get a 400 or 500. The
# other patterns were guessed.
_KINDS: Final[tuple[tuple[re.Pattern[str], type[errors.APIError], str], ...]] = (
    (
        re.compile(r"max_?price.*(not specified|required|missing)|missing.*max_?price", re.IGNORECASE),
        errors.BadRequestError,
        "This offer requires a maximum price: set `PodSpec.max_price`.",
    ),
    (
        re.compile(r"(insufficient|not enough|no) (funds|balance|credits?)|balance.*too low", re.IGNORECASE),
        errors.PaymentRequiredError,
        ADD_FUNDS,
    ),
    (
        re.compile(
            r"price.*(above|exceed|higher|risen|too high)|(above|exceeds?|over) .*price", re.IGNORECASE
        ),
        errors.PriceTooHighError,
        f"The price is above `PodSpec.max_price`. {_LOOK_AGAIN}, and choose another or raise `max_price`.",
    ),
    (
        re.compile(
            r"sold[ -]?out|out of (stock|capacity)|no (longer|more) available|(no|not enough|insufficient) "
            r"(\w+ )?(capacity|stock|gpus?|machines?|instances?|resources)|(offer|gpus?|machine|instance|"
            r"configuration|resource)s? (is|are)? ?(not available|unavailable)",
            re.IGNORECASE,
        ),
        errors.SoldOutError,
        f"{_LOOK_AGAIN}, and choose another one.",
    ),
)
# Remedies of refusals that match no pattern, by error class.
_REMEDIES: Final[dict[type[errors.APIError], str]] = {
    errors.NotFoundError: f"Check the base URL. {_LOOK_AGAIN}.",
    errors.ConflictError: f"{_LOOK_AGAIN}, and check with `pods.list()` whether the pod exists.",
}
# Classes that do not say why an order was refused; the text may say it.
_VAGUE_ERRORS: Final = (
    errors.BadRequestError,
    errors.NotFoundError,
    errors.ConflictError,
    errors.ServerError,
)


def is_definitive_rejection(error: errors.PrimePodsError) -> bool:
    """Return whether an error shows that the order was refused or not received.

    A pod or disk can then exist only if a gateway has sent the order twice; see :meth:`OrderSender.send`.
    """
    if isinstance(error, errors.TransportError):
        return not error.maybe_received
    if not isinstance(error, errors.APIError) or error.maybe_acted:
        return False
    if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    if error.status_code in _AMBIGUOUS_REFUSALS:
        return False
    is_refusal = HTTPStatus.BAD_REQUEST <= error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    # A body that is not a JSON object may be a gateway's, and does not show what the API did.
    return is_refusal and not error.transient and isinstance(error.body, dict)


def reclassify_refusal(error: errors.PrimePodsError) -> errors.PrimePodsError:
    """Return the error of an order, with the class and the remedy for its text, or a remedy for its class."""
    if not isinstance(error, _VAGUE_ERRORS):
        return error
    by_text = ((kind, remedy) for words, kind, remedy in _KINDS if words.search(error.message))
    kind, remedy = next(by_text, (type(error), _REMEDIES.get(type(error))))
    if remedy is None:
        return error
    # Do not call `__init__`: copy all attributes and notes of the error.
    explained = kind.__new__(
        kind, f"{error.method} {error.path}: {error.status_code}: {error.message} {remedy}"
    )
    vars(explained).update(vars(copy_exception(error)))
    explained.__cause__ = error.__cause__
    return explained
