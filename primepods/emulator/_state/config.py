"""Settings of an emulator, and checks of numbers."""

from __future__ import annotations

import math
from typing import Any

import attrs


def check_amount(name: str, value: float) -> None:
    """Raise ``ValueError`` unless the value is a finite number of at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be zero or more, and finite, not {value!r}")


def validate_amount(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    del instance
    check_amount(attribute.name, value)


def validate_share(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    del instance
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be from 0 to 1, not {value!r}")


@attrs.frozen(kw_only=True)
class EmulatorConfig:
    """Settings of an emulator; see ``Emulator`` for their meaning."""

    seed: int
    boot_seconds: float = attrs.field(validator=validate_amount)
    delete_seconds: float = attrs.field(validator=validate_amount)
    appear_seconds: float = attrs.field(validator=validate_amount)
    failure_rate: float = attrs.field(validator=validate_share)
    flaky_rate: float = attrs.field(validator=validate_share)
    cluster_rate: float = attrs.field(validator=validate_share)
    spot_rate: float = attrs.field(validator=validate_share)
    spot_seconds: float = attrs.field(validator=validate_amount)
    stock: int | None = attrs.field(validator=attrs.validators.optional(validate_amount))
    max_page_size: int = attrs.field(validator=validate_amount)
