"""Failover of a lease: after which errors the next spec is tried."""

from __future__ import annotations

from typing import Final

from ..errors import (
    ConnectionLostError,
    CreateUncertainError,
    LoginError,
    PodFailedError,
    PriceTooHighError,
    PrimePodsError,
    SoldOutError,
    WaitTimeoutError,
)

_NEXT_SPEC_ERRORS: Final = (
    SoldOutError,
    PriceTooHighError,
    PodFailedError,
    WaitTimeoutError,
    LoginError,
    ConnectionLostError,
    # The pod of an uncertain order has a unique name of the lease's, which deletes it if it appears later.
    CreateUncertainError,
)
_MAX_KEY_REFUSALS: Final = 2
"""Number of pods that refuse the user's keys, after which no more are ordered: they would refuse, too."""


def tries_next_spec(errors: list[PrimePodsError]) -> bool:
    """Return whether the next spec is tried after these errors of the earlier ones."""
    refusals = [error for error in errors if isinstance(error, LoginError) and error.is_key_refused]
    return isinstance(errors[-1], _NEXT_SPEC_ERRORS) and len(refusals) < _MAX_KEY_REFUSALS
