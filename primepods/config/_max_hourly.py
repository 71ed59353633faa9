"""The limit on the price per hour of all pods, from ``PRIMEPODS_MAX_HOURLY``."""

from __future__ import annotations

import math
import re
from typing import Final

from .._utils.text import quote
from ..errors import ConfigError
from ._environment import MAX_HOURLY, environment_variable
from ._files import Found

_AMOUNT: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def max_hourly() -> float | None:
    """Return the limit on the price per hour of all pods; ``None`` for no limit.

    Each order reads the limit anew. An unreadable limit stops orders, but no deletions.

    Raises:
        ConfigError: The limit is not a number of at least 0.
    """
    found = find_max_hourly()
    if found is None:
        return None
    # `float` also accepts 5_0, nan, and digits of other scripts.
    amount = float(found.value) if _AMOUNT.fullmatch(found.value) else math.inf
    if amount == math.inf:
        raise ConfigError(
            f"The limit on dollars per hour ({found.source}) must be a number of at least 0, got "
            f"{quote(found.value)}. Correct or remove it."
        )
    return amount


def find_max_hourly() -> Found | None:
    """Return the limit as text, with its source; ``None`` if there is none."""
    [name] = MAX_HOURLY
    value = environment_variable(name)
    # A blank variable is an error, since it may be one that was not replaced by the limit.
    return None if value is None else Found(value.strip(), f"environment variable {name}")
