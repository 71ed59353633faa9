"""The limit on the price per hour of all pods, from ``PRIMEPODS_MAX_HOURLY`` or the settings file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from .._utils.files import read_path
from .._utils.strict_json import is_object
from .._utils.text import quote
from ..errors import ConfigError
from ._environment import MAX_HOURLY, environment_variable
from ._files import Found

_AMOUNT: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def max_hourly() -> float | None:
    """Return the limit on the price per hour of all pods; ``None`` for no limit.

    Each order reads the limit anew. An unreadable limit stops orders, but no deletions.

    Raises:
        ConfigError: The limit is not a number of at least 0, or its file cannot be used.
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
    return _read_file() if value is None else Found(value.strip(), f"environment variable {name}")


def _read_file() -> Found | None:
    """Return ``max_hourly`` of ``[limits]`` in the settings file of primepods.

    Raises:
        ConfigError: The file cannot be read, or has an unknown field, which may be a typo for the limit.
    """
    try:
        path = Path.home() / ".primepods" / "settings.toml"
    except RuntimeError:  # no home directory, so no file
        return None
    try:
        text = read_path(path).decode()
        import tomllib  # noqa: PLC0415 - all programs import this module, but few users have the file

        fields = tomllib.loads(text)
    except (OSError, ValueError) as exc:
        is_missing = isinstance(exc, FileNotFoundError | NotADirectoryError)
        # A link whose target is gone may have led to a limit.
        if is_missing and not (path.is_symlink() or path.parent.is_symlink()):
            return None
        raise ConfigError(f"{path} cannot be used: {exc}. Correct or remove it.") from None
    limits = fields.pop("limits", {})
    in_limits = limits.keys() - {"max_hourly"} if is_object(limits) else {f"limits = {quote(limits)}"}
    if unknown := [*fields, *in_limits]:
        raise ConfigError(
            f"{path} cannot be used: it may have only max_hourly in the table [limits], not {unknown[0]!r}."
        )
    value = limits.get("max_hourly")
    return None if value is None else Found(str(value), f"field max_hourly of {path}")
